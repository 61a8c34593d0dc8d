from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from einthoven.runs.results import plain_files


def png(pixels: int, values: int = 256) -> bytes:
    """A square PNG of noise. With one value, it is black."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, values, (pixels, pixels, 3), np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def test_pictures_of_a_stranger_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = png(10), png(640)
    contents = {
        "a_small": small,
        "large": large,
        "damaged": large[: len(large) // 2],
        "text": b"no picture",
        "empty": b"",
        "many_bytes": large + bytes(1000),
        "many_pixels": png(650, values=1),
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.png").write_bytes(content)
    (tmp_path / "link.png").symlink_to(__file__)
    monkeypatch.setattr(plain_files, "_MOST_PIXELS", 645**2)
    monkeypatch.setattr(plain_files, "_MAX_BYTES", len(large) + 100)
    monkeypatch.setattr(plain_files, "_LARGE_PICTURE", 100_000)
    pictures = plain_files._read_pictures(tmp_path)
    assert set(pictures) == {"a_small", "large"}
    assert pictures["a_small"] == small
    with Image.open(io.BytesIO(pictures["large"])) as half:
        assert half.size == (320, 320)
    # A folder of very many pictures is not read completely.
    monkeypatch.setattr(plain_files, "_MOST_PICTURES", 1)
    assert set(plain_files._read_pictures(tmp_path)) == {"a_small"}
