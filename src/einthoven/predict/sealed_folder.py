"""A sealed folder: a description (JSON) and weights (safetensors), with the SHA-256 of both. It contains no code.

A bundle and a delineator are sealed folders. Such a folder can come from a stranger, and a few bytes can ask for
terabytes of memory. So a reader checks the description before it builds the network, and the network before it loads
the weights.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from einthoven.atomic import explain_write, working_folder
from einthoven.errors import UserError
from einthoven.files import BLANK, open_file, read_file, sealed_digest
from einthoven.predict.limits import Shapes
from einthoven.safetensors_file import safetensors_shapes
from einthoven.strict_json import parse_json

FORMAT = 5
"""Number of the format. Format 1 contained a hash of its content, later formats contain a hash of their text. Format 3
lists more of what a model has seen (`einthoven.data.ancestry.LISTS`). A bundle of format 4 may refuse records, and may
compute a missing lead. A bundle of format 5 may have gradient boosting beside its network."""

WEIGHTS = "weights.safetensors"
DESCRIPTION_LIMIT = 1 << 26
"""Largest size of the description in bytes."""
WEIGHTS_LIMIT = 1 << 32
"""Largest size of ``weights.safetensors`` in bytes."""

_SEAL = re.compile(rb'"sha256": "([0-9a-f]{64})"\n}\n\Z')

_ERRORS = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
"""Errors that a damaged description or damaged weights can cause."""


@dataclass(frozen=True)
class SealedFolder:
    """A folder that is being read. Its hashes are right, and its weights are not in memory yet.

    Attributes
    ----------
    description : dict
        The content of the description, without the hash of the folder.
    sha256 : str
        Hash of the folder.
    shapes : mapping of str to tuple of int
        Shapes of the tensors.
    """

    description: dict[str, Any]
    sha256: str
    shapes: Shapes
    _weights: io.BufferedReader

    def load_tensors(self) -> dict[str, Tensor]:
        """Read the tensors."""
        self._weights.seek(0)
        return safetensors.torch.load(self._weights.read())


@contextmanager
def read_sealed_folder(folder: Path, name: str, kind: str) -> Iterator[SealedFolder]:
    """Open a sealed folder, and turn every error that its content causes in the block into one sentence.

    Parameters
    ----------
    folder : Path
    name : str
        File name of the description.
    kind : str
        ``bundle`` or ``delineator``. The description of a bundle does not state its kind.

    Raises
    ------
    UserError
        If the folder is not of this kind, or it is damaged or of a later format.
    """
    try:
        text = read_file(folder / name, DESCRIPTION_LIMIT)
        description = parse_json(text, str(folder / name))
        _check_format(description, kind)
        with open_file(folder / WEIGHTS, WEIGHTS_LIMIT) as file:
            weights_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            sha256 = _check_hashes(text, description, weights_sha256)
            yield SealedFolder(description, sha256, safetensors_shapes(file, str(folder / WEIGHTS)), file)
    except UserError as error:
        message = str(error)
        raise UserError(message if message.startswith(str(folder)) else f"{folder}: {message}") from None
    except _ERRORS as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder}: a damaged {kind} ({type(error).__name__}: {reason}).") from None
    except safetensors.SafetensorError as error:
        raise UserError(f"{folder}: a damaged {kind} ({error}).") from None


def _check_format(description: Any, kind: str) -> None:
    """Refuse a description of another kind, or of a later format."""
    stated_format = description.get("format") if isinstance(description, dict) else description
    if not isinstance(description, dict) or stated_format not in range(1, FORMAT + 1):
        raise UserError(
            f"a {kind} of format {short_repr(stated_format)}; this version reads the formats 1 to {FORMAT}."
        )
    stated_kind = description.get("kind", "bundle")
    if stated_kind != kind:
        raise UserError(f"describes a {short_repr(stated_kind)}; expected a {kind}.")


def _check_hashes(text: bytes, description: dict[str, Any], weights_sha256: str) -> str:
    """Remove the hash of a folder from its description, and return it.

    Raises
    ------
    UserError
        If the content has another hash.
    """
    stated = description.pop("sha256", None)
    if description["format"] == 1:
        # Format 1 contains the hash of the description as Python writes it.
        canonical = json.dumps(description, sort_keys=True, ensure_ascii=False).encode()
        digest = hashlib.sha256(canonical + bytes.fromhex(weights_sha256)).hexdigest()
        is_same_weights = True
    else:
        seal = _SEAL.search(text)
        digest = sealed_digest(io.BytesIO(text), seal.start(1)) if seal else ""
        is_same_weights = description.get("weights_sha256") == weights_sha256
    if stated != digest or not is_same_weights:
        raise UserError("damaged or changed: its content does not have the SHA-256 that it states.")
    return digest


def seal_description(description: Mapping[str, Any], weights: bytes) -> bytes:
    """Return the text of a description file: the description, the hash of the weights, and the hash of the text itself.

    The hash of the text is computed with zeros in its place.
    """
    content = {name: value for name, value in description.items() if name != "sha256"}
    content["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    content["sha256"] = BLANK.decode()
    text = (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    seal = _SEAL.search(text)
    assert seal is not None
    digest = sealed_digest(io.BytesIO(text), seal.start(1)).encode()
    return text[: seal.start(1)] + digest + text[seal.end(1) :]


def replace_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write a folder of files. An existing folder is replaced as a whole.

    Parameters
    ----------
    folder : Path
    contents : mapping of str to bytes
        Name of a file -> its content.
    """
    # If a save was interrupted between its two renames, the previous folder has only its second name.
    folder.parent.mkdir(parents=True, exist_ok=True)
    old = previous_folder(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)

    with working_folder(folder.parent) as partial, explain_write(folder, partial):
        for name, content in contents.items():
            (partial / name).write_bytes(content)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def previous_folder(folder: Path) -> Path:
    """Return the second name of a folder, which it has while `replace_folder` replaces it."""
    return folder.with_name(f".{folder.name}.old")
