"""What makes two runs the same run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import einthoven
from einthoven.runs.config import identity


def test_the_hash_of_the_source_follows_code_and_tables_that_results_follow_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(einthoven, "__file__", str(tmp_path / "__init__.py"))
    for folder in ("data/synthetic", "report", "predict/bundles", "assets"):
        (tmp_path / folder).mkdir(parents=True)
    hashes = []
    for name in ("__init__.py", "data/codes.csv", "report/page.py", "report/colours.csv"):
        (tmp_path / name).write_text("one")
        hashes.append(identity._package_hash.__wrapped__())
    assert hashes[0] != hashes[1] == hashes[2] == hashes[3]
    # A trained model of the package has a hash of its own.
    for name in ("predict/bundles/bundle.json", "assets/delineator.json"):
        (tmp_path / name).write_text("one")
    assert identity._package_hash.__wrapped__() == hashes[-1]
    for name in ("data/codes.csv", "data/synthetic/fitted.json"):
        (tmp_path / name).write_text("two")
        hashes.append(identity._package_hash.__wrapped__())
    assert len(set(hashes)) == 4


def test_the_packages_that_only_show_results_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = sorted(path.parent.name for path in Path(einthoven.__file__).parent.glob("*/__init__.py"))
    monkeypatch.setattr(einthoven, "__file__", str(tmp_path / "__init__.py"))
    without_effect = set()
    before = identity._package_hash.__wrapped__()
    for package in packages:
        (tmp_path / package).mkdir()
        (tmp_path / package / "new.py").write_text("")
        after = identity._package_hash.__wrapped__()
        if after == before:
            without_effect.add(package)
        before = after
    assert without_effect == {"app", "report", "terminal", "tracking"}


@pytest.mark.parametrize("error", [FileNotFoundError("git"), subprocess.TimeoutExpired("git", 10)])
def test_a_git_that_does_not_answer_costs_the_commit_alone(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def silent(*args: object, **kwargs: object) -> None:
        asked.append(args)
        raise error

    monkeypatch.setattr(Path, "exists", lambda _: True)
    monkeypatch.setattr(subprocess, "run", silent)
    identity.git_commit.cache_clear()
    try:
        assert identity.git_commit() == "" and asked
    finally:
        identity.git_commit.cache_clear()
