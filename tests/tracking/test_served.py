"""Exported programs: a file that could run code is refused before torch reads it, and bad input gets status 400."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import invocations
from torch import Tensor, nn
from torch.export.pt2_archive import constants

from einthoven.errors import UserError
from einthoven.predict.export import load_program, write_program
from einthoven.tracking.models import export
from einthoven.tracking.served import _is_expression, _load_pyfunc

LEADS = ("I", "II", "V1")
Records = dict[str, bytes]


class Small(nn.Module):
    """A network with a size that depends on the number of records."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, signal: Tensor) -> Tensor:
        windows = torch.stack([signal[..., :5], signal[..., 5:]], dim=1).flatten(0, 1)
        return self.linear(windows.mean(dim=2)).view(-1, 2, 2).mean(dim=1).sigmoid()


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an exported network."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("program") / "model.pt2"
    write_program(Small(), 3, 10, file, {"unit": "mV"})
    return file


def records_of(file: Path) -> Records:
    with zipfile.ZipFile(file) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def written(records: Records, file: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(f"model/{name}", content)
    return file


def test_a_program_holds_numbers_and_a_graph_and_no_path_of_a_file(program: Path) -> None:
    records = records_of(program)
    assert records["data/sample_inputs/model.pt"] == b""
    assert set(records) == {
        "models/model.json", "data/sample_inputs/model.pt", "extra/einthoven.json", "archive_format", "archive_version",
        "byteorder", ".data/version", ".data/serialization_id", "data/weights/weight_0", "data/weights/weight_1",
        "data/weights/model_weights_config.json", "data/constants/model_constants_config.json",
    }  # fmt: skip
    model = records["models/model.json"].decode()
    assert "/" not in model and "Small" not in model  # a stack trace has both
    assert json.loads(records["extra/einthoven.json"]) == {"unit": "mV"}
    x = torch.randn(3, 3, 10)
    torch.manual_seed(0)
    network = Small()
    for loaded in (load_program(program), torch.export.load(program).module()):
        torch.testing.assert_close(loaded(x), network(x))


class Payload:
    """What leaves a file behind when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def edited(name: str, change: Callable[[Any], object]) -> Callable[[Records, Path], None]:
    """Change a JSON document of the archive."""

    def change_record(records: Records, marker: Path) -> None:
        document = json.loads(records[name])
        change(document)
        records[name] = json.dumps(document).encode()

    return change_record


def first_expression(model: Any, marker: Path) -> None:
    """Give the first size that depends on the number of records another expression, which is Python code."""
    for value in walked(model):
        if isinstance(value, dict) and "expr_str" in value:
            value["expr_str"] = f"__import__('pathlib').Path({str(marker)!r}).touch() or Integer(4)"
            return
    raise AssertionError("no expression")


def walked(node: Any) -> Any:
    yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walked(child)


def with_pickled_example(records: Records, marker: Path) -> None:
    records["data/sample_inputs/model.pt"] = saved(((Payload(marker),), {}))


def with_pickled_weight(records: Records, marker: Path) -> None:
    edited("data/weights/model_weights_config.json", lambda d: d["config"]["linear.bias"].update(use_pickle=True))(
        records, marker
    )
    records["data/weights/weight_1"] = saved(Payload(marker))


def with_opaque_constant(records: Records, marker: Path) -> None:
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    edited("data/constants/model_constants_config.json", lambda d: d["config"].update(x=entry))(records, marker)
    records["data/constants/opaque_obj_0"] = pickle.dumps(Payload(marker))


def with_expression(records: Records, marker: Path) -> None:
    edited("models/model.json", lambda model: first_expression(model, marker))(records, marker)


RUNNING = [with_pickled_example, with_pickled_weight, with_opaque_constant, with_expression]


@pytest.mark.parametrize("change", RUNNING)
def test_what_torch_would_run_is_not_run(program: Path, tmp_path: Path, change: Callable[..., None]) -> None:
    marker, records = tmp_path / "marker", records_of(program)
    change(records, marker)
    file = written(records, tmp_path / "model.pt2")
    with pytest.raises(UserError, match=r"^model\.pt2: refused before it was loaded") as refusal:
        load_program(file)
    assert not marker.exists() and str(refusal.value).isprintable()
    with contextlib.suppress(Exception):  # torch itself runs it: the file is as hostile as it claims
        torch.export.load(file)
    # torch 2.9 does not know opaque constants
    known_to_torch = change is not with_opaque_constant or hasattr(constants, "OPAQUE_OBJ_FILENAME_PREFIX")
    assert marker.exists() == known_to_torch


def node(model: Any, number: int = 0) -> Any:
    return model["graph_module"]["graph"]["nodes"][number]


MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"


@pytest.mark.parametrize(
    "change",
    [
        edited(MODEL, lambda m: node(m).update(target="torch.serialization.os.system")),
        edited(MODEL, lambda m: node(m).update(target="torch.ops.load_library")),
        edited(MODEL, lambda m: node(m).update(target="torch.ops.aten.from_file.default")),
        edited(MODEL, lambda m: node(m).update(target="torch.ops.aten.__class__.mro")),
        edited(MODEL, lambda m: node(m).update(target="torch.ops.prims.zeta.default")),
        edited(MODEL, lambda m: node(m).update(target="_operator.methodcaller")),
        edited(MODEL, lambda m: node(m).update(target="#extension:os:system")),
        edited(MODEL, lambda m: node(m)["outputs"][0].update(as_tensor={"name": "x = __import__('os')"})),
        edited(MODEL, lambda m: node(m)["outputs"][0].update(as_tensor={"name": "a\nimport os"})),
        edited(MODEL, lambda m: node(m)["metadata"].update(stack_trace="File: a\nimport os")),
        edited(MODEL, lambda m: m.update(guards_code=["os.system('true')"])),
        edited(MODEL, lambda m: m["range_constraints"].update({"s0; import os": {"min_val": 0, "max_val": None}})),
        edited(MODEL, lambda m: m["graph_module"]["signature"]["input_specs"][0]["parameter"].update(
            parameter_name="linear.weight(exec('1'))")),
        edited(MODEL, lambda m: m["graph_module"]["module_call_graph"][0]["signature"].update(
            in_spec='[1, {"type": "os.system", "context": "null", "children_spec": []}]')),
        edited(WEIGHTS, lambda d: d["config"]["linear.bias"].update(path_name="../../../../etc/passwd")),
        edited(WEIGHTS, lambda d: d["config"]["linear.bias"].update(use_pickle=None)),
        edited(WEIGHTS, lambda d: d["config"]["linear.bias"]["tensor_meta"].update(sizes=[{"as_int": 10**12}])),
        edited(WEIGHTS, lambda d: d["config"]["linear.bias"]["tensor_meta"].update(sizes=[{"as_int": -1}])),
        lambda records, marker: records.update({"data/aotinductor/model/a.so": b"\x7fELF"}),
        lambda records, marker: records.update({"data/weights/model.pt": saved(Payload(marker))}),
        lambda records, marker: records.update({"data/constants/custom_obj_0": b"PK"}),
        lambda records, marker: records.update({"models/other.json": b"{}"}),
        lambda records, marker: records.update({"serialized_state_dict.pt": saved(Payload(marker)), "version": b"8.1"}),
        lambda records, marker: records.update({MODEL: b"[" * 200_000}),
        lambda records, marker: records.update({MODEL: b'{"a": ' * 99 + b"1"}),
        lambda records, marker: records.pop(WEIGHTS),
        lambda records, marker: records.clear(),
    ],
)  # fmt: skip
def test_whatever_is_no_graph_of_tensor_operations_is_refused(
    program: Path, tmp_path: Path, change: Callable[[Records, Path], object]
) -> None:
    marker, records = tmp_path / "marker", records_of(program)
    change(records, marker)
    with pytest.raises(UserError, match=r"^model\.pt2: ") as refusal:
        load_program(written(records, tmp_path / "model.pt2"))
    assert str(refusal.value).isprintable() and len(str(refusal.value)) < 500 and not marker.exists()


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s0').__class__", "().__class__.__base__", "lambda: 0", "[x for x in (1,)]", "s0 if s0 else s1",
        "open('a')", "Symbol('os')", "exec", "Pow(9, 9)", "9**9**9", "1.5", "f'{s0}'", "Mul(*s0)", "(", "Symbol(b's0')",
        "x := 1",
    ],
)  # fmt: skip
def test_expressions_are_arithmetic_with_sizes_alone(text: str) -> None:
    with contextlib.suppress(SyntaxError):
        assert not _is_expression(text)
    assert _is_expression("Mul(Integer(4), Symbol('s38', positive=True, integer=True))") and _is_expression("2*s0 - 1")


def test_archives_that_are_no_plain_archives_are_refused(program: Path, tmp_path: Path) -> None:
    records, file = records_of(program), tmp_path / "model.pt2"
    bomb = {**records, "data/weights/weight_7": bytes(50_000_000)}
    assert written(bomb, file, zipfile.ZIP_DEFLATED).stat().st_size < 200_000
    with pytest.raises(UserError, match=r"larger than the file|compressed"):
        load_program(file)
    with zipfile.ZipFile(written(records, file), "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("model/byteorder", b"little")
    with pytest.raises(UserError, match="there twice"):
        load_program(file)
    for content in (b"", b"PK\x03\x04", pickle.dumps(Payload(tmp_path / "marker")), struct.pack("<Q", 2**63)):
        file.write_bytes(content)
        with pytest.raises(UserError, match="refused before it was loaded"):
            load_program(file)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(UserError, match="no file"):
        load_program(file)
    with pytest.raises(UserError, match="No such file"):
        load_program(tmp_path / "nowhere.pt2")
    assert not (tmp_path / "marker").exists()


def test_a_flipped_bit_in_the_numbers_or_the_graph_is_noticed(program: Path, tmp_path: Path) -> None:
    whole, file = program.read_bytes(), tmp_path / "model.pt2"
    with zipfile.ZipFile(program) as archive:
        infos = archive.infolist()
    # The fixed part of a header ends with the length of a padding; the name, the padding and the content follow.
    padding = [int.from_bytes(whole[info.header_offset + 28 :][:2], "little") for info in infos]
    parts = [
        (info.header_offset + 30 + len(info.filename) + extra, info.file_size)
        for info, extra in zip(infos, padding, strict=True)
    ]
    generator = np.random.default_rng(0)
    for start, size in parts:
        for byte in generator.integers(start, start + size, 8) if size else ():
            changed = bytearray(whole)
            changed[byte] ^= 1 << int(generator.integers(8))
            file.write_bytes(changed)
            with pytest.raises(UserError):
                load_program(file)


@pytest.fixture(scope="session")
def model(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model as a run logs it."""
    folder = tmp_path_factory.mktemp("logged") / "model"
    export(program, 10, ("a", "b"), LEADS, 100.0, folder)
    return folder


def values(change: Callable[[Any], object] = lambda x: None) -> dict[str, Any]:
    signal: Any = np.zeros((2, 3, 10)).tolist()
    change(signal)
    return {"inputs": signal}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (values(lambda x: x[1][2].__setitem__(7, float("nan"))), "record 1, lead 2, sample 7 is nan"),
        (values(lambda x: x[0][1].__setitem__(0, float("-inf"))), "record 0, lead 1, sample 0 is -inf"),
        (values(lambda x: x[0][1].__setitem__(0, 1e300)), "is inf; expected finite numbers, in mV"),
        (values(lambda x: x[0][1].__setitem__(0, None)), "is nan"),
        (values(lambda x: x[0].pop()), "Invalid input|inhomogeneous"),
        (values(lambda x: [lead.pop() for record in x for lead in record]), r"\(2, 3, 9\) does not match"),
        (values(lambda x: x.clear()), "input"),
        (values(lambda x: x[0][0].__setitem__(0, "a")), "could not convert"),
        ({"inputs": "text"}, "Failed to convert data"),
        ({"inputs": 3}, "input"),
        ({"dataframe_split": {"columns": ["a"], "data": [[1.0]]}}, "shape"),
    ],
)
def test_a_served_model_answers_bad_input_with_400_and_a_sentence(
    model: Path, body: dict[str, Any], expected: str
) -> None:
    served = mlflow.pyfunc.load_model(str(model))
    schema = served.metadata.get_input_schema()
    assert invocations(json.dumps(values()), "application/json", served, schema).status == 200
    with pytest.raises(MlflowException, match=expected) as refusal:
        invocations(json.dumps(body), "application/json", served, schema)
    assert refusal.value.get_http_status_code() == 400


@pytest.mark.parametrize(
    "data", [np.zeros((0, 3, 10)), np.zeros((3, 10)), np.full((1, 3, 10), "a"), np.zeros((1, 3, 10), complex), [[1.0]]]
)
def test_the_loader_itself_refuses_what_the_network_cannot_read(model: Path, data: Any) -> None:
    with pytest.raises(MlflowException, match=r"expected records in mV, float32 \(n, 3, 10\)"):
        _load_pyfunc(str(model / "data" / "data")).predict(data)


def test_a_logged_model_has_no_pickle_and_no_record_of_a_patient(model: Path) -> None:
    # A test that has loaded the model before leaves compiled code beside it.
    files = [path for path in model.rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
    assert {path.suffix for path in files} <= {"", ".json", ".pt2", ".py", ".txt", ".yaml"}
    example = json.loads((model / "input_example.json").read_text())
    assert not np.array(example).any() and np.shape(example) == (1, 3, 10)
    assert "loader_module: einthoven_served" in (model / "MLmodel").read_text()
