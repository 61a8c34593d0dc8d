"""Distillation: a small student beside an ensemble of large teachers, and beside the same student with labels only.

    python bench/bench_distillation.py FOLDER [OPTION …] [--teachers 5] [--seeds 3] [--temperature 1] [--label-weight 0]
    python bench/bench_distillation.py FOLDER [OPTION …] --runs RUN RUN RUN
    python bench/bench_distillation.py FOLDER data.records=1000 trainer.epochs=10 --teachers 3 --seeds 2 --folds 9 10

OPTIONs are those of ``einthoven train`` and hold for every run; those after ``--student`` hold for the students, and
replace them. ``--runs`` takes teachers that are trained already.
The goal: a student with a fifth of the parameters, within 0.005 macro AUROC of the ensemble, and at least as well
calibrated. The table has the mean and the standard deviation over the seeds.

Runs are kept in FOLDER. The same command again trains what is missing, and an interrupted run goes on from its last
epoch. With the defaults (2,000 generated records, 30 epochs), all runs take some hours on two cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from einthoven import cli
from einthoven.evaluation.metrics import macro_auroc
from einthoven.evaluation.scores import calibration_error_per_class
from einthoven.runs.network.finished import read_finished

STUDENT = ("model.channels=[24,48,48]",)
QUIET = ("tracking.offline=true", "tracking.artifacts=false", "diagnostics=none")
GOAL_PARAMETERS, GOAL_AUROC = 1 / 5, 0.005


@dataclass(frozen=True)
class Result:
    """Predictions of a model for the test records, and its size."""

    y: NDArray[np.float64]
    p: NDArray[np.float64]
    parameters: int

    def figures(self) -> tuple[float, float, float]:
        """Return macro AUROC, negative log-likelihood in nats, and the mean calibration error of the classes."""
        p = np.clip(self.p, 1e-12, 1 - 1e-12)
        nll = -(self.y * np.log(p) + (1 - self.y) * np.log1p(-p)).mean()
        return macro_auroc(self.y, self.p), float(nll), float(calibration_error_per_class(self.y, self.p).mean())


def train(folder: Path, *options: str) -> Path:
    """Train a run, unless it has ended already. An interrupted run goes on."""
    if (folder / "bundle" / "bundle.json").exists():
        print(f"{folder}: trained already", flush=True)
    elif (folder / "checkpoints" / "last.safetensors").exists():
        cli.main(["train", f"resume={folder}"])
    else:
        cli.main(["train", *QUIET, *options, f"hydra.run.dir={folder}"])
    return folder


def predict(folder: Path, folds: list[int] | None) -> Result:
    """Predict the test records of a run."""
    run, _ = read_finished(folder, "run", {"test": folds, "val": None if folds is None else []})
    predictions = run.evaluate("test", "fp32")
    return Result(predictions.y, predictions.p, sum(p.numel() for p in run.model.parameters()))


def row(name: str, results: Sequence[Result]) -> str:
    """Return a line of the table: the mean over some models, and the standard deviation if there are several."""
    figures = np.array([result.figures() for result in results])
    means = figures.mean(axis=0)
    spreads = figures.std(axis=0, ddof=1) if len(figures) > 1 else [None] * 3
    cells = [
        f"{mean:.4f}" + ("" if spread is None else f" ± {spread:.4f}")
        for mean, spread in zip(means, spreads, strict=True)
    ]
    return f"{name:<28} {cells[0]:<18} {cells[1]:<18} {cells[2]:<18} {results[0].parameters:>12,}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("options", nargs="*")
    parser.add_argument("--teachers", type=int, default=5)
    parser.add_argument("--runs", type=Path, nargs="+", default=None)
    parser.add_argument("--student", nargs="+", default=[], metavar="OPTION")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--label-weight", type=float, default=0.0)
    parser.add_argument("--direction", default="forward")
    parser.add_argument("--folds", type=int, nargs="+", default=None, help="test folds; by default those of the run")
    given = parser.parse_args()
    options, folder = given.options, given.folder

    teachers = given.runs or [
        train(folder / f"teacher-{seed}", *options, f"seed={seed}") for seed in range(given.teachers)
    ]
    named = f"task.teacher=[{','.join(str(path.resolve()) for path in teachers)}]"
    distill = (
        "task=distill",
        named,
        f"task.kl_temperature={given.temperature}",
        f"task.label_weight={given.label_weight}",
        f"task.direction={given.direction}",
    )
    name = f"T{given.temperature:g}-labels{given.label_weight:g}-{given.direction}"
    alone, distilled = [], []
    for seed in range(given.seeds):
        # Students have other seeds than the teachers.
        replaced = [option.partition("=")[0] + "=" for option in given.student]
        shared = [option for option in options if not option.startswith(tuple(replaced))]
        small = (*shared, *STUDENT, *given.student, f"seed={100 + seed}")
        alone.append(train(folder / f"labels-{seed}", *small))
        distilled.append(train(folder / f"distilled-{name}-{seed}", *small, *distill))

    of_teachers, of_alone, of_distilled = (
        [predict(path, given.folds) for path in paths] for paths in (teachers, alone, distilled)
    )
    p = np.mean([result.p for result in of_teachers], axis=0)
    ensemble = Result(of_teachers[0].y, p, sum(result.parameters for result in of_teachers))
    print(f"\n{len(ensemble.y)} test records; {len(teachers)} teachers, {given.seeds} seeds of each student ({name})")
    print(f"{'model':<28} {'macro AUROC':<18} {'NLL':<18} {'calibration error':<18} {'parameters':>12}")
    print(row("teacher (mean of each)", of_teachers))
    print(row("ensemble of the teachers", [ensemble]))
    print(row("student, labels only", of_alone))
    print(row("student, distilled", of_distilled))
    print(goal(ensemble, of_teachers[0].parameters, of_distilled))


def goal(ensemble: Result, parameters: int, students: Sequence[Result]) -> str:
    """Return a sentence about each part of the goal."""
    student = np.mean([result.figures() for result in students], axis=0)
    of_ensemble = ensemble.figures()
    share = students[0].parameters / parameters
    parts = (
        (f"parameters: {share:.3f} of one teacher", share <= GOAL_PARAMETERS),
        (f"macro AUROC: {student[0] - of_ensemble[0]:+.4f}", student[0] >= of_ensemble[0] - GOAL_AUROC),
        (f"calibration error: {student[2] - of_ensemble[2]:+.4f}", student[2] <= of_ensemble[2]),
    )
    return "\n".join(f"{text}, goal {'reached' if is_reached else 'missed'}" for text, is_reached in parts)


if __name__ == "__main__":
    main()
