"""One HTML page that needs nothing else: no script, no font, no picture from elsewhere; everything in it is escaped."""

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
# What a browser is told to keep to, and would say if something were missing.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Html(str):
    """Text that is HTML already: everything else is escaped where it is put in."""

    __slots__ = ()


def html(text: str) -> Html:
    """A text as HTML: escaped, unless it is HTML already."""
    return text if isinstance(text, Html) else Html(escape(text))


def join(parts: Iterable[str]) -> Html:
    """Parts one after the other, each escaped unless it is HTML already."""
    return Html("\n".join(map(html, parts)))


def tag(name: str, *content: str, **attributes: str) -> Html:
    """An element. Of the names of attributes, a ``_`` at the end is left out, and others are hyphens.

    Examples
    --------
    >>> tag("td", "R > S", class_="note")
    '<td class="note">R &gt; S</td>'
    """
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{given}>{''.join(map(html, content))}</{name}>")


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """A table whose first row and first column are headers; one that is too wide scrolls within the page."""
    head = tag("tr", *(tag("th", column, scope="col") for column in columns))
    body = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows]
    whole = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", join(body)))
    return tag("div", whole, class_="wide", role="region", aria_label=caption, tabindex="0")


def terms(pairs: Iterable[tuple[str, str]]) -> Html:
    """Names and what they are, side by side."""
    return tag("dl", join(Html(tag("dt", name) + tag("dd", value)) for name, value in pairs))


def fold(summary: str, *content: str) -> Html:
    """What is seen when it is asked for."""
    return tag("details", tag("summary", summary), join(content))


def section(title: str, *content: str) -> Html:
    """A part of the page under its heading."""
    return tag("section", tag("h2", title), join(content))


def picture(data: bytes, kind: str, alt: str, caption: str = "") -> Html:
    """A picture within the page.

    Parameters
    ----------
    data : bytes
    kind : str
        ``png`` or ``svg+xml``.
    alt : str
        What it shows, for those who do not see it.
    caption : str
        The line below; none if empty.
    """
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    image = Html(f'<img src="{source}" alt="{escape(alt)}">')
    return tag("figure", image, *([tag("figcaption", caption)] if caption else []))


def from_markdown(text: str) -> Html:
    """Markdown as HTML: emphasis, lists and tables; links, pictures and HTML in it stay text."""
    from markdown_it import MarkdownIt

    outside = ["image", "link", "autolink", "reference", "html_block", "html_inline"]
    return Html(MarkdownIt("commonmark").enable("table").disable(outside).render(text))


def page(title: str, *content: str) -> str:
    """The whole page.

    Parameters
    ----------
    title : str
    content : str
        What stands in its body.
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
