"""The base of a run (``init_from``): the model that it starts from.

The folder of the new run keeps a copy of the base, so that the run can be resumed and evaluated after the base is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from einthoven.data.ancestry import Ancestry
from einthoven.errors import UserError
from einthoven.functional.weight_hash import hash_weights
from einthoven.models.frontend import Frontend
from einthoven.runs.folder.checkpoint_checks import checkpoint_errors
from einthoven.tracking.privacy import without_folders
from einthoven.training import checkpoint

NAME = "base.safetensors"
"""The copy of the base in the folder of a run."""


@dataclass(frozen=True)
class BaseModel:
    """The model that a run starts from."""

    source: str
    """The option that named it, for messages: ``init_from=outputs/…``."""
    description: str
    """What it was trained on, in words."""
    options: Mapping[str, Mapping[str, Any]]
    """Its groups ``model`` and ``pca``, as in a configuration."""
    state: Mapping[str, Tensor]
    """Weights and statistics: ``frontend.…`` and ``network.…``. A pretraining run also has other modules."""
    classes: tuple[str, ...]
    """Names of its outputs. Empty if they have none."""
    output: str
    """The `output` of its task: ``sigmoid``, ``softmax``, ``identity``, ``masks``, or that of a pretext task."""
    temperature: float
    """Divisor of its logits."""
    leads: tuple[str, ...]
    fs: float
    """Sampling frequency in Hz."""
    ancestry: Ancestry | None
    """The records that it has seen. None if it does not list them."""

    @property
    def sha256(self) -> str:
        """Twelve hex digits of the hash of all weights and statistics."""
        return hash_weights(self.state)[:12]

    @property
    def logged_source(self) -> str:
        """The option that named it, without the folders of the user."""
        return without_folders(self.source)

    def frontend(self) -> Frontend | None:
        """Return a frontend of the shape of the base; None for components over time, whose options give the shape."""
        if "frontend.centre" in self.state:
            return None
        components, leads = self.state["frontend.projection"].shape
        return Frontend(leads, components)

    def save(self, folder: Path) -> None:
        """Write the copy of the base into the folder of a run."""
        tensors: dict[str, Any] = {"model": dict(self.state), "ancestry": None}
        if self.ancestry is not None:
            arrays = self.ancestry.to_arrays()
            tensors["ancestry"] = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        notes = {
            "source": self.source,
            "description": self.description,
            "options": {group: dict(options) for group, options in self.options.items()},
            "classes": list(self.classes),
            "output": self.output,
            "temperature": self.temperature,
            "leads": list(self.leads),
            "fs": self.fs,
        }
        checkpoint.save(folder / NAME, tensors, notes)


def read_kept_base(folder: Path) -> BaseModel:
    """Read the copy of the base from the folder of a run.

    Raises a `UserError` if the copy is missing, damaged, or not written by a run.
    """
    file = folder / NAME
    state, notes = checkpoint.load(file)
    with checkpoint_errors(file):
        ancestry = None
        if state["ancestry"] is not None:
            ancestry = Ancestry.from_arrays({name: value.numpy() for name, value in state["ancestry"].items()})
        base = BaseModel(
            source=str(notes["source"]),
            description=str(notes["description"]),
            options=notes["options"],
            state=state["model"],
            classes=tuple(map(str, notes["classes"])),
            output=str(notes["output"]),
            temperature=float(notes["temperature"]),
            leads=tuple(map(str, notes["leads"])),
            fs=float(notes["fs"]),
            ancestry=ancestry,
        )
    check_state(base.state, file)
    return base


def check_state(state: Mapping[str, Any], source: Path) -> None:
    """Refuse weights that are not finite tensors with names, or that have no frontend."""
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(f"{source}: {str(name)[:100]} is no tensor; expected the weights of a run.")
        if not bool(torch.isfinite(value).all()):
            raise UserError(f"{source}: {name[:100]} has values that are not finite; expected the weights of a run.")
    projection = state.get("frontend.projection")
    if projection is None or projection.ndim != 2:
        raise UserError(f"{source}: has no frontend; expected the weights of a run.")
