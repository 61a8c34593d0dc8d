"""Configurations as Hydra composes them, for tests that look at one. Each is composed once per process.

Hydra needs a tenth of a second for a configuration, and the tests look at hundreds of them.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import omegaconf._utils
import omegaconf.base
import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, open_dict
from omegaconf.grammar_parser import parse

from einthoven.terminal.conf_folders import conf_folder

Load = Callable[[ConfigSource, str], ConfigResult]
GetMode = Callable[[Hydra, str | None, list[str]], Any]

MAY_SET_THE_MODE = ("experiment", "sweep", "hydra.mode", "hydra.searchpath", "+")
"""Starts of overrides that may bring a yaml with ``hydra.mode`` in it."""


def composed(verb: str, *overrides: str, with_hydra: bool = False) -> DictConfig:
    """A configuration of ``conf/VERB.yaml``. The caller may change it.

    Parameters
    ----------
    with_hydra : bool
        Whether the node ``hydra`` is kept, which a command has and `hydra.compose` leaves out.
    """
    config: DictConfig = pickle.loads(_composed(verb, overrides, Path.cwd()))
    if not with_hydra:
        with open_dict(config):
            del config["hydra"]
    return config


@cache
def _composed(verb: str, overrides: tuple[str, ...], working_folder: Path) -> bytes:
    """Compose in the working folder, to which the folders in `overrides` may be relative."""
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_folder()), version_base="1.3"):
            return pickle.dumps(compose(verb, overrides=list(overrides), return_hydra_config=True))
    finally:
        GlobalHydra.instance().clear()


@contextmanager
def quick_hydra() -> Iterator[None]:
    """Let Hydra read each yaml and OmegaConf parse each text once per process, and compose a command once, not twice.

    The first composition of a command only looks for ``hydra.mode``, which no yaml of this package sets but recipes.
    """
    Plugins.instance()  # which loads the classes below
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hydra, "get_mode", _mode_of_recipes(Hydra.get_mode))
        parse_once = lru_cache(maxsize=10_000)(parse)
        patch.setattr(omegaconf.base, "parse", parse_once)
        patch.setattr(omegaconf._utils, "parse", parse_once)
        for scheme in ("file", "pkg"):
            source = SourcesRegistry.instance().resolve(scheme)
            patch.setattr(source, "load_config", _load_once(source.load_config))
        yield


def _load_once(load: Load) -> Load:
    """Keep the content of each yaml as long as the file is the same."""
    results: dict[object, bytes] = {}

    def load_once(self: ConfigSource, config_path: str) -> ConfigResult:
        key: tuple[object, ...] = (self.path, config_path)
        if self.scheme() == "file":
            file = Path(self.path, self._normalize_file_name(config_path))
            if not file.is_file():
                return load(self, config_path)
            stat = file.stat()
            key = (*key, stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if key not in results:
            results[key] = pickle.dumps(load(self, config_path))
        # A copy, because Hydra changes what it has read. Pickle copies faster than deepcopy.
        result: ConfigResult = pickle.loads(results[key])
        return result

    return load_once


def _mode_of_recipes(get_mode: GetMode) -> GetMode:
    def mode_of_recipes(self: Hydra, config_name: str | None, overrides: list[str]) -> Any:
        if any(override.startswith(MAY_SET_THE_MODE) for override in overrides):
            return get_mode(self, config_name, overrides)
        return None

    return mode_of_recipes
