"""Names of classes as parts of other names: of metrics, parameters and files. One class, one name."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable

LONGEST = 120
"""Bytes of UTF-8 in a part: a store takes names of 250 characters, a file system file names of 255 bytes."""

MOST_CHARACTERS = 1000
"""Of the name of a class."""

_WORDS = {
    " ": "space",
    ".": "dot",
    "/": "slash",
    "\\": "backslash",
    ":": "colon",
    "<": "lt",
    ">": "gt",
    "=": "eq",
    "≤": "le",
    "≥": "ge",
    "+": "plus",
    "*": "star",
    "%": "percent",
    "&": "and",
    "|": "or",
    "(": "open",
    ")": "close",
}
_EMPTY = "empty"
_CHARACTERS = {word: character for character, word in _WORDS.items()} | {_EMPTY: ""}
_DIGITS = 12  # of a hash


def is_name(text: object) -> bool:
    """Whether something can name a class: printable characters and blanks of any width, `MOST_CHARACTERS` at most.

    A line break or an escape sequence would change what a terminal shows.
    """
    if not isinstance(text, str) or text.strip() == "" or len(text) > MOST_CHARACTERS:
        return False
    return all(character.isprintable() or unicodedata.category(character) == "Zs" for character in text)


def part(name: str) -> str:
    """A name as one part of the name of a metric, which MLflow, every database and every file system take.

    Letters, digits, ``_``, ``-`` and single spaces inside stay, so that ``NORM`` is ``NORM``. Every other character
    becomes a word between dots: ``ST>1`` is ``ST.gt.1``, ``AF//RBBB`` is ``AF.slash..slash.RBBB``. A character without
    a word of its own is told by its number, ``.u2665.``. No dot stands at the end. What is longer than `LONGEST` bytes
    is cut, and gets a hash of the whole name. The empty name is ``.empty``.

    Two different names never have the same part. They may differ in their case alone; see `parts`.
    """
    written = _written(name) if name else f".{_EMPTY}"
    if len(written.encode()) > LONGEST:
        return _hashed(name)
    return written.removesuffix(".")  # systems drop a dot at the end


def parts(names: Iterable[str]) -> dict[str, str]:
    """The part of each of several names, such that no two differ in case and accents alone.

    Databases and file systems may not tell ``NORM`` from ``Norm``. Of names that differ so, the first in the order of
    characters keeps its `part`, and the others get a hash. The result does not depend on the order of `names`.

    Parameters
    ----------
    names : iterable of str
        Equal ones count once.

    Returns
    -------
    dict of str to str
        In the order of `names`.
    """
    names = list(dict.fromkeys(names))
    taken: set[str] = set()
    by_name: dict[str, str] = {}
    for name in sorted(names):
        written = part(name)
        if _folded(written) in taken:
            written = _hashed(name)
        taken.add(_folded(written))
        by_name[name] = written
    return {name: by_name[name] for name in names}


def name_of(written: str) -> str:
    """The name that `part` or `parts` made this of; a text that they did not make stays.

    A name that was cut ends in ``…``.
    """
    pieces = written.split(".")
    is_hashed = len(pieces) >= 3 and pieces[-2] == "" and len(pieces) % 2 == 1
    kept = pieces[:-2] if is_hashed else pieces
    try:
        name = "".join(_character(piece) if k % 2 else piece for k, piece in enumerate(kept))
    except (ValueError, OverflowError):  # a name with dots, of a version that changed no names
        return written
    is_cut = is_hashed and _digest(name) != pieces[-1]
    return f"{name}…" if is_cut else name


def _written(name: str) -> str:
    """Letters, a word, letters, a word, … letters, with dots between."""
    pieces = [""]
    for position, character in enumerate(name):
        if _stays(name, position):
            pieces[-1] += character
        else:
            pieces += [_WORDS.get(character, f"u{ord(character):x}"), ""]
    return ".".join(pieces)


def _hashed(name: str) -> str:
    """As much of a name as there is room for, and a hash where a word would stand, behind an empty one."""
    room = LONGEST - len("..") - _DIGITS
    beginning = name[:room]
    while len(_written(beginning).encode()) > room:
        beginning = beginning[:-1]
    return f"{_written(beginning)}..{_digest(name)}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


def _folded(written: str) -> str:
    """What is left of a text where neither case nor accents count."""
    letters = unicodedata.normalize("NFKD", written.casefold())
    return "".join(character for character in letters if not unicodedata.combining(character))


def _stays(name: str, position: int) -> bool:
    character = name[position]
    if character == " ":
        is_inside = 0 < position < len(name) - 1
        return is_inside and name[position - 1] != " "
    if character in "_-":
        return True
    # Databases compare what Unicode calls compatible, such as 2 and ², as equal; some know no character beyond U+FFFF.
    is_letter = character.isalnum() and ord(character) <= 0xFFFF
    return is_letter and unicodedata.normalize("NFKC", character) == character


def _character(word: str) -> str:
    return _CHARACTERS[word] if word in _CHARACTERS else chr(int(word[1:], 16))
