"""A training run of several processes, which torchrun has started. The first one writes, and the others follow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from einthoven.command_line import option
from einthoven.errors import UserError
from einthoven.runs.config.run_config import read_config
from einthoven.runs.config.settings import is_feature_model
from einthoven.runs.folder.trained_data import is_started, read_trained_data
from einthoven.runs.resume import assemble_begun
from einthoven.runs.unrecorded import Unrecorded
from einthoven.terminal.display import console, errors
from einthoven.tracking.places import trusted_for
from einthoven.training.collectives import LostProcessError
from einthoven.training.connection import connected
from einthoven.training.distributed import ConnectedProcesses
from einthoven.training.launch import Launch
from einthoven.trust import trust

if TYPE_CHECKING:
    from omegaconf import DictConfig


@contextmanager
def joined(launch: Launch, *, uses_gpus: bool) -> Iterator[ConnectedProcesses]:
    """Connect this process with the others until the block ends. `uses_gpus` is as in `connected`.

    Raises a `UserError` if another process has ended, or does not answer. The sentence says how the run is continued.
    """
    name = f"process {launch.rank} of {launch.size}"
    processes: ConnectedProcesses | None = None
    try:
        with connected(launch, uses_gpus=uses_gpus) as meeting:
            processes = ConnectedProcesses(launch.rank, launch.size, meeting)
            yield processes
    except (LostProcessError, KeyboardInterrupt) as error:
        # If a process has ended, torchrun also sends SIGTERM to the others.
        if not _is_lost(error):
            raise
        sentence = f"{name} ends, because {LostProcessError()}"
        if processes is None or processes.folder is None:
            raise UserError(f"{sentence}.") from None
        raise UserError(
            f"{sentence}; the run continues from its last checkpoint with {option('resume', processes.folder)} in "
            "place of its options."
        ) from None
    except UserError as error:
        if launch.rank == 0:
            raise
        raise UserError(f"{name}: {error}") from None


def uses_gpus(config: DictConfig) -> bool:
    """Return whether the processes of a run use GPUs if there are some. A run that is resumed has its own options."""
    if config.resume is not None:
        config = read_config(Path(config.resume), "resume")
    return str(config.trainer.device) != "cpu"


def trust_own_addresses(config: DictConfig) -> None:
    """Trust the addresses that the command line of a new run names.

    The followers, and the first process after a restart, read them again from the folder of the run.
    """
    tracking = config.tracking
    addresses = trusted_for(str(tracking.uri), tracking.register, tracking.alias)
    if tracking.artifact_location is not None:
        addresses.append(str(tracking.artifact_location))
    trust(addresses)


def _is_lost(error: BaseException | None) -> bool:
    """Return whether an error is a lost process, or was raised while one was reported."""
    while error is not None:
        if isinstance(error, LostProcessError):
            return True
        error = error.__context__
    return False


def follow(processes: ConnectedProcesses) -> None:
    """Train with the first process, which has prepared the run, and write nothing.

    The run is assembled from its folder, as if it was resumed. So its records, its options and its code must be those
    of the first process.
    """
    console.quiet = True
    errors.quiet = True
    folder = processes.wait_for_folder()
    if folder is None:
        return
    run, _ = assemble_begun(folder, read_config(folder, "resume"), processes)
    with run.training(Unrecorded()) as fit:
        fit()


def is_begun_with(folder: Path, overrides: Sequence[str]) -> bool:
    """Return whether a folder holds a run that was begun with some options of the command line.

    If not, the folder was in use before torchrun has started this command.
    """
    if not is_started(folder):
        return False
    trained = read_trained_data(folder, "hydra.run.dir", takes_added=False)
    return trained.overrides == tuple(overrides)


def refuse_alone_only(config: DictConfig, processes: int) -> None:
    """Refuse options of a run that several processes cannot share."""
    several = f"torchrun has started {processes} processes, which train one network together"
    if is_feature_model(config):
        raise UserError(
            f"model={config.model._target_}: {several}, and this model is fitted at once; expected a network, or one "
            "process."
        )
    if config.data.folds.get("cross_validate"):
        raise UserError(f"folds: {several}, and a cross-validation trains several; expected one process.")
    device = str(config.trainer.device)
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(
            f"trainer.device={device}: {several}; expected auto, cpu, or cuda, which is another GPU for each process."
        )


def refuse_forgotten_folder(launch: Launch, is_named: bool) -> None:
    """Refuse a run that torchrun would begin again after a failure, because the command does not name its folder."""
    if launch.most_restarts and not is_named:
        raise UserError(
            f"torchrun --max-restarts={launch.most_restarts} continues a run in its folder, and this command does not "
            "name it; expected hydra.run.dir=FOLDER or resume=FOLDER too."
        )
