from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from einthoven import cli
from einthoven.commands import conclude

Train = Callable[..., None]


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory, mlflow_db: Path) -> Path:
    """A folder to run in, with an empty tracking store."""
    folder = tmp_path_factory.mktemp("workplace")
    shutil.copy(mlflow_db, folder / "mlflow.db")
    return folder


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
