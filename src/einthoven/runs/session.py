"""All that happens around the training of a run: a description before it, conclusion and advice after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from einthoven.contracts import TaskKind
from einthoven.runs.config.next_commands import resume_command
from einthoven.runs.mean_members import conclude_mean
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.runs.results import advice
from einthoven.runs.results.plain_files import write_results
from einthoven.runs.run import Run
from einthoven.terminal.display import say, say_first
from einthoven.tracking.concluded import CONCLUDED
from einthoven.tracking.recorder import Recorder
from einthoven.training.collectives import LostProcessError


@dataclass
class _Session:
    """The training of one run."""

    fit: Callable[[], object]
    """Trains the model."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The final metrics, after the session has ended."""


@contextmanager
def training_session(run: Run, recorder: Recorder, *, is_fold: bool = False) -> Iterator[_Session]:
    """Yield the function that trains. When the block ends, conclude the run and give advice.

    A run that fails gets advice, too, unless a file could not be written: that needs no other explanation. The caller
    opens and closes the recorder. A cross-validation says itself how its folds are resumed and where their bundles are
    (`is_fold`).
    """
    say_first(_first_line(run))
    facts = advice.measure_splits(run, recorder)
    try:
        with run.training(recorder) as fit:
            session = _Session(fit)
            yield session
        session.metrics, predictions = run.conclude(recorder, is_fold=is_fold)
        if isinstance(run, NetworkParts) and run.config.get("mean_with"):
            session.metrics |= conclude_mean(run, recorder)
    except KeyboardInterrupt:
        # A feature model is fitted at once, so that it is not resumed.
        if not is_fold and isinstance(run, NetworkParts):
            say(f"The run is interrupted. This continues it: {resume_command(run.folder, run.settings.tracking)}")
        raise
    except LostProcessError:
        # The training is not to blame.
        raise
    except Exception as error:
        if not isinstance(error, OSError) and not isinstance(error.__cause__, OSError):
            advice.write_note(run, recorder, facts, {}, {}, error)
        raise
    advice.write_note(run, recorder, facts, session.metrics, predictions)
    write_results(run, recorder, session.metrics)
    # The last entry before the end of the run.
    recorder.tags({CONCLUDED: "true"})


def _first_line(run: Run) -> str:
    """Return sentences about the model, its size, the optimizer and the device, about the data, and about the task."""
    sources = " and ".join(sorted(set(map(str, run.data.store.table["source"]))))
    uses = {"train": "for training", "val": "for validation", "test": "for the test"}
    sizes = [f"{len(run.data.rows[split]):,} {use}" for split, use in uses.items() if len(run.data.rows[split])]
    classes = ""
    if run.task.kind is TaskKind.CLASSES:
        count = len(run.data.labels.classes)
        classes = f" with {count} class{'' if count == 1 else 'es'}"
    return (
        f"{run.headline()} on {run.device} in {run.precision}. Data: {sources}, records: {', '.join(sizes)}. "
        f"Task: {run.task.name}{classes}."
    )
