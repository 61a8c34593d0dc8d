"""`einthoven VERB [overrides]`: dispatches to the commands; a user's mistake is one sentence and exit code 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import einthoven
from einthoven.command_line import readable
from einthoven.errors import UserError
from einthoven.terminal.usage import HELP, VERB_HELP
from einthoven.trust import trust, trusted, trusting

if TYPE_CHECKING:
    from omegaconf import DictConfig


UNSENT = 3
"""Exit code: done, but the tracking store does not have all of it yet."""


def main(argv: list[str] | None = None) -> None:
    """Entry point of the console command; ends the process with its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    verbs: dict[str, Callable[[list[str]], None]] = {
        "train": _train,
        "evaluate": _evaluate,
        "predict": _predict,
        "explain": _explain,
        "app": _app,
        "export": _export,
        "prepare": _prepare,
        "doctor": _doctor,
        "list": _list,
        "sync": _sync,
        "ui": _ui,
        "report": _report,
    }
    if verb in ("--help", "-h", "help"):
        print(HELP, end="")
        return
    if verb == "--version":
        print(einthoven.__version__)
        return
    try:
        if verb not in verbs:
            from einthoven.build import unknown_name

            raise UserError(unknown_name(verb, verb, list(verbs)))
        if "--help" in rest or "-h" in rest:
            print(VERB_HELP[verb], end="")
            return
        modules, rest = trusted_modules(rest)
        with trusting(modules):
            verbs[verb](rest)
        _tell_unsent()
    except UserError as error:
        _fail(str(error))
    except BrokenPipeError:  # the reader of our output left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        _fail(_of_the_system(error))
    except MemoryError as error:
        _fail(_of_the_memory(error))
    except KeyboardInterrupt:
        print("einthoven: interrupted", file=sys.stderr)
        sys.exit(130)


def trusted_modules(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Modules and addresses of ``--trust``, and the other arguments, which every verb reads in its own way.

    Raises
    ------
    UserError
        If one is missing, or is neither the name of a module nor an address.
    """
    modules = []
    others = []
    rest = iter(arguments)
    for argument in rest:
        flag, equals, value = argument.partition("=")
        if flag != "--trust":
            others.append(argument)
            continue
        module = value if equals else next(rest, "")
        is_address = "://" in module or module.startswith("/")
        if not is_address and not all(part.isidentifier() for part in module.split(".")):
            raise UserError(f"--trust {module}: expected a Python module such as my_parts, or the address of a store.")
        modules.append(module)
    return modules, others


def conf_folder() -> Path:
    """The configuration folder: inside the installed package, or at the top of the checkout."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "conf"


def _of_the_system(error: OSError) -> str:
    return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"


def _of_the_memory(error: MemoryError) -> str:
    return (
        f"not enough memory{f' ({error})' if str(error) else ''}; expected smaller numbers, or fewer records at once."
    )


def _fail(message: str) -> None:
    # A name in a foreign file may contain characters that change what the terminal shows.
    shown = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in message)
    print(f"einthoven: error: {shown}", file=sys.stderr)
    sys.exit(2)


def _train(arguments: list[str]) -> None:
    from einthoven.runs.new_folders import remove_unused
    from einthoven.tracking.sweep import PARENT, abandon

    def job(config: DictConfig) -> dict[str, float]:
        from hydra.core.hydra_config import HydraConfig

        hydra = HydraConfig.get()
        if PARENT in os.environ:
            from einthoven.sweeps.child import child as run
        else:
            from einthoven.runs.train_one import train_one as run
        return run(config, Path(hydra.runtime.output_dir), list(hydra.overrides.task))

    ended = "FAILED"
    try:
        _run_hydra("train", arguments, job)
    except (KeyboardInterrupt, SystemExit):
        ended = "KILLED"
        raise
    except RuntimeError as error:
        # Those of launchers, which may not be installed, cannot be named here; all others go on as they are.
        if type(error).__module__.split(".")[0] not in ("joblib", "submitit"):
            raise
        # All that is said: submitit's first line names the job, and what the job died of comes after it.
        raise UserError(f"a process of the sweep was lost: {str(error).strip() or type(error).__name__}") from error
    finally:
        remove_unused()
        told = _told_of_sweep()
        if PARENT in os.environ:
            abandon(ended)
            print("einthoven: the sweep has not ended; the same command goes on with it", file=sys.stderr)
        if told and isinstance(sys.exc_info()[1], Exception):  # that one is told, too: neither hides the other
            print(f"einthoven: {told}", file=sys.stderr)
        elif told:
            raise UserError(told)


def _told_of_sweep() -> str:
    """Sentences that a sweep has left for the user."""
    from einthoven.sweeps import parent

    told = "\n".join(parent.mistakes)
    parent.mistakes.clear()
    return told


def _evaluate(arguments: list[str]) -> None:
    def job(config: DictConfig) -> None:
        from einthoven.runs.evaluation import evaluate

        evaluate(config)

    _run_hydra("evaluate", arguments, job)


def _prepare(arguments: list[str]) -> None:
    def job(config: DictConfig) -> None:
        from einthoven.commands.prepare import prepare

        prepare(config)

    _run_hydra("prepare", arguments, job)


def _doctor(arguments: list[str]) -> None:
    from einthoven.commands.doctor import doctor

    if not doctor(arguments):
        sys.exit(1)


def _predict(arguments: list[str]) -> None:
    from einthoven.commands.predict import predict

    if not predict(arguments):
        sys.exit(1)


def _explain(arguments: list[str]) -> None:
    from einthoven.commands.explain import explain

    if not explain(conf_folder(), arguments):
        sys.exit(1)


def _app(arguments: list[str]) -> None:
    from einthoven.commands.app import app

    app(arguments)


def _export(arguments: list[str]) -> None:
    from einthoven.commands.predict import export

    export(arguments)


def _list(arguments: list[str]) -> None:
    from einthoven.commands.options import show_options

    show_options(conf_folder(), arguments)


def _sync(arguments: list[str]) -> None:
    from einthoven.tracking.sync import sync

    if not arguments:
        raise UserError("sync: no folder given; expected the folders of runs (outputs/…).")
    for folder in arguments:
        print(sync(Path(folder)))


def _tell_unsent() -> None:
    """Say what a tracking store does not have of the runs of this process; exit code 3 if there is such."""
    recorder = sys.modules.get("einthoven.tracking.recorder")
    if recorder is not None and recorder.unsent:
        told, recorder.unsent[:] = list(recorder.unsent), []
        for sentence in told:
            print(f"einthoven: warning: {sentence}", file=sys.stderr)
        sys.exit(UNSENT)


def _ui(arguments: list[str]) -> None:
    from einthoven.commands.ui import ui

    ui(arguments)


def _report(arguments: list[str]) -> None:
    from einthoven.commands.report import report

    report(arguments)


def _run_hydra(name: str, arguments: list[str], job: Callable[[DictConfig], Any]) -> None:
    """Compose ``conf/NAME.yaml`` and run the job, or its sweep; Hydra's errors become sentences."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from einthoven.build import trust_named
    from einthoven.terminal.conf_folders import conf_folders

    mistakes: list[str] = []

    modules = trusted()

    def guarded(config: DictConfig) -> Any:
        trust(modules)  # again, as this may be another process
        trust_named(config)
        try:
            return job(config)
        except UserError as error:  # kept from Hydra, which would add a line of its own
            mistakes.append(str(error))
        except OSError as error:
            mistakes.append(_of_the_system(error))
        except MemoryError as error:
            mistakes.append(_of_the_memory(error))
        return None

    # Hydra's parser takes its flags before or after the overrides, not among them.
    flags = [a for a in arguments if a in ("-m", "--multirun")]
    arguments = [readable(argument) for argument in arguments]
    conf_folders(conf_folder(), arguments)  # Hydra would go on without one that is not there
    sys.argv = [f"einthoven {name}", *flags, *(a for a in arguments if a not in flags)]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions through instead of printing them
    try:
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=name)(guarded)()
    except (HydraException, OmegaConfBaseException) as error:
        from einthoven.terminal.mistakes import sentence

        raise UserError(sentence(error, conf_folder(), name, arguments)) from None
    if mistakes:
        raise UserError("\n".join(dict.fromkeys(mistakes)))
