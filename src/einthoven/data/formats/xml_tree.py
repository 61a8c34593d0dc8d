"""Parse the XML of an electrocardiograph into a tree without namespaces."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from einthoven.data.formats.file_signals import read_ordinary_file
from einthoven.errors import UserError
from einthoven.files import reason

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MOST_BYTES = 2**26
"""Largest size of an XML file."""

_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


def read_xml_tree(path: str | Path) -> Element:
    """Read an XML file. Names of elements and attributes lose their namespaces.

    Text with bytes that its encoding does not have is decoded as Windows-1252: names of patients are written so.

    Raises
    ------
    UserError
        If the file cannot be read or is no XML, or if it declares entities, which could expand to any size.
    """
    from defusedxml import DefusedXmlException, ElementTree  # type: ignore[import-untyped]

    source = Path(path).name
    data = read_ordinary_file(path, MOST_BYTES)
    root: Element
    try:
        try:
            root = ElementTree.fromstring(data)
        except ElementTree.ParseError:
            text = _DECLARATION.sub("", data.removeprefix(b"\xef\xbb\xbf").decode("cp1252", "replace"))
            root = ElementTree.fromstring(text)
    except DefusedXmlException as error:
        raise UserError(f"{source}: XML with entities found ({reason(error)}); expected none.") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{source}: not XML, or damaged ({reason(error)}); expected an ECG in XML.") from None

    for element in root.iter():
        element.tag = str(element.tag).rpartition("}")[2]
        if any("}" in name for name in element.attrib):
            element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    return root


def text_of(element: Element | None) -> str:
    """Return the text of an element without line ends and repeated blanks; empty for None."""
    return "" if element is None else " ".join("".join(element.itertext()).split())


def attribute(element: Element | None, name: str) -> str:
    """Return an attribute without blanks around it; empty if there is none."""
    return "" if element is None else element.get(name, "").strip()


def scale(text: str, meaning: str, source: str) -> float:
    """Return the size of a count, which is a finite number and not 0. With 0, every ECG would be a flat line.

    Raises
    ------
    UserError
        If the text is none. The message names its meaning.
    """
    value = number(text, meaning, source)
    if value == 0:
        raise UserError(f"{source}: 0 found for the {meaning}; expected the size of a count.")
    return value


def number(text: str, meaning: str, source: str) -> float:
    """Return a finite number.

    Raises
    ------
    UserError
        If the text is none. The message names its meaning.
    """
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        content = repr(text[:40]) if text else "nothing"
        raise UserError(f"{source}: {content} found for the {meaning}; expected a number.")
    return value
