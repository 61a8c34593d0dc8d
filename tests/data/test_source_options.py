"""A wrong option of a source is refused in one sentence that names the option."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from einthoven.build import build
from einthoven.errors import UserError
from einthoven.terminal.conf_folders import conf_folder


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A folder with one record and its label."""
    folder = tmp_path_factory.mktemp("records")
    for file in sorted(corpus.glob("records100/*/00001_lr.*")):
        shutil.copy(file, folder / f"one{file.suffix}")
    (folder / "labels.csv").write_text("path,labels\none,NORM\n")
    return folder


@pytest.mark.parametrize(
    ("source", "options", "expected"),
    [
        ("ptbxl", {"root": 5}, "data.root=5: expected text or a path."),
        ("synthetic", {"cache": [1]}, "data.cache=[1]: expected text or a path."),
        ("synthetic", {"records": 0}, "data.records=0: expected a number of records from 1 to 1,000,000."),
        ("synthetic", {"noise": 101.0}, "data.noise=101.0: expected a number from 0 to 100."),
        ("synthetic", {"noise": float("nan")}, "data.noise=nan: expected a number, and a finite one."),
        ("synthetic", {"seed": -1}, "data.seed=-1: expected 0 or more."),
        ("cinc2021", {"only": []}, "data.only=[]: expected some of ptbxl, cpsc2018,"),
        ("folder", {"stride": 1.0}, "data.stride=1.0: has no effect with data.long=crop; expected data.long=slide"),
        ("folder", {"file_fs": 0.0}, "data.file_fs=0.0: expected the sampling frequency of the files in Hz"),
        ("folder", {"file_fs": 1e6}, "data.file_fs=1000000.0: expected the sampling frequency of the files in Hz"),
        ("folder", {"file_units": "mmHg"}, "data.file_units=mmHg: expected mV, uV, nV or V, or null."),
        ("folder", {"file_leads": []}, "data.file_leads=[]: expected the leads of the files in their order"),
    ],
)
def test_a_wrong_option_of_a_source_is_named(
    records: Path, tmp_path: Path, source: str, options: dict[str, Any], expected: str
) -> None:
    config = OmegaConf.load(conf_folder() / "data" / f"{source}.yaml")
    config.cache = str(tmp_path / "cache")
    if source != "synthetic":
        config.root = str(records)
    build(config, "data")  # the other options are accepted
    config.update(options)
    with pytest.raises(UserError) as refusal:
        build(config, "data").open()
    assert expected in str(refusal.value) and "\n" not in str(refusal.value)
    assert not (tmp_path / "cache" / "stores").exists()
