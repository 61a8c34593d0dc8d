"""The shapes in the header of a safetensors file cannot state more than the file has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from einthoven.errors import UserError
from einthoven.safetensors_file import safetensors_shapes


def read(file: Path) -> dict[str, tuple[int, ...]]:
    with file.open("rb") as opened:
        return safetensors_shapes(opened, str(file))


def test_shapes_are_those_of_the_tensors(tmp_path: Path) -> None:
    tensors = {
        "a": torch.zeros(2, 3),
        "b": torch.zeros((), dtype=torch.float16),
        "c": torch.zeros(0, 4),
        "d": torch.zeros(5, dtype=torch.bool),
    }
    safetensors.torch.save_file(tensors, tmp_path / "f", metadata={"x": "y"})
    assert read(tmp_path / "f") == {name: tuple(value.shape) for name, value in tensors.items()}


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]},
        {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1, -10], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": "1", "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0]},
        {"dtype": "F32", "shape": [1]},
        [],
    ],
)
def test_a_header_that_states_more_than_the_file_has_is_refused(tmp_path: Path, entry: Any) -> None:
    header = json.dumps({"w": entry}).encode()
    (tmp_path / "f").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(UserError, match="is damaged"):
        read(tmp_path / "f")


def test_tensors_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [100], "data_offsets": [0, 400]}
    header = json.dumps({f"w{number}": entry for number in range(100)}).encode()
    (tmp_path / "f").write_bytes(len(header).to_bytes(8, "little") + header + bytes(400))
    with pytest.raises(UserError, match="do not fit into the file together"):
        read(tmp_path / "f")
