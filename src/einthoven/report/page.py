"""A self-contained HTML page: no scripts, fonts or pictures from elsewhere. All text in it is escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --soft: #5a5a5a; --page: #fff; --line: #d8d8d8; --band: #f4f5f6 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #a8a8a8; --page: #16181b; --line: #3c4046; --band: #202429 }
}
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line) }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem }
p, ol, ul { max-width: 52rem; margin: .5rem 0 }
.soft, caption, figcaption { color: var(--soft); font-size: .9rem }
.wide { overflow-x: auto; margin: .8rem 0 }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
caption { text-align: left; padding: .2rem 0 .4rem; max-width: 52rem }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line) }
thead th { white-space: nowrap; border-bottom-width: 2px }
tbody th { font-weight: 500; min-width: 9rem }
tbody tr:nth-child(even) { background: var(--band) }
td { overflow-wrap: break-word; max-width: 24rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .6rem 0; font-size: .9rem }
dt { color: var(--soft) }
dd { margin: 0; overflow-wrap: anywhere }
figure { margin: 1rem 0; break-inside: avoid }
img { max-width: 100%; height: auto; background: #fff; border-radius: 6px }
details { margin: .8rem 0 }
summary { cursor: pointer; color: var(--soft) }
code { font-size: .9em }
ul.key { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; padding: 0; list-style: none; max-width: none }
svg.line { vertical-align: middle; margin-right: .35rem }
footer { margin-top: 3rem; padding-top: .8rem; border-top: 1px solid var(--line); color: var(--soft);
  font-size: .85rem }
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --page: #fff; --line: #bbb; --band: #fff }
  body { max-width: none; padding: 0; font-size: 10.5pt }
  .wide { overflow: visible }
  h2, h3 { break-after: avoid }
  table { font-size: 8pt }
  tr { break-inside: avoid }
}
"""
# The browser refuses everything that this policy does not allow.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Html(str):
    """Text that is already HTML. Other text is escaped when it is inserted."""

    __slots__ = ()


def html(text: str) -> Html:
    """Return a text as HTML. It is escaped, unless it is already HTML."""
    return text if isinstance(text, Html) else Html(escape(text))


def join(parts: Iterable[str]) -> Html:
    """Join parts. Each part is escaped, unless it is already HTML."""
    return Html("\n".join(map(html, parts)))


def tag(name: str, *content: str, **attributes: str) -> Html:
    """Return an element. In the name of an attribute, a ``_`` at the end is removed, and others become hyphens.

    Examples
    --------
    >>> tag("td", "R > S", class_="note")
    '<td class="note">R &gt; S</td>'
    """
    attribute_text = ""
    for key, value in attributes.items():
        attribute_text += f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
    inner = "".join(html(part) for part in content)
    return Html(f"<{name}{attribute_text}>{inner}</{name}>")


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """Return a table whose first row and first column are headers. A wide table can be scrolled."""
    head = tag("tr", *(tag("th", column, scope="col") for column in columns))
    body = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows]
    whole = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", join(body)))
    return tag("div", whole, class_="wide", role="region", aria_label=caption, tabindex="0")


def terms(pairs: Iterable[tuple[str, str]]) -> Html:
    """Return a list of names with their values."""
    return tag("dl", join(Html(tag("dt", name) + tag("dd", value)) for name, value in pairs))


def fold(summary: str, *content: str) -> Html:
    """Return content that is hidden until the reader opens it."""
    return tag("details", tag("summary", summary), join(content))


def section(title: str, *content: str) -> Html:
    """Return a part of the page with a heading."""
    return tag("section", tag("h2", title), join(content))


def picture(data: bytes, kind: str, alt: str, caption: str = "") -> Html:
    """Return a picture that is embedded in the page.

    Parameters
    ----------
    data : bytes
    kind : str
        ``png``, ``jpeg`` or ``svg+xml``.
    alt : str
        Description of the picture for readers who cannot see it.
    caption : str
        Line below the picture; an empty text leaves it out.
    """
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    image = Html(f'<img src="{source}" alt="{escape(alt)}">')
    if not caption:
        return tag("figure", image)
    return tag("figure", image, tag("figcaption", caption))


def from_markdown(text: str) -> Html:
    """Convert Markdown with emphasis, lists and tables to HTML. Links, pictures and HTML in it stay plain text."""
    from markdown_it import MarkdownIt

    # The text can come from a stranger, so it must not refer to anything outside the page.
    forbidden = ["image", "link", "autolink", "reference", "html_block", "html_inline"]
    return Html(MarkdownIt("commonmark").enable("table").disable(forbidden).render(text))


def page(title: str, *content: str) -> str:
    """Return the whole page.

    Parameters
    ----------
    title : str
    content : str
        Parts of the body.
    """
    head = join(
        (
            Html('<meta charset="utf-8">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            tag("title", title),
            tag("style", Html(STYLE)),
        )
    )
    return f"<!DOCTYPE html>\n{tag('html', tag('head', head), tag('body', join(content)), lang='en')}\n"
