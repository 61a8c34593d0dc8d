"""Models of a run: the exported model, and each checkpoint that is kept."""

from __future__ import annotations

from pathlib import Path

from einthoven.tracking.files import Files
from einthoven.tracking.metrics import Metrics


class RecordedModels(Metrics, Files):
    """The part of a `Recorder` that logs models, with the metrics that were measured of them."""

    _params: dict[str, str]
    _dataset: tuple[str, str] | tuple[()]

    def model(
        self,
        program: Path,
        samples: int,
        classes: tuple[str, ...],
        leads: tuple[str, ...],
        fs: float,
        *,
        step: int = 0,
        runs_along_time: bool = False,
        register: str | None = None,
        alias: str | None = None,
    ) -> None:
        """Log an exported model with the last val and test metrics, and register it if a name is given.

        The weights were trained for `step` steps. The alias is for the new version of the registered model. The other
        parameters are those of `einthoven.tracking.models.export`.
        """
        from einthoven.tracking.models import NAME, export

        with self._staged_path(NAME) as path:
            export(program, samples, classes, leads, fs, path, runs_along_time=runs_along_time)
        metrics = [point for name, point in self._last_points.items() if name.startswith(("val/", "test/"))]
        content = {
            "path": str(path.relative_to(self._folder)),
            "params": self._params,
            "step": step,
            "metrics": metrics,
            "dataset": self._dataset,
            "register": register,
            "alias": alias,
        }
        self._put(self._files, {"model": content})

    def checkpoint(self, name: str, file: str, step: int) -> None:
        """Log a checkpoint (``best`` or ``last``) as a model of the run, with the validation metrics of its step.

        `file` is its place among the artifacts.
        """
        content = {
            "name": name,
            "params": {"file": file, "step": str(step)},
            "step": step,
            "metrics": self._validation_points.get(step, []),
            "dataset": self._dataset,
        }
        self._put(self._files, {"checkpoint": content})
