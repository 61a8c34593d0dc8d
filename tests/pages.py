"""Reading a page of HTML in a test."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Reads a page: its elements, what they link to, and whether each is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_startendtag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for each, attributes in self.elements if each == name]


def assert_self_contained(page: str) -> Reader:
    """Nothing is fetched, nothing is run, pictures say what they show, tables have headers; below 5 MB."""
    read = Reader(page)
    assert len(page.encode()) < 5_000_000
    for _, attributes in read.elements:
        for link in ("src", "href", "srcset", "poster", "action"):
            assert (attributes.get(link) or "data:").startswith("data:")
        assert "url(" not in (attributes.get("style") or "")
    assert "url(" not in page.split("</style>")[0] and "@import" not in page
    assert not {"script", "link", "iframe", "object"} & {name for name, _ in read.elements}
    assert all(image["alt"] for image in read.all("img"))
    assert all(header.get("scope") in ("row", "col") for header in read.all("th"))
    assert len(read.all("caption")) >= len(read.all("table"))
    return read
