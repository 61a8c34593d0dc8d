"""Names of classes as parts of other names: metrics, parameters and files. Each class has exactly one such name."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable

MAX_PART_BYTES = 120
"""Largest length of a part in bytes of UTF-8. MLflow accepts names of 250 characters, and a file system file names of
255 bytes."""

MAX_CHARACTERS = 1000
"""Largest length of the name of a class."""

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
_HASH_DIGITS = 12


def is_name(text: object) -> bool:
    """Return whether `text` can be the name of a class.

    A name has at most `MAX_CHARACTERS` characters. They are printable characters and blanks of any width. Line breaks
    and escape sequences are not allowed, because they change the output of a terminal.
    """
    if not isinstance(text, str) or text.strip() == "" or len(text) > MAX_CHARACTERS:
        return False
    return all(character.isprintable() or unicodedata.category(character) == "Zs" for character in text)


def part(name: str) -> str:
    """Encode a name as one part of the name of a metric. MLflow, databases and file systems accept the result.

    Letters, digits, ``_``, ``-`` and single spaces inside of the name do not change, so ``NORM`` stays ``NORM``. Every
    other character becomes a word between dots: ``ST>1`` becomes ``ST.gt.1``, and ``AF//RBBB`` becomes
    ``AF.slash..slash.RBBB``. A character without a word is written with its number, such as ``.u2665.``. A dot at the
    end is removed. A part that is longer than `MAX_PART_BYTES` is cut, and gets a hash of the whole name. The empty
    name becomes ``.empty``.

    Two different names never have the same part. Their parts may differ only in case. `parts` avoids this.
    """
    encoded = _encode(name) if name else f".{_EMPTY}"
    if len(encoded.encode()) > MAX_PART_BYTES:
        return _encode_with_hash(name)
    # Some file systems drop a dot at the end of a name.
    return encoded.removesuffix(".")


def parts(names: Iterable[str]) -> dict[str, str]:
    """Encode several names, so that no two parts differ only in case and accents.

    Some databases and file systems do not distinguish ``NORM`` from ``Norm``. Among such names, the first one in
    alphabetical order keeps its `part`, and the others get a hash. The result does not depend on the order of `names`.

    Parameters
    ----------
    names : iterable of str
        Names of classes. Equal names count once.

    Returns
    -------
    dict of str to str
        Name -> part, in the order of `names`.
    """
    names = list(dict.fromkeys(names))
    used_parts: set[str] = set()
    part_of_name: dict[str, str] = {}
    for name in sorted(names):
        encoded = part(name)
        if _fold(encoded) in used_parts:
            encoded = _encode_with_hash(name)
        used_parts.add(_fold(encoded))
        part_of_name[name] = encoded
    return {name: part_of_name[name] for name in names}


def name_of(encoded: str) -> str:
    """Decode the result of `part` or `parts` to the name of the class. Any other text is returned as it is.

    A name that was cut ends in ``…``.
    """
    # Texts and words alternate, so a part without hash has an odd number of pieces. A hash follows an empty word.
    pieces = encoded.split(".")
    is_hashed = len(pieces) >= 3 and pieces[-2] == "" and len(pieces) % 2 == 1
    name_pieces = pieces[:-2] if is_hashed else pieces
    try:
        name = "".join(_character(piece) if k % 2 else piece for k, piece in enumerate(name_pieces))
    except (ValueError, OverflowError):
        # Older versions did not encode names, so a name can contain dots.
        return encoded
    is_cut = is_hashed and _hash(name) != pieces[-1]
    return f"{name}…" if is_cut else name


def _encode(name: str) -> str:
    """Write a name as text, word, text, word, …, text, separated by dots."""
    pieces = [""]
    for position, character in enumerate(name):
        if _is_allowed(name, position):
            pieces[-1] += character
        else:
            pieces += [_WORDS.get(character, f"u{ord(character):x}"), ""]
    return ".".join(pieces)


def _encode_with_hash(name: str) -> str:
    """Write the beginning of a name, an empty word, and a hash of the whole name."""
    room = MAX_PART_BYTES - len("..") - _HASH_DIGITS
    beginning = name[:room]
    while len(_encode(beginning).encode()) > room:
        beginning = beginning[:-1]
    return f"{_encode(beginning)}..{_hash(name)}"


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]


def _fold(text: str) -> str:
    """Remove the case and the accents of a text."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in letters if not unicodedata.combining(character))


def _is_allowed(name: str, position: int) -> bool:
    """Return whether the character at this position can stay as it is."""
    character = name[position]
    if character == " ":
        is_inside = 0 < position < len(name) - 1
        return is_inside and name[position - 1] != " "
    if character in "_-":
        return True
    # Databases treat characters that are compatible in Unicode, such as 2 and ², as equal. Some databases support no
    # character beyond U+FFFF.
    is_letter = character.isalnum() and ord(character) <= 0xFFFF
    return is_letter and unicodedata.normalize("NFKC", character) == character


def _character(word: str) -> str:
    """Return the character that a word of `_encode` stands for."""
    return _CHARACTERS[word] if word in _CHARACTERS else chr(int(word[1:], 16))
