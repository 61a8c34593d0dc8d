"""The sweeper of einthoven runs what Hydra's own sweeper runs."""

from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

import einthoven
from composing import composed
from einthoven.errors import UserError
from einthoven.sweeps.grid import Grid
from einthoven.sweeps.space import usual_sweeper

SRC = Path(einthoven.__file__).parents[1]


class Launcher:
    """Notes the runs, and trains nothing."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, list[list[str]]]] = []

    def launch(self, runs: list[list[str]], initial_job_idx: int) -> list[Any]:
        self.batches.append((initial_job_idx, runs))
        return [SimpleNamespace(return_value=run) for run in runs]


def grid_in(folder: Path, launcher: Any, **options: Any) -> Grid:
    """A sweeper as Hydra sets it up, with a folder for the configuration."""
    grid = Grid(**options)
    grid.launcher = launcher
    grid.context = SimpleNamespace(config_loader=None)  # type: ignore[assignment]
    grid.config = OmegaConf.create({"seed": 0, "hydra": {"sweep": {"dir": str(folder / "sweep")}}})
    return grid


def launched(folder: Path, arguments: list[str], **options: Any) -> list[tuple[int, list[list[str]]]]:
    launcher = Launcher()
    grid = grid_in(folder, launcher, **options)
    returns = grid.sweep(arguments)
    assert OmegaConf.load(folder / "sweep" / "multirun.yaml") == grid.config
    assert [job.return_value for batch in returns for job in batch] == [
        run for _, runs in launcher.batches for run in runs
    ]
    return launcher.batches


@pytest.mark.parametrize(
    ("params", "arguments"),
    [
        ({}, ["optimizer=sgd,adamw", "seed=range(3)", "model=mlp"]),
        ({"optimizer": "sgd,adamw", "seed": "0,1"}, ["seed=5", "model.width=8,16"]),
        ({}, ["+figure=seeds", "trainer.window=2.5,null", "data.leads=[I,II],[V1]"]),
        ({}, ["optimizer='a,b'", "loss=choice(focal,dice)", "~penalty"]),
        ({}, []),
    ],
)
@pytest.mark.parametrize("size", [None, 2])
def test_the_runs_are_those_of_hydra(
    params: dict[str, str], arguments: list[str], size: int | None, tmp_path: Path
) -> None:
    words = [*(f"{name}={value}" for name, value in params.items()), *arguments]
    overrides = OverridesParser.create().parse_overrides(words)
    expected = BasicSweeper.split_arguments(overrides, size)
    found = launched(tmp_path, arguments, params=params, max_batch_size=size)
    assert [runs for _, runs in found] == expected
    starts = [first for first, _ in found]
    assert starts == [sum(map(len, expected[:k])) for k in range(len(expected))]


def test_values_that_cannot_be_counted_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"seed=interval\(0,1\): expected values"):
        launched(tmp_path, ["seed=interval(0,1)"])
    with pytest.raises(UserError, match=r"hydra\.sweeper\.max_batch_size=0: expected"):
        launched(tmp_path, ["seed=0,1"], max_batch_size=0)


def test_the_error_of_a_job_ends_the_sweep(tmp_path: Path) -> None:
    class Failed:
        @property
        def return_value(self) -> None:
            raise HydraException("lost")

    grid = grid_in(tmp_path, SimpleNamespace(launch=lambda *_, **__: [Failed()]))
    with pytest.raises(HydraException, match="lost"):
        grid.sweep(["seed=0"])


def test_the_sweeper_of_hydra_is_known_by_its_name() -> None:
    composed("train")  # Hydra knows its plugins now
    assert usual_sweeper() == f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}"


def test_no_module_imports_the_inner_parts_of_hydra() -> None:
    for file in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.startswith("hydra._") for name in names), f"{file}: {names}"
