"""Pages of all options and commands, read from conf/, from docstrings, and from `--help`."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from api_pages import ANCHORS, SRC
from hydra.utils import get_object

from einthoven.commands.list import describe
from einthoven.terminal.conf_folders import conf_folder
from einthoven.terminal.usage import HELP, VERB_HELP

COMMANDS = {"train": "train.yaml", "evaluate": "evaluate.yaml", "probe": "probe.yaml", "prepare": "prepare.yaml"}
"""Commands with options of their own, and the files of these options."""

RECIPES = ("experiment", "sweep")
"""Groups whose options set values of other groups. Their pages show the files themselves."""

_LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w@/.-]+):(?: +(?P<value>[^#\s].*?))??(?: +# ?(?P<comment>.*))?$")
_CHOICE = re.compile(r"^ +- (?:override /)?(?P<group>\w+): \S+ +# (?P<comment>.*)$")
_BOUND = ("_target_", "_partial_", "_recursive_", "_convert_", "defaults")


@dataclass(frozen=True)
class Value:
    """A value that an option has."""

    name: str
    default: str
    meaning: str


def write_command_pages(folder: Path) -> None:
    """Write a page with the help of all commands, and one for each command with options of its own."""
    folder.mkdir(parents=True)
    lines = ["# Commands", "", "The output of `einthoven --help`:", "", "```text", HELP.rstrip(), "```", ""]
    for verb, text in VERB_HELP.items():
        lines += [f"## einthoven {verb}", "", "```text", text.rstrip(), "```", ""]
        if verb in COMMANDS:
            (folder / f"{verb}.md").write_text(command_page(verb, conf_folder() / COMMANDS[verb]))
            lines += [f"[The values of its options]({verb}.md)", ""]
    (folder / "index.md").write_text("\n".join(lines))


def write_option_pages(folder: Path) -> None:
    """Write a page for each group of options, one for each command with options, and an index."""
    folder.mkdir(parents=True)
    purposes = purposes_of_groups()
    index = [
        "# Options",
        "",
        "Add `GROUP=OPTION` to a command to choose an option, and `GROUP.NAME=VALUE` to change one of its values:",
        "",
        "```bash",
        "einthoven train optimizer=muon optimizer.lr=0.002",
        "```",
        "",
        "`einthoven train --cfg job` prints all values of a command. These pages are made from the files in `conf/`.",
        "",
        "| group | what it decides | options |",
        "|---|---|---|",
    ]
    for group, files in groups():
        (folder / f"{group}.md").write_text(group_page(group, files, purposes.get(group, "")))
        names = ", ".join(f"`{file.stem}`" for file in files)
        index.append(f"| [`{group}`]({group}.md) | {purposes.get(group, '')} | {names} |")
    commands = ", ".join(f"[`einthoven {verb}`](../commands/{verb}.md)" for verb in COMMANDS)
    index += ["", f"Values that belong to no group stand with their commands: {commands}."]
    (folder / "index.md").write_text("\n".join(index) + "\n")


def groups() -> Iterator[tuple[str, list[Path]]]:
    """Yield each group of options with its files."""
    for folder in sorted(conf_folder().iterdir()):
        files = sorted(folder.glob("*.yaml")) if folder.is_dir() else []
        if files:
            yield folder.name, files


def purposes_of_groups() -> dict[str, str]:
    """Return what each group decides: the comments of the lists of defaults."""
    purposes = {}
    for file in COMMANDS.values():
        for line in (conf_folder() / file).read_text().splitlines():
            match = _CHOICE.match(line)
            if match is not None:
                purposes.setdefault(match["group"], match["comment"])
    return purposes


def group_page(group: str, files: list[Path], purpose: str) -> str:
    """Return the page of a group."""
    lines = [f"# {group}", ""]
    if purpose:
        lines += [f"The group `{group}` says {_lower(purpose)}.", ""]
    lines += [f"| `{group}=` | what it is |", "|---|---|"]
    for file in files:
        lines.append(f"| [`{file.stem}`](#{file.stem}) | {_cell(describe(file).description)} |")
    lines.append("")
    for file in files:
        option = describe(file)
        lines += [f"## {file.stem}", "", _text(option.description), ""]
        if option.source:
            lines += [f"Source: {_text(option.source)}", ""]
        if group in RECIPES:
            lines += ["```yaml", file.read_text().rstrip(), "```", ""]
            continue
        lines += _function_line(file)
        lines += _table(f"{group}.", values_of(file))
    return "\n".join(lines)


def command_page(verb: str, file: Path) -> str:
    """Return the page of the values of a command that belong to no group."""
    values = [value for value in values_of(file) if not value.name.startswith("hydra.")]
    lines = [f"# einthoven {verb}", "", f"Values of `einthoven {verb}` that belong to no group.", ""]
    lines += _table("", values)
    choices = [match for match in map(_CHOICE.match, file.read_text().splitlines()) if match]
    if choices:
        lines += ["Its groups:", "", "| group | what it decides |", "|---|---|"]
        for match in choices:
            place = f"../options/{match['group']}.md"
            lines.append(f"| [`{match['group']}`]({place}) | {match['comment']} |")
    return "\n".join(lines) + "\n"


def _table(prefix: str, values: list[Value]) -> list[str]:
    """Return a table of values."""
    if not values:
        return ["It has no values.", ""]
    rows = [f"| `{prefix}{v.name}` | {_code(v.default)} | {_cell(v.meaning)} |" for v in values]
    return ["| name | default | meaning |", "|---|---|---|", *rows, ""]


def values_of(file: Path) -> list[Value]:
    """Return the values that the file of an option sets, with what they mean."""
    values = []
    for path, default, comment, target in _entries(file):
        meaning = comment or _meaning(file, path, default, target)
        values.append(Value(path, default, meaning))
    return values


@cache
def _entries(file: Path) -> tuple[tuple[str, str, str, str], ...]:
    """Return the dotted name, the default, the comment and the function of each value of a file."""
    entries = []
    targets: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    lines = file.read_text().splitlines()
    for number, line in enumerate(lines):
        match = _LINE.match(line)
        if match is None or line.lstrip().startswith(("#", "-")):
            continue
        indent = len(match["indent"])
        while parents and parents[-1][0] >= indent:
            parents.pop()
        names = [*(name for _, name in parents), match["key"]]
        place, path, value = ".".join(names[:-1]), ".".join(names), match["value"] or ""
        if match["key"] == "_target_":
            targets[place] = value
        is_mapping = not value and number + 1 < len(lines) and _indent(lines[number + 1]) > indent
        if is_mapping or match["key"] in _BOUND:
            parents.append((indent, match["key"]))
        elif not any(name in _BOUND for name in names):
            entries.append((path, value, match["comment"] or "", targets.get(place, "")))
    return tuple(entries)


def _meaning(file: Path, path: str, default: str, target: str) -> str:
    """Return what a value means, if its file does not say it.

    The first of these that says it: the class of the group in `einthoven.schema`, the docstring of the function,
    another option of the group, and the option that the value is taken from.
    """
    group, name = file.parent.name, path.rpartition(".")[2]
    comments = _comments(file.parent)
    for meanings in (schema_fields(group), parameters(target) if target else {}):
        if name in meanings:
            return meanings[name]
    # The same name can mean something else in another part of a group.
    key = ".".join(path.split(".")[-2:])
    if key in comments:
        return comments[key]
    taken = re.fullmatch(r"\$\{([\w.]+)\}", default)
    return f"as `{taken[1]}`" if taken else ""


@cache
def _comments(folder: Path) -> dict[str, str]:
    """Return the first comment of each name in the files of a group; of a name in a part, with that of the part."""
    comments: dict[str, str] = {}
    for file in sorted(folder.glob("*.yaml")):
        for path, _, comment, _ in _entries(file):
            if comment:
                comments.setdefault(".".join(path.split(".")[-2:]), comment)
    return comments


@cache
def schema_fields(group: str) -> dict[str, str]:
    """Return what the fields of the class of a group mean; an empty mapping if the group has no class."""
    for node in ast.parse((SRC / "einthoven" / "schema" / "training.py").read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name.lower() == group:
            meanings = {}
            for field, text in pairwise(node.body):
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                    meanings[ast.unparse(field.target)] = _one_line(ast.literal_eval(text.value))
            return meanings
    return {}


@cache
def parameters(target: str) -> dict[str, str]:
    """Return what each parameter of a function means.

    Read from its docstring, from those of its base classes, from that of a function which it refers to, as in "see
    `add_noise`", and from the definition lists in those of its module and its package.
    """
    function = get_object(target)
    module = inspect.getmodule(function)
    meanings = {}
    for place in (importlib.import_module(function.__module__.rpartition(".")[0]), module):
        for match in re.finditer(r"^``(\w+)``\n((?: {4}.*\n?)+)", inspect.getdoc(place) or "", flags=re.MULTILINE):
            meanings[match[1]] = _one_line(match[2])
    objects = list(reversed(inspect.getmro(function))) if inspect.isclass(function) else [function]
    for name in re.findall(r"`(\w+)`", function.__doc__ or ""):
        if callable(getattr(module, name, None)):
            objects.insert(0, getattr(module, name))
    for documented in objects:
        meanings |= _documented(inspect.cleandoc(documented.__doc__ or ""))
    return meanings


def _documented(docstring: str) -> dict[str, str]:
    """Return the parameters that a docstring in the style of numpydoc describes."""
    meanings = {}
    section = re.search(r"Parameters\n-+\n(.*?)(?=\n\n\w[\w ]*\n-+\n|\Z)", docstring, flags=re.DOTALL)
    text = section[1] if section else ""
    for match in re.finditer(r"^(\S.*?)(?: : .*)?\n((?: {4}.*\n?|\n)+)", text, flags=re.MULTILINE):
        for name in match[1].split(","):
            meanings[name.strip().lstrip("*")] = _one_line(match[2])
    return meanings


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _function_line(file: Path) -> list[str]:
    """Return a line that names the function of an option, with a link to its documentation."""
    match = re.search(r"^_target_: (einthoven\.\S+)$", file.read_text(), flags=re.MULTILINE)
    if match is None:
        return []
    name = match[1].rpartition(".")[2]
    source = Path(inspect.getfile(inspect.unwrap(get_object(match[1])))).resolve()
    place = ANCHORS.place(f"src/{source.relative_to(SRC).as_posix()}", name) if source.is_relative_to(SRC) else None
    shown = f"`{match[1]}`"
    return [f"Function: [{shown}](../../{place})" if place else f"Function: {shown}", ""]


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _text(text: str) -> str:
    """Return text in which Markdown reads no tags."""
    return text.replace("<", "&lt;")


def _cell(text: str) -> str:
    return _text(text).replace("|", "\\|")


def _code(text: str) -> str:
    if not text:
        return ""
    return "`" + text.replace("|", "\\|").strip("'") + "`"
