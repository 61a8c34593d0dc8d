"""`einthoven VERB [arguments]`: find the module of the verb and run it. A mistake of the user is one sentence."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from importlib import import_module

import einthoven
from einthoven.errors import UserError, printable_text, store_sentence, system_sentence
from einthoven.interrupts import Terminated, terminable
from einthoven.terminal.usage import HELP, VERB_HELP
from einthoven.trust import trusting

VERBS = {
    "train": "einthoven.commands.train",
    "evaluate": "einthoven.commands.evaluate",
    "predict": "einthoven.commands.predict",
    "explain": "einthoven.commands.explain",
    "embed": "einthoven.commands.embed",
    "probe": "einthoven.commands.probe",
    "app": "einthoven.commands.app",
    "export": "einthoven.commands.export",
    "prepare": "einthoven.commands.prepare",
    "doctor": "einthoven.commands.doctor",
    "list": "einthoven.commands.list",
    "sync": "einthoven.commands.sync",
    "ui": "einthoven.commands.ui",
    "report": "einthoven.commands.report",
}
"""Verb -> module. The function ``main`` of a module takes the arguments after the verb, and may return an exit code."""

USER_ERROR = 2
INTERRUPTED = 130  # 128 + the number of SIGINT, as in a shell
TERMINATED = 143  # 128 + the number of SIGTERM
BROKEN_PIPE = 141  # 128 + the number of SIGPIPE

GARBAGE_THRESHOLDS = (10_000, 10, 10)
"""Thresholds of the garbage collector. The first one is 700 in Python, and the others are those of Python.

Importing torch and MLflow makes half a million objects and no garbage. With the higher threshold, the imports of a run
need a quarter less time.
"""

# At exit, Python would search all these objects for garbage once more.
atexit.register(gc.freeze)


def main(argv: list[str] | None = None) -> None:
    """Run one command, by default that of the process. A failure ends the process with the exit code of the command."""
    arguments = sys.argv[1:] if argv is None else argv
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    # An empty address is none, as in MLflow. Scripts set it like this if they have no store.
    if not os.environ.get("MLFLOW_TRACKING_URI", "none"):
        del os.environ["MLFLOW_TRACKING_URI"]
    verb = arguments[0] if arguments else "help"
    exit_code = None
    try:
        if verb in ("--help", "-h", "help"):
            print(HELP, end="")
        elif verb == "--version":
            print(einthoven.__version__)
        elif verb not in VERBS:
            raise UserError(_without_verb(arguments))
        elif "--help" in arguments or "-h" in arguments:
            print(VERB_HELP[verb], end="")
        else:
            modules, rest = _split_trust(arguments[1:])
            with terminable(), trusting(modules):
                exit_code = import_module(VERBS[verb]).main(rest)
        # The output may go to a file on a full disk. Python would find out at exit, and print a traceback.
        sys.stdout.flush()
    except UserError as error:
        _fail(str(error))
    except BrokenPipeError:
        # The program that read our output through a pipe has ended, for example `head`.
        _drop_output()
        sys.exit(BROKEN_PIPE)
    except (OSError, MemoryError) as error:
        _fail(system_sentence(error))
    except Terminated:
        print("einthoven: terminated", file=sys.stderr)
        sys.exit(TERMINATED)
    except Exception as error:
        sentence = store_sentence(error)
        if sentence is None:
            raise
        _fail(sentence)
    except KeyboardInterrupt:
        print("einthoven: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    if exit_code:
        sys.exit(exit_code)


def _without_verb(arguments: list[str]) -> str:
    """Return a sentence about arguments whose first word is not a verb."""
    first = arguments[0]
    if "=" in first or first.startswith("-"):
        verb = next((word for word in arguments if word in VERBS), "train")
        return f"{first}: expected the command first, as in einthoven {verb} {first}."
    from einthoven.build import unknown_name

    return unknown_name(first, first, list(VERBS))


def _split_trust(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split the modules and addresses that ``--trust`` names from the arguments that the command reads itself."""
    trusted = []
    others = []
    remaining = iter(arguments)
    for argument in remaining:
        flag, equals, value = argument.partition("=")
        if flag != "--trust":
            others.append(argument)
            continue
        # Both `--trust=MODULE` and `--trust MODULE` are accepted.
        name = value if equals else next(remaining, "")
        is_address = ":/" in name or name.startswith("/")
        is_module = all(part.isidentifier() for part in name.split("."))
        if not is_address and not is_module:
            raise UserError(f"--trust {name}: expected a Python module such as my_parts, or an address.")
        trusted.append(name)
    return trusted, others


def _drop_output() -> None:
    """Drop the rest of the output. Python would print an error when it flushes it at exit."""
    from einthoven.terminal.display import drop_output

    drop_output(sys.stdout)


def _fail(message: str) -> None:
    """Print a message to the error stream and end the process with exit code 2."""
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()
    print(f"einthoven: error: {printable_text(message)}", file=sys.stderr)
    sys.exit(USER_ERROR)
