"""Commands whose options Hydra composes from a yaml of ``conf/``. Errors of Hydra become sentences."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einthoven.build import trust_named
from einthoven.errors import UserError, store_sentence, system_sentence
from einthoven.terminal.conf_folders import conf_folder, conf_folders
from einthoven.terminal.hydra_arguments import arrange
from einthoven.terminal.mistakes import refuse_unread
from einthoven.trust import trust, trusted

if TYPE_CHECKING:
    from omegaconf import DictConfig


_COMPOSING_MODULES = ("hydra._internal.config_", "hydra._internal.defaults_list", "hydra.core.override_parser")
"""Starts of the names of Hydra's modules that are on the stack only while a configuration is composed."""

_LAUNCHERS = ("joblib", "submitit", "ray")
"""Packages that start jobs in other processes."""


class CallbackError(BaseException):
    """A mistake of the user that a Hydra callback reports.

    Hydra turns each `Exception` of a callback into a warning. A `BaseException` reaches the command.
    """


class HydraCommand:
    """A command whose options Hydra composes from ``conf/NAME.yaml``.

    Hydra calls a job once, or once for each run of a sweep. The context managers of this class turn errors into
    sentences, and add no frame between the command and its job::

        command = HydraCommand("train", arguments)

        def job(config):
            with command.job_errors():
                command.trust_config(config)
                train_one(config)

        with command.errors():
            command.decorate(job)()

    Parameters
    ----------
    name : str
        Name of the yaml.
    arguments : list of str
        Words of the command line after the verb.
    variables : sequence of str
        Environment variables that a job needs, also if a launcher runs it on another machine.

    Raises
    ------
    UserError
        If a flag is unknown, or the arguments name a folder of options that does not exist.
    """

    def __init__(self, name: str, arguments: list[str], variables: Sequence[str] = ()) -> None:
        self.name = name
        self.arguments = arrange(name, arguments)
        self._variables = variables
        self._is_copy = False
        self._missing_folder = ""
        self._trusted = trusted()
        self._sentences: list[str] = []
        self._interruption: KeyboardInterrupt | None = None
        # Hydra goes on without a folder that does not exist, and with an option that nothing reads.
        folders, options = conf_folders(conf_folder(), self.arguments)
        refuse_unread(name, folders, options)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a launcher sends with a job to another process: also the working folder and the variables."""
        environment = {name: os.environ[name] for name in self._variables if name in os.environ}
        return {**self.__dict__, "_is_copy": True, "_place": (Path.cwd(), environment)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go to the working folder of the command: the workers of a cluster were started in another one."""
        folder, environment = state.pop("_place")
        self.__dict__.update(state)
        os.environ.update(environment)
        try:
            os.chdir(folder)
        except OSError as error:
            # An error of this method would reach the user as a traceback, so the job raises it.
            self._missing_folder = (
                f"{folder}: a machine of the cluster cannot open the working folder of the command "
                f"({error.strerror}); expected a folder that all machines share."
            )

    def decorate(self, job: Callable[[DictConfig], Any]) -> Callable[[], Any]:
        """Return a function that composes the options and calls `job` with them, or starts a sweep of such calls."""
        import hydra

        sys.argv = [f"einthoven {self.name}", *self.arguments]
        # Without this variable, Hydra prints exceptions and exits.
        os.environ["HYDRA_FULL_ERROR"] = "1"
        return hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=self.name)(job)

    def trust_config(self, config: DictConfig) -> None:
        """Trust the code that a configuration names: the user composed it. This is the first line of a job."""
        if self._missing_folder:
            raise UserError(self._missing_folder)
        # A launcher may run this job in another process, which trusts nothing yet.
        trust(self._trusted)
        trust_named(config)

    @contextmanager
    def job_errors(self) -> Iterator[None]:
        """Run the body of a job, and keep its errors for `errors`: Hydra would print a line of its own for each."""
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode
        from omegaconf.errors import OmegaConfBaseException

        try:
            yield
        except OmegaConfBaseException as error:
            self._keep(self._sentence(error))
        except UserError as error:
            self._keep(str(error))
        except (OSError, MemoryError) as error:
            self._keep(system_sentence(error))
        except Exception as error:
            reason = store_sentence(error)
            if reason is None:
                raise
            self._keep(reason)
        except KeyboardInterrupt as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            # Hydra calls the callbacks at the end of a run only if no such exception passes.
            self._interruption = error

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors of Hydra, of its callbacks and of the jobs into one `UserError`."""
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException
        from yaml import YAMLError  # type: ignore[import-untyped]

        try:
            yield
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(self._sentence(error)) from None
        except CallbackError as error:
            self._sentences.append(str(error))
        except (ValueError, TypeError, YAMLError) as error:
            # Hydra raises these for a wrong option or a wrong yaml. Those of a job are bugs.
            if not _is_of_composition(error):
                raise
            from einthoven.terminal.mistakes import composition_sentence

            raise UserError(composition_sentence(error, conf_folder(), self.name, self.arguments)) from None
        except Exception as error:
            # The launchers may not be installed, so their exceptions are compared by name. Others are bugs.
            if type(error).__module__.split(".")[0] not in _LAUNCHERS:
                raise
            # Ray puts the error of a job into one of its own.
            reason = getattr(error, "cause", None) or error
            # The first line of submitit's text names the job. The reason stands on the lines below it.
            text = str(reason).strip() or type(reason).__name__
            raise UserError(f"a process of the sweep was lost: {text}") from error
        if self._interruption is not None:
            raise self._interruption
        if self._sentences:
            raise UserError("\n".join(dict.fromkeys(self._sentences)))

    def _keep(self, sentence: str) -> None:
        """Keep a sentence for `errors`. In another process, nobody would read it: Hydra carries an error back."""
        if self._is_copy:
            raise UserError(sentence) from None
        self._sentences.append(sentence)

    def _sentence(self, error: Exception) -> str:
        """Return a sentence for an error of Hydra or OmegaConf."""
        from einthoven.terminal.mistakes import sentence

        return sentence(error, conf_folder(), self.name, self.arguments)


def _is_of_composition(error: Exception) -> bool:
    """Return whether an error was raised while Hydra composed the options."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(module.startswith(_COMPOSING_MODULES) for module in modules)
