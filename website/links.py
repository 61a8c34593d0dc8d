"""Check the links of a folder of HTML pages: each one leads to a file that exists, and to a place in it that exists."""

from __future__ import annotations

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """Collects the links and the names of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attributes if value}
        if "id" in values:
            self.names.add(values["id"])
        if tag == "a" and "name" in values:
            self.names.add(values["name"])
        for name in ("href", "src"):
            if name in values:
                self.links.append(values[name])


@cache
def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def broken_links(site: Path) -> list[str]:
    """Return the links that lead nowhere, each with its page. Links to other servers are not followed."""
    problems = []
    for path in sorted(site.rglob("*.html")):
        # The address of this page is not known.
        if path.name == "404.html":
            continue
        for link in sorted(set(_read(path).links)):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            page = path.relative_to(site)
            if not target.is_file():
                problems.append(f"{page}: {link} (no such file)")
            elif target.suffix == ".html" and parts.fragment and not _has(target, unquote(parts.fragment)):
                problems.append(f"{page}: {link} (no such place in the page)")
    return problems


def _has(path: Path, name: str) -> bool:
    # Scripts of the theme make these names.
    return name in _read(path).names or name.startswith("__")
