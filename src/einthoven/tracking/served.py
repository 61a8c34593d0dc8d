"""Load exported programs (``.pt2``) without running code of their file. MLflow serves models with this module.

``torch.export.load`` runs code of the file in several ways: it unpickles parts, loads compiled libraries, calls any
function that the graph names, evaluates expressions, and compiles names into Python source. `load` accepts none of
these. A program must be a graph of torch's own tensor operations, and raw numbers. This package exports such programs.

A run copies this file into the model that it logs. So the file imports nothing of the package.
"""

from __future__ import annotations

import ast
import io
import json
import keyword
import math
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

PROGRAM_LIMIT = 1 << 32
"""Largest size of a program in bytes."""

NESTING_LIMIT = 100
"""JSON may be nested this deep."""

# The parts of the archive: those with a fixed content, the graph, the lists of tensors, texts, numbers and notes.
_FIXED = {"archive_format": b"pt2", "byteorder": b"little", "data/sample_inputs/model.pt": b""}
_MODEL = "models/model.json"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_TEXTS = ("archive_version", ".data/version", ".data/serialization_id", "version")
_NUMBERS = re.compile(r"data/(weights/weight|constants/tensor)_[0-9]+")
_NOTES = re.compile(r"(data/)?extra/[A-Za-z0-9_.-]+\.json")

# What the graph may call: tensor operations of torch, changes of its settings, and arithmetic of sizes.
_OPERATION = re.compile(r"torch\.ops\.aten\.((?!__)[a-z0-9_]+)\.((?!__)[A-Za-z0-9_]+)")
_OTHER_OPERATIONS = {
    "torch.ops.higher_order.wrap_with_autocast",
    "torch.ops.higher_order.wrap_with_set_grad_enabled",
    *(f"_operator.{name}" for name in ("add", "sub", "mul", "floordiv", "mod", "neg", "getitem")),
    *(f"_operator.{name}" for name in ("eq", "ne", "lt", "le", "gt", "ge", "truediv")),
}

# What an expression of sizes may contain.
_SYMBOL = re.compile(r"[su][0-9]{1,9}")
_FUNCTIONS = {"Add", "FloorDiv", "Integer", "Max", "Min", "Mod", "Mul", "PythonMod", "Symbol"}
_EXPRESSION = (
    *(ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.BinOp, ast.UnaryOp),
    *(ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.USub),
)
_EXPRESSION_LIMIT = 10_000  # characters

# What all other texts may contain.
_TYPES = (None, "builtins.tuple", "builtins.list", "builtins.dict")
_PLAIN = re.compile(r"[A-Za-z0-9_.]*")
_VALUE = re.compile(r"[A-Za-z0-9_.+-]*")


def load(path: Path) -> torch.nn.Module:
    """Load an exported program, mV ``(n, leads, samples)`` to probabilities or quantities ``(n, K)``.

    Raises a `ValueError` if the file is damaged, or has a part that a program of this package does not have.
    """
    try:
        records = _records(path)
        _check_parts(records)
    except (AttributeError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError, TypeError) as error:
        raise ValueError(f"{path.name}: refused before it was loaded: {_one_line(error)}.") from None
    except (ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path.name}: refused before it was loaded: {_one_line(error)}.") from None

    # Two readers can understand one archive differently. So torch reads the checked parts and not the file.
    checked = io.BytesIO()
    with zipfile.ZipFile(checked, "w") as archive:
        for record, content in records.items():
            archive.writestr(f"program/{record}", content)
    checked.seek(0)
    try:
        program: torch.nn.Module = torch.export.load(checked).module()
    except Exception as error:
        raise ValueError(
            f"{path.name}: torch {torch.__version__} cannot load this program ({_one_line(error)})."
        ) from error
    return program


def _records(path: Path) -> dict[str, bytes]:
    """Read the parts of the archive by name. Each part is compared with its checksum."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > PROGRAM_LIMIT:
        raise ValueError(f"no file, or more than {PROGRAM_LIMIT:,} bytes")
    records: dict[str, bytes] = {}
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if sum(info.file_size for info in infos) > status.st_size:
            raise ValueError("its parts are larger than the file")
        for info in infos:
            root, _, record = info.filename.partition("/")
            if info.compress_type != zipfile.ZIP_STORED or record in records:
                raise ValueError(f"the part {record[:80]!r} is compressed, or there twice")
            if root != infos[0].filename.partition("/")[0]:
                raise ValueError("its parts are in several folders")
            records[record] = archive.read(info)
    return records


def _check_parts(records: Mapping[str, bytes]) -> None:
    """Refuse every part that is not a graph of tensor operations, a tensor of raw numbers, or a note."""
    for record, content in records.items():
        if record in _FIXED:
            is_harmless = content == _FIXED[record]
        elif record in _TEXTS:
            is_harmless = re.fullmatch(rb"[0-9.]*\n?", content) is not None
        elif record == _MODEL or record in _CONFIGS or _NOTES.fullmatch(record):
            is_harmless = isinstance(_json(content), dict)
        else:
            is_harmless = _NUMBERS.fullmatch(record) is not None
        if not is_harmless:
            raise ValueError(f"the part {record[:80]!r} could run code; expected numbers and a graph alone")

    for config in _CONFIGS:
        folder = config.rpartition("/")[0]
        for entry in _json(records[config])["config"].values():
            _check_tensor(entry, records.get(f"{folder}/{entry['path_name']}"))

    model = _json(records[_MODEL])
    if model.get("guards_code"):
        raise ValueError("it has guards, which are Python code")
    for key, value in _leaves(model):
        _check_leaf(key, value)


def _check_tensor(entry: Mapping[str, Any], content: bytes | None) -> None:
    """Refuse a tensor that is pickled, or that claims to be larger than its numbers in the archive."""
    if entry["use_pickle"] is not False or content is None:
        raise ValueError("a tensor that is pickled, or missing")
    sizes = [size["as_int"] for size in entry["tensor_meta"]["sizes"]]
    if not all(type(size) is int and size >= 0 for size in sizes) or math.prod(sizes) > len(content):
        raise ValueError(f"a tensor of the shape {str(sizes)[:80]} in {len(content)} bytes")


def _leaves(root: object) -> Iterator[tuple[str, object]]:
    """Yield every value of a JSON document with its key. Every key is also a value, with the key ``""``."""
    waiting: list[tuple[str, object]] = [("", root)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            yield from (("", name) for name in value)
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [(key, item) for item in value]
        else:
            yield key, value


def _check_leaf(key: str, value: object) -> None:
    """Refuse a text of the graph that could run code."""
    if not isinstance(value, str):
        return
    if key == "target":
        is_harmless = value in _OTHER_OPERATIONS or _is_operation(value)
    elif key == "expr_str":
        is_harmless = _is_expression(value)
    elif key in ("in_spec", "out_spec"):
        is_harmless = _is_spec(json.loads(value))
    elif key in ("name", "as_name"):
        is_harmless = value == "" or (value.isascii() and value.isidentifier() and not keyword.iskeyword(value))
    elif key in ("as_string", "torch_version"):
        is_harmless = _VALUE.fullmatch(value) is not None
    else:
        is_harmless = _PLAIN.fullmatch(value) is not None
    if not is_harmless:
        raise ValueError(f"{key or 'a name'} is {value[:80]!r}, which could run code")


def _is_operation(target: str) -> bool:
    """Return whether a name is that of a tensor operation. Operations that open files are refused."""
    match = _OPERATION.fullmatch(target)
    if match is None:
        return False
    operation = getattr(getattr(torch.ops.aten, match[1], None), match[2], None)
    if not isinstance(operation, torch._ops.OpOverload):
        return False
    return all(argument.name != "filename" for argument in operation._schema.arguments)


def _is_expression(text: str) -> bool:
    """Return whether a text is arithmetic with sizes, such as ``Mul(Integer(4), Symbol('s0', positive=True))``."""
    if len(text) > _EXPRESSION_LIMIT:
        return False
    for node in ast.walk(ast.parse(text, mode="eval")):
        if not isinstance(node, _EXPRESSION):
            return False
        if isinstance(node, ast.Name) and not (node.id in _FUNCTIONS or _SYMBOL.fullmatch(node.id)):
            return False
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not _SYMBOL.fullmatch(node.value):
            return False
        if isinstance(node, ast.Constant) and not isinstance(node.value, str | int):
            return False
        if isinstance(node, ast.Call) and not isinstance(node.func, ast.Name):
            return False
    return True


def _is_spec(spec: object) -> bool:
    """Return whether a document describes nested tuples, lists and dicts with plain keys."""
    waiting = [spec]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            context = json.loads(node.get("context") or "null")
            has_plain_keys = context is None or all(isinstance(key, str) and key.isidentifier() for key in context)
            if node.get("type") not in _TYPES or not has_plain_keys or set(node) - {"type", "context", "children_spec"}:
                return False
            waiting.append(node.get("children_spec", []))
        elif type(node) is not int:
            return False
    return True


def _json(content: bytes) -> Any:
    """Parse JSON that is not nested too deep."""
    depth = 0
    for bracket in re.finditer(rb"[\[\]{}]", content):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > NESTING_LIMIT:
            raise ValueError(f"JSON that is nested more than {NESTING_LIMIT} deep")
    return json.loads(content)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__


class _Served:
    """A program as MLflow serves it. Input that the model cannot read gets the status 400 and a sentence.

    Parameters
    ----------
    leads, samples : int
        Shape of a record.
    """

    def __init__(self, program: torch.nn.Module, leads: int, samples: int) -> None:
        self.program = program
        self.leads = leads
        self.samples = samples

    def predict(self, data: object, params: Mapping[str, Any] | None = None) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return the predictions ``(n, K)`` of records in mV, ``(n, leads, samples)``."""
        signal = self._check(data)
        with torch.inference_mode():
            predictions: np.ndarray[Any, np.dtype[np.float32]] = self.program(torch.from_numpy(signal)).numpy()
        if not np.isfinite(predictions).all():
            raise _refusal("the model answers these records with values that are not finite.")
        return predictions

    def _check(self, data: object) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return the records as float32, or refuse them."""
        expected = f"expected records in mV, float32 (n, {self.leads}, {self.samples})"
        if not isinstance(data, np.ndarray) or data.dtype.kind not in "fiu":
            raise _refusal(f"{getattr(data, 'dtype', type(data).__name__)} found; {expected}.")
        if data.ndim != 3 or data.shape[1:] != (self.leads, self.samples) or len(data) == 0:
            raise _refusal(f"an array of the shape {data.shape} found; {expected}, one record or more.")
        signal = np.ascontiguousarray(data, dtype=np.float32)
        if not np.isfinite(signal).all():
            record, lead, sample = np.argwhere(~np.isfinite(signal))[0].tolist()
            raise _refusal(
                f"record {record}, lead {lead}, sample {sample} is {signal[record, lead, sample]}; expected finite "
                "numbers, in mV."
            )
        return signal


def _refusal(sentence: str) -> Exception:
    """Return the exception for which MLflow answers with status 400."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

    return MlflowException(sentence, error_code=INVALID_PARAMETER_VALUE)


def _load_pyfunc(path: str) -> _Served:
    """Load a model. MLflow calls this function with the folder of ``model.pt2`` and ``shape.json``."""
    folder = Path(path)
    shape = json.loads((folder / "shape.json").read_text(encoding="utf-8"))
    return _Served(load(folder / "model.pt2"), int(shape["leads"]), int(shape["samples"]))
