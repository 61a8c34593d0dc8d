"""What every test may use: real records where they are, a small corpus where they are not."""

from __future__ import annotations

import csv
import gc
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray

from composing import quick_hydra
from einthoven import cli, trust
from einthoven.runs.results import conclude
from einthoven.tracking.recorder import Recorder

torch.set_num_threads(1)  # pytest-xdist gives each core a worker
# The commands that the program prints name it by its path if the shell does not find it.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
settings.register_profile("einthoven", deadline=None)
settings.load_profile("einthoven")
# Tests do not write into the tracking store of the user who runs them.
os.environ.pop("MLFLOW_TRACKING_URI", None)
# Each command that a test starts would compile the package again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets a suite in the background ignore Ctrl-C
gc.disable()  # until all tests are collected, which imports packages of a million objects


def pytest_collection_finish() -> None:
    """Collect garbage more rarely, and not among the imported packages: it takes a sixth of the time of the suite."""
    gc.freeze()
    gc.set_threshold(*cli.GARBAGE_THRESHOLDS)
    gc.enable()


LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")

Digital = NDArray[np.int16]
WriteRecord = Callable[..., Path]
Train = Callable[..., None]
LoadModel = Callable[[Any], Any]  # a run of MLflow -> its model


@pytest.fixture(autouse=True)
def _trust_ends_with_the_test() -> Iterator[None]:
    """What a test trusts is not trusted by the next one."""
    with trust.trusting([]):
        yield


@pytest.fixture(autouse=True, scope="session")
def _hydra_is_quick() -> Iterator[None]:
    """Most tests of a command wait for Hydra."""
    with quick_hydra():
        yield


@pytest.fixture(autouse=True, scope="session")
def _files_are_not_flushed() -> Iterator[None]:
    """A flush to the disk is for a loss of power. Tests of it replace `os.fsync` by their own function."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real records: ptbxl/, ptbxl-metadata/, cinc2021/."""
    folder = os.environ.get("EINTHOVEN_REAL_DATA")
    if not folder:
        pytest.skip("EINTHOVEN_REAL_DATA is not set: it names the folder of real records that this test reads.")
    return Path(folder)


@pytest.fixture(scope="session")
def write_record() -> WriteRecord:
    """A writer of WFDB records in format 16: digital samples (leads, T) to NAME.hea and NAME.dat."""
    return _write_record


def _write_record(
    folder: Path,
    name: str,
    digital: NDArray[np.integer],
    fs: float = 100,
    *,
    leads: Sequence[str] = LEADS,
    gain: str = "1000.0(0)/mV",
) -> Path:
    samples = np.asarray(digital, dtype="<i2")
    lines = [f"{name} {len(samples)} {fs} {samples.shape[1]}"]
    for lead, row in zip(leads, samples, strict=True):
        checksum = (int(row.sum(dtype=np.int64)) + 0x8000) % 0x10000 - 0x8000  # signed 16 bit
        lines.append(f"{name}.dat 16 {gain} 16 0 {row[0]} {checksum} 0 {lead}")
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")
    (folder / f"{name}.dat").write_bytes(samples.T.tobytes())
    return folder / name


STATEMENTS = {  # statement -> diagnostic, form, rhythm, class, subclass
    "NORM": ("1.0", "", "", "NORM", "NORM"),
    "IMI": ("1.0", "", "", "MI", "IMI"),
    "ASMI": ("1.0", "", "", "MI", "AMI"),
    "LVH": ("1.0", "", "", "HYP", "LVH"),
    "CLBBB": ("1.0", "", "", "CD", "CLBBB"),
    "NDT": ("1.0", "1.0", "", "STTC", "STTC"),
    "PVC": ("", "1.0", "", "", ""),
    "SR": ("", "", "1.0", "", ""),
    "AFIB": ("", "", "1.0", "", ""),
}

CODES = (
    {"NORM": 100.0, "SR": 0.0},
    {"IMI": 100.0, "NDT": 50.0, "SR": 0.0},
    {"LVH": 35.0, "SR": 0.0},
    {"CLBBB": 100.0, "AFIB": 0.0},
    {"NDT": 100.0, "PVC": 100.0, "SR": 0.0},
    {"SR": 0.0},
    {"ASMI": 15.0, "IMI": 80.0, "SR": 0.0},
)


@pytest.fixture(scope="session")
def write_corpus() -> Callable[..., Path]:
    """A writer of corpora in PTB-XL's layout: 100 Hz, 10 s, patients of two records, folds 1 to 10."""
    return _write_corpus


def _write_corpus(root: Path, records: int = 48) -> Path:
    rng = np.random.default_rng(0)
    (root / "records100" / "00000").mkdir(parents=True)
    with (root / "ptbxl_database.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["ecg_id", "patient_id", "age", "scp_codes", "strat_fold", "filename_lr", "filename_hr"])
        for ecg_id in range(1, records + 1):
            patient, name = (ecg_id - 1) // 2, f"{ecg_id:05d}"
            codes = CODES[(ecg_id * 5 + ecg_id // 7) % len(CODES)]
            low, high = f"records100/00000/{name}_lr", f"records500/00000/{name}_hr"
            table.writerow([ecg_id, f"{patient}.0", 40 + patient, str(codes), patient % 10 + 1, low, high])
            _write_record(root / "records100" / "00000", f"{name}_lr", _twelve_leads(rng))
    with (root / "scp_statements.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["", "diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass"])
        table.writerows([name, *columns] for name, columns in STATEMENTS.items())
    return root


def _twelve_leads(rng: np.random.Generator, samples: int = 1000) -> Digital:
    """Integer µV (12, T) that obey the limb-lead laws: III exactly, the augmented leads to half a step."""
    independent = np.rint(np.cumsum(rng.normal(0, 40, (8, samples)), axis=1) * 0.1 + rng.normal(0, 200, (8, samples)))
    i, ii, chest = independent[0], independent[1], independent[2:]
    limb = np.stack([i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2])
    return np.concatenate([np.rint(limb), chest]).astype(np.int16)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of 48 records; tests read it, and copy it to change it."""
    return _write_corpus(tmp_path_factory.mktemp("corpus") / "small")


@pytest.fixture(scope="session")
def mlflow_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty tracking store, made once: copying it is quicker than running MLflow's migrations again."""
    from einthoven.tracking.server import client

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    client(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A maker of a disk of a size such as 256k."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("a small disk cannot be mounted here (it takes root on Linux).")
        return place

    yield mount
    if place.is_mount():
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory, mlflow_db: Path) -> Path:
    """A folder to run in, with an empty tracking store."""
    folder = tmp_path_factory.mktemp("workplace")
    shutil.copy(mlflow_db, folder / "mlflow.db")
    return folder


@pytest.fixture
def load_model(workplace: Path) -> Iterator[LoadModel]:
    """Load the exported model of a run in the workplace, as a user of MLflow does."""
    import mlflow

    def load(run: Any) -> Any:
        mlflow.set_tracking_uri(f"sqlite:///{workplace}/mlflow.db")
        return mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")

    yield load
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]  # as it was: the next test does not inherit the store


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are made but not written, which takes as long as an evaluation of the small corpus."""
    monkeypatch.setattr(Recorder, "figure", lambda *_: None)


@pytest.fixture
def train(workplace: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Run `einthoven train` in the workplace on the small corpus; drawing takes longer than training there."""

    def run(*overrides: str, pictures: bool = False) -> None:
        monkeypatch.chdir(workplace)
        if not pictures:
            monkeypatch.setattr(conclude, "pictures", lambda *_: {})
        uri = f"tracking.uri=sqlite:///{workplace}/mlflow.db"  # MLflow keeps a relative address open across folders
        resumed = any(o.startswith("resume=") for o in overrides)
        data = () if resumed else ("data=ptbxl", f"data.root={corpus}", uri)
        cli.main(["train", *data, *overrides])

    return run
