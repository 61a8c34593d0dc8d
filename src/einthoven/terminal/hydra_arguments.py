"""The words of a command line as Hydra reads them: flags in any order, and paths exactly as the user typed them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from einthoven.command_line import option, readable
from einthoven.errors import UserError

_SIMPLE_FLAGS = {"-m": "--multirun", "--multirun": "--multirun", "--resolve": "--resolve"}
_FLAGS_WITH_VALUE = {
    "-c": "--cfg",
    "--cfg": "--cfg",
    "-p": "--package",
    "--package": "--package",
    "-cd": "--config-dir",
    "--config-dir": "--config-dir",
}
_CFG_VALUES = ("job", "hydra", "all")

_PATH_OPTIONS = {"run", "against", "resume", "init_from", "hydra.run.dir", "hydra.sweep.dir", "tracking.uri"}
"""Options whose value is a path or an address."""

_PATH_NAMES = {"root", "cache", "table", "fold_file", "artifact_location"}
"""Last names of dotted options whose value is a path, such as ``data.root`` and ``data.sources.NAME.root``."""

_PATH_LISTS = {"task.teacher", "hydra.searchpath"}
"""Options whose value is a list of paths."""

_RUN_OPTIONS = {"train": "resume", "evaluate": "run", "probe": "run"}
"""Verb -> option whose value is the folder of a run."""


def arrange(verb: str, arguments: Sequence[str]) -> list[str]:
    """Return the words in the order and the spelling that Hydra needs: flags first, and paths as quoted texts.

    Hydra's own parser takes flags before or after the overrides, but not among them.
    """
    flags: list[str] = []
    overrides: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, value = argument.partition("=")
        if argument in _SIMPLE_FLAGS:
            flags.append(_SIMPLE_FLAGS[argument])
        elif name in _FLAGS_WITH_VALUE:
            flags += [_FLAGS_WITH_VALUE[name], value if equals else next(remaining, "")]
            _check_value(verb, *flags[-2:])
        elif argument.startswith("-"):
            run_option = _RUN_OPTIONS.get(verb)
            if run_option and name == f"--{run_option}":
                example = option(run_option, value) if value else f"{run_option}=FOLDER"
                raise UserError(f"{verb}: {argument}: unknown; expected {example}, without dashes.")
            raise UserError(
                f"{verb}: {argument}: unknown; expected OPTION=VALUE without dashes, such as seed=1, or one of "
                f"--multirun, --cfg job, --config-dir DIR, --trust MODULE (einthoven {verb} --help)."
            )
        else:
            _check_equals(verb, argument)
            overrides.append(argument)

    is_sweep = "--multirun" in flags
    unique_flags = list(dict.fromkeys(flags)) if flags.count("--multirun") > 1 else flags
    return [*unique_flags, *(_as_typed(override, is_sweep=is_sweep) for override in overrides)]


def _check_value(verb: str, flag: str, value: str) -> None:
    if flag == "--cfg" and value not in _CFG_VALUES:
        raise UserError(f"{verb}: --cfg {value}: expected --cfg {' or --cfg '.join(_CFG_VALUES)}.")
    if not value:
        raise UserError(f"{verb}: {flag} has no value; expected {flag} VALUE.")


def _check_equals(verb: str, override: str) -> None:
    """Refuse a word that is not ``OPTION=VALUE``. Only ``~OPTION``, which removes a part, has no value."""
    if not override or "=" in override or override.startswith("~"):
        return
    run_option = _RUN_OPTIONS.get(verb)
    if run_option and _exists(override):
        raise UserError(f"einthoven {verb} {override}: not an option; expected {option(run_option, override)}.")
    raise UserError(f"einthoven {verb} {override}: not an option; expected OPTION=VALUE, without blanks.")


def _as_typed(override: str, *, is_sweep: bool) -> str:
    """Return an override whose path is quoted if Hydra would not read it as it is typed."""
    name, equals, value = override.partition("=")
    plain_name = name.lstrip("+")
    last_name = plain_name.rpartition(".")[2]
    is_path = plain_name in _PATH_OPTIONS or ("." in plain_name and last_name in _PATH_NAMES)
    if is_path and equals and not value:
        # Without this check, an empty path would be the working folder.
        raise UserError(f"{override}: no value; expected a path.")
    if not plain_name:
        raise UserError(f"{override}: no name of an option; expected OPTION=VALUE.")
    if not value:
        return override
    if plain_name in _PATH_LISTS and not _is_read(override):
        return _quote_items(name, value)
    if is_path and _is_literal(override, is_sweep=is_sweep):
        return option(name, value)
    return readable(override)


def _is_literal(override: str, *, is_sweep: bool) -> bool:
    """Return whether the value of a path is the text that the user typed, and not an expression of Hydra's grammar."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    value = override.partition("=")[2]
    if value == "null":
        return False
    # A name of a file or folder is more certain than any meaning in the grammar.
    if _exists(value):
        return True
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return True
    # Without --multirun, a comma can only be a part of the path.
    return parsed.is_sweep_override() and not is_sweep and "${" not in value


def _is_read(override: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def _quote_items(name: str, value: str) -> str:
    """Return a list of paths with each path in quotes; a value that is no list is returned as it is."""
    if not (value.startswith("[") and value.endswith("]")):
        return readable(f"{name}={value}")
    items = [item.strip() for item in value[1:-1].split(",")]
    quoted = [item if item[:1] in ("'", '"') else option("", item).removeprefix("=") for item in items]
    return f"{name}=[{','.join(quoted)}]"


def _exists(value: str) -> bool:
    """Return whether a path exists. A text that cannot be a path does not exist."""
    try:
        return Path(value).exists()
    except (OSError, ValueError):
        return False
