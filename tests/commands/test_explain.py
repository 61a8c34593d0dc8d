"""`einthoven explain`: a page that can be trusted as far as it says, from the bundle of generated ECGs."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from einthoven import cli
from einthoven.commands.explain import METHOD, method_named
from einthoven.data.ancestry import Ancestry
from einthoven.errors import UserError
from einthoven.predict import Predictor, load_bundle
from einthoven.terminal.conf_folders import conf_folder

METHODS = sorted(path.stem for path in (conf_folder() / "explanation").glob("*.yaml"))


def outcome(*arguments: object) -> int:
    """Exit code of `einthoven explain`."""
    try:
        cli.main(["explain", *map(str, arguments)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def file(corpus: Path) -> Path:
    return corpus / "records100" / "00000" / "00001_lr.hea"


def test_a_page_comes_with_what_it_is_worth(
    file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    page = tmp_path / "mi.svg"
    assert outcome("synthetic", file, "--class", "MI", "--method", "grad_cam", "--output", page) == 0
    shown = capfd.readouterr().out
    assert "MI 0." in shown and "deletion" in shown and "sanity" in shown
    assert re.search(r"relevance in P \d+% \(chance \d+%\), QRS \d+%", shown)
    assert "synthetic ECGs" in shown and "Not for diagnosis" in shown
    assert page.read_bytes().startswith(b"<?xml") and [f.name for f in tmp_path.iterdir()] == ["mi.svg"]


def test_one_bad_file_is_told_and_the_others_are_explained(
    file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for suffix in (".hea", ".dat"):
        shutil.copy(file.with_suffix(suffix), tmp_path)
    (tmp_path / "bad.hea").write_text("bad 12 100 1000\n")
    output = tmp_path / "pages.pdf"
    assert outcome("synthetic", tmp_path, "--method", "input_gradient", "--output", output) == 1
    found = capfd.readouterr()
    assert "There is no explanation of 1 of 2 files" in found.err and "bad.hea" in found.err
    assert len(re.findall(rb"/Type /Page\b", output.read_bytes())) == 1 and "1 page" in found.out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "no FILE given"),
        (["--method", "grad_camm"], "did you mean grad_cam"),
        (["--class", "MII"], "did you mean MI"),
        (["--output", "page.gif"], "ends in .png, .svg, .pdf"),
        (["TWO", "--output", "page.png"], "2 files take pages; expected a name that ends in .pdf"),
        (["--metod", "x"], "explain: --metod: unknown; did you mean --method"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_sentence(
    file: Path, arguments: list[str], expected: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    second = file.with_name("00002_lr.hea")
    given = [second if word == "TWO" else word for word in arguments]
    files = ["synthetic", file] if arguments else [tmp_path_with_bundle(tmp_path)]
    assert outcome(*files, *given) == 2
    assert expected in capfd.readouterr().err


def tmp_path_with_bundle(tmp_path: Path) -> Path:
    load_bundle("synthetic").bundles[0].save(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_method_is_found_by_the_name_of_its_yaml_and_told_the_sampling_frequency() -> None:
    assert METHOD in METHODS
    found = method_named([conf_folder()], "occlusion_by_wave", 250.0)
    assert found.keywords == {"fs": 250.0}  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="there are attention_rollout, grad_cam, input_gradient"):
        method_named([conf_folder()], "??", 100.0)


def test_a_method_of_ones_own_explains(
    file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_method_of_test.py").write_text("def absolute(model, x, target):\n    return x.abs()\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_conf" / "explanation").mkdir(parents=True)
    text = "# The size\n_target_: own_method_of_test.absolute\n_partial_: true\n"
    (tmp_path / "my_conf" / "explanation" / "size.yaml").write_text(text)
    output = tmp_path / "page.png"
    named = ("--method", "size", "--config-dir", tmp_path / "my_conf")
    assert outcome("synthetic", file, *named, "--output", output) == 0 and output.exists()
    capfd.readouterr()
    assert outcome("synthetic", file, "--method", "sizes", *named[2:]) == 2
    assert "did you mean size" in capfd.readouterr().err
    assert outcome("synthetic", file, "--config-dir", tmp_path / "nowhere") == 2
    assert "nowhere: no such folder" in capfd.readouterr().err


def test_a_record_of_the_training_is_told(
    file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = load_bundle("synthetic").bundles[0]
    cuts = (("crop", None),)
    digests = Predictor([replace(own, cuts=cuts)]).prepare(file).digests
    replace(own, ancestry=Ancestry.trained_on(digests), cuts=cuts).save(tmp_path / "bundle")
    told: list[str] = []
    monkeypatch.setattr("einthoven.report.explanation.explanation_figure", lambda *_, foot, **__: told.extend(foot))
    monkeypatch.setattr("einthoven.report.explanation.save_pages", lambda pages, path: list(pages))
    assert outcome(tmp_path / "bundle", file, "--method", "input_gradient", "--output", tmp_path / "page.pdf") == 0
    assert f"{file.name}: Caution: this record was in the training data." in capfd.readouterr().out
    assert any("Caution: this record was in the training data." in line for line in told)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_explains_the_bundle_of_generated_ecgs(name: str, file: Path) -> None:
    found = load_bundle("synthetic").explain(file, "NORM", method_named([conf_folder()], name, 100.0))
    assert found.relevance.shape == (12, 1000) and np.isfinite(found.relevance).all() and found.relevance.any()
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["explain", "--output", "nowhere/a.pdf"], "--output nowhere/a.pdf: expected the name of a file, in a folder"),
        (["export", "nowhere/a.pt2"], "export nowhere/a.pt2: expected the name of a file, in a folder that is there."),
        (["export", "."], "export .: expected the name of a file"),
    ],
)
def test_where_nothing_can_be_written_nothing_is_begun(
    file: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.main(command + ["synthetic", str(file)] * (command[0] == "explain"))
    err = capfd.readouterr().err.strip()
    assert end.value.code == 2 and "\n" not in err and expected in err
