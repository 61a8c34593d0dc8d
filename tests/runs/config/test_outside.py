"""The source of code of one's own decides whether two runs are the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from einthoven.runs.config import identity, outside
from einthoven.runs.config.outside import outside_modules


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module and a package of one's own, in which Python looks."""
    (tmp_path / "single_parts.py").write_text("import os\nimport torch\nimport its_helper\nclass Small: ...\n")
    (tmp_path / "its_helper.py").write_text("from its_second import width\n")
    (tmp_path / "its_second.py").write_text("width = 3\n")
    (tmp_path / "unrelated.py").write_text("")
    (tmp_path / "package_parts" / "inner").mkdir(parents=True)
    (tmp_path / "package_parts" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "package_parts" / "inner" / "blocks.py").write_text("from its_second import width\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def source_hash(*modules: str) -> str:
    return outside.source_hash.__wrapped__(modules)


@pytest.mark.parametrize(
    ("module", "file", "counts"),
    [
        ("single_parts", "single_parts.py", True),
        ("single_parts", "its_helper.py", True),
        ("single_parts", "its_second.py", True),
        ("single_parts", "unrelated.py", False),
        ("single_parts", "package_parts/__init__.py", False),
        ("package_parts", "package_parts/__init__.py", True),
        ("package_parts", "package_parts/inner/blocks.py", True),
        ("package_parts", "its_second.py", True),
        ("package_parts", "single_parts.py", False),
    ],
)
def test_an_edit_changes_the_hash_of_what_needs_the_file(home: Path, module: str, file: str, counts: bool) -> None:
    before = source_hash(module)
    (home / file).write_text((home / file).read_text() + "# edited\n")
    assert (source_hash(module) != before) is counts
    assert module not in sys.modules, "nothing is imported"


def test_a_new_file_of_a_package_counts_and_the_place_of_it_does_not(home: Path, tmp_path_factory: object) -> None:
    before = source_hash("package_parts")
    (home / "package_parts" / "new.py").write_text("")
    assert source_hash("package_parts") != before
    (home / "package_parts" / "new.py").unlink()
    assert source_hash("package_parts") == before


@pytest.mark.parametrize("module", ["nowhere_parts", "sys", "builtins", "einthoven_is_not_here"])
def test_a_module_without_source_has_none(module: str) -> None:
    assert source_hash(module) == source_hash()


def test_what_a_module_imports_of_installed_packages_does_not_count(home: Path) -> None:
    files: dict[str, Path] = {}
    outside._add_files("single_parts", None, files)
    assert sorted(files) == ["its_helper.py", "its_second.py", "single_parts.py"]


def test_a_file_that_is_no_python_counts_by_its_bytes(home: Path) -> None:
    (home / "its_helper.py").write_bytes(b"def (:\xff")
    before = source_hash("single_parts")
    (home / "its_helper.py").write_bytes(b"def (:\xfe")
    assert source_hash("single_parts") != before


def test_modules_are_those_of_every_target() -> None:
    config = OmegaConf.create(
        {
            "model": {"_target_": "single_parts.Small"},
            "augment": {"_target_": "einthoven.augment.compose.Compose", "transforms": {"a": {}}},
            "optimizer": {"_target_": "torch.optim.SGD", "base": [{"_target_": "package_parts.inner.blocks.f"}]},
            "hydra": {"callbacks": {"a": {"_target_": "not_of_the_run.A"}}},
            "open": "???",
        }
    )
    assert outside_modules(config) == ("package_parts", "single_parts")


def test_the_identity_of_a_run_follows_its_outside_code(home: Path) -> None:
    own = identity.code_hash()
    assert identity.code_hash(()) == own
    with_one = identity.code_hash(("single_parts",))
    assert len(with_one) == 12 and len({own, with_one, identity.code_hash(("package_parts",))}) == 3
    outside.source_hash.cache_clear()
    (home / "its_second.py").write_text("width = 4\n")
    assert identity.code_hash(("single_parts",)) != with_one
    outside.source_hash.cache_clear()
