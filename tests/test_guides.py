"""The short commands and programs of README and guides run as they stand there. The others compose (test_readme.py)."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

import einthoven
from conftest import LEADS
from einthoven import cli
from einthoven.data import read_record
from einthoven.data.synthetic import generate
from einthoven.data.synthetic.write import write_record
from einthoven.terminal.conf_folders import conf_folder
from test_readme import ROOT, blocks, commands, joined, spans

FS = 500
SHORT = (
    "einthoven --version",
    "einthoven list optimizer schedule",
    "einthoven train --cfg job",
    "einthoven doctor data/mine/0001.hea",
    "einthoven predict ecg.hea",
    "einthoven predict ecg.hea --without V3",
    "einthoven predict my.csv --fs 500 --units mV",
    "einthoven explain ecg.hea --output ecg.png",
)
PROGRAMS = ("delineation.md", "explanation.md", "formats.md", "intervals.md", "prediction.md")
TESTED_ELSEWHERE = ("own_parts.md", "serving.md")  # test_extend.py, commands/test_serving.py


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the guides name. The ECGs are generated."""
    folder = tmp_path_factory.mktemp("guides")
    mine = folder / "data" / "mine"
    mine.mkdir(parents=True)
    rows = ["path,labels,patient"]
    signals = generate(24, seed=3, rates=(FS,)).signals[FS]
    for number, signal in enumerate(signals, start=1):
        write_record(mine / f"{number:04d}", signal, FS)
        labels = "AF;RBBB" if number % 3 == 0 else "RBBB" if number % 3 == 1 else ""
        rows.append(f"{number:04d}.hea,{labels},p{number // 2}")
    (mine / "labels.csv").write_text("\n".join(rows) + "\n")
    for name in ("ecg", "a"):
        write_record(folder / name, signals[0], FS)
    header = ",".join(LEADS)
    np.savetxt(folder / "my.csv", signals[0].T / 1000, fmt="%.4f", delimiter=",", header=header, comments="")
    return folder


@pytest.fixture
def typed(files: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a command in the folder, as it is typed."""
    monkeypatch.chdir(files)

    def run(command: str, *more: str) -> None:
        program, *words = shlex.split(command.replace("/data/mine", str(files / "data" / "mine")))
        assert program == "einthoven"
        cli.main([*words, *more])

    return run


@pytest.mark.parametrize("command", SHORT)
def test_a_short_command_runs(command: str, typed: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    assert command in commands()
    typed(command)
    assert capsys.readouterr().out


def test_a_folder_of_own_ecgs_is_prepared_and_trained_on(typed: Callable[..., None], files: Path) -> None:
    first, *_ = blocks(ROOT / "docs" / "own_ecgs.md", "bash")
    typed(first.strip(), "model=logistic", "trainer.epochs=1", "tracking.offline=true", "hydra.run.dir=trained")
    assert (files / "data" / "mine" / "labels.folds.csv").exists()
    assert (files / "trained" / "checkpoints").is_dir()


@pytest.mark.parametrize("page", PROGRAMS)
def test_a_program_of_a_guide_runs(page: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    programs = blocks(ROOT / "docs" / page, "python")
    assert programs
    for program in programs:
        # A guide may speak of signals that the reader has.
        names = {"signals": np.zeros((1, 12, 10 * FS), dtype=np.float32)}
        exec(compile(program, page, "exec"), names)


def test_programs_that_need_a_server_import_what_exists() -> None:
    pages = [page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in (*PROGRAMS, *TESTED_ELSEWHERE)]
    programs = [program for page in pages for program in blocks(page, "python")]
    assert programs
    for program in programs:
        imports = [node for node in ast.parse(program).body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), "imports", "exec"), {})


@pytest.mark.parametrize("group", ["init", "loss", "model", "optimizer", "pca", "penalty", "schedule", "task"])
def test_the_guide_of_the_parts_has_every_option(group: str) -> None:
    named = " ".join(spans(ROOT / "docs" / "parts.md"))
    options = [file.stem for file in (conf_folder() / group).glob("*.yaml")]
    assert not [name for name in options if not re.search(rf"\b{name}\b", named)]


def test_the_guide_of_the_experiments_has_every_experiment() -> None:
    named = " ".join(spans(ROOT / "docs" / "experiments.md"))
    recipes = [file.stem for file in (conf_folder() / "experiment").glob("*.yaml")]
    assert not [name for name in recipes if not name.startswith(("peer_", "ptbxl_")) and f"={name}" not in named]


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == einthoven.__version__
    assert f'license = "{" AND ".join(citation["license"])}"' in (ROOT / "pyproject.toml").read_text()


def test_the_workflow_calls_the_targets_of_the_makefile() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    targets = [step.removeprefix("make ") for step in steps if step.startswith("make ")]
    assert targets == ["lint", "test", "docs"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)


def test_the_answer_in_the_readme_is_printed_for_the_record_of_its_picture(real_data: Path, tmp_path: Path) -> None:
    record = read_record(real_data / "cinc2021" / "E07510.hea")
    times = np.arange(record.signal.shape[1]) * 1000 / record.fs
    names = ["time_ms", *(f"{lead} (mV)" for lead in record.leads)]
    values = np.column_stack([times, record.signal.T])
    formats = ["%g"] + ["%.3f"] * len(record.leads)
    np.savetxt(tmp_path / "my.csv", values, fmt=formats, delimiter=",", header=",".join(names), comments="")

    command = [sys.executable, "-m", "einthoven", "predict", "my.csv"]
    environment = {**os.environ, "COLUMNS": "100"}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    printed = [line.rstrip() for line in result.stdout.splitlines()]
    (shown,) = [block for block in blocks(ROOT / "README.md", "") if block.startswith("$ einthoven predict")]
    lines = shown.splitlines()[1:]
    assert printed[: len(lines)] == lines


def test_the_table_of_the_readme_is_printed_by_the_command_beside_it(
    real_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = blocks(ROOT / "README.md", "")
    (command,) = [block for block in plain if block.startswith("python bench/bench_recipes.py")]
    (line,) = joined(command)
    _, script, *words = shlex.split(line.replace("/data/ptb-xl", str(real_data / "ptbxl")))
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    monkeypatch.setattr("sys.argv", [script, *words])
    import bench_recipes

    bench_recipes.main()
    printed = capsys.readouterr().out
    table = re.search(r"^\| recipe \| macro AUROC.*?\n\n", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert table is not None
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:] if line]
    assert len(rows) > 4
    for _, macro, difference, brier, minutes in rows:
        assert f"| {macro} |" in printed
        assert difference in printed
        assert f"| {brier} |" in printed
        assert f"| {minutes} |\n" in printed
