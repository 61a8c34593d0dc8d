"""Options of small runs that teach and learn, a run that is killed, and the one sentence of a run that is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from einthoven.runs.network_run import NetworkRun
from einthoven.tracking.recorder import Recorder

SHORT = ("augment=none", "diagnostics=none", "trainer.batch_size=8", "tracking.artifacts=false", "pca.k=4")
NETWORK = ("model=mlp", "model.width=8", "model.depth=1", "trainer.epochs=1", "optimizer.lr=1e-3")
STUDENT = ("task=distill", "model=mlp", "model.width=4", "model.depth=1", "trainer.epochs=2")


def sentence(exit_: SystemExit, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence with which a command has ended."""
    assert exit_.code == 2
    error = capsys.readouterr().err.strip()
    assert error.count("einthoven: error:") == 1 and "\n" not in error
    return error


@contextmanager
def killed_after_epoch(number: int) -> Iterator[None]:
    """End the training in this block as soon as the checkpoint of an epoch is saved."""
    save = NetworkRun.save

    def save_and_end(run: NetworkRun, name: str, recorder: Recorder) -> None:
        save(run, name, recorder)
        if run.position.epoch == number and name == "last":
            raise SystemExit(137)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(NetworkRun, "save", save_and_end)
        yield
