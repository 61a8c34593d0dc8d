"""How often the options of a sweep are composed. Nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from einthoven.cli import main
from einthoven.sweeps import child, parent


@pytest.mark.parametrize("options", [["seed=0,1,2"], ["sweep=optimizers", "hydra.sweeper.params.seed='0,1'"]])
def test_each_run_of_a_sweep_is_composed_once(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed: list[list[str]] = []
    trained: list[list[str]] = []
    load = ConfigLoaderImpl.load_sweep_config

    def note_composition(self: Any, config: Any, overrides: list[str], *more: Any, **named: Any) -> Any:
        composed.append(list(overrides))
        return load(self, config, overrides, *more, **named)

    def note_run(config: Any, folder: Path, overrides: list[str]) -> dict[str, float]:
        trained.append(overrides)
        return {}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", note_composition)
    monkeypatch.setattr(parent, "open_sweep", lambda config, loader: "parent")
    monkeypatch.setattr(parent, "conclude_sweep", lambda config, run_id, start: [])
    monkeypatch.setattr(child, "child", note_run)
    flags = [] if options[0].startswith("sweep=") else ["-m"]
    main(["train", *flags, *options])
    assert len(trained) == (12 if options[0].startswith("sweep=") else 3)
    assert composed == trained
