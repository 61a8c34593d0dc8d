"""Options of small runs that teach and learn, and the one sentence of a run that is refused."""

from __future__ import annotations

import pytest

SHORT = ("augment=none", "diagnostics=none", "trainer.batch_size=8", "tracking.artifacts=false", "pca.k=4")
NETWORK = ("model=mlp", "model.width=8", "model.depth=1", "trainer.epochs=1", "optimizer.lr=1e-3")
STUDENT = ("task=distill", "model=mlp", "model.width=4", "model.depth=1", "trainer.epochs=2")


def sentence(exit_: SystemExit, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence with which a command has ended."""
    assert exit_.code == 2
    error = capsys.readouterr().err.strip()
    assert error.count("einthoven: error:") == 1 and "\n" not in error
    return error
