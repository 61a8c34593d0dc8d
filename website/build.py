"""Build the documentation site.

    python website/build.py [--pages]

Collects the pages in build/website/docs and builds the site in build/website/site with Zensical:

    docs/*.md            as they are, with the links that leave docs/ led to pages of the site
    reference/           the commands and all options, read from the package (`option_pages.py`)
    api/                 the functions and classes of each package, read from their docstrings
    decisions/           with a list of all of them

Fails if the build prints a warning, if a docstring names a parameter that its function does not have, or if a link of
the finished site leads nowhere (`links.py`). With --pages, it only writes the pages.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from api_pages import ANCHORS, write_api_pages
from links import broken_links
from option_pages import write_command_pages, write_option_pages

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DOCS = ROOT / "docs"
BUILD = ROOT / "build" / "website"
PAGES = BUILD / "docs"
SITE = BUILD / "site"

OTHER_PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "src/einthoven/predict/bundles/ptbxl/model_card.md": "model_card.md",
}
"""Pages outside of docs/, and their places in the site."""

OTHER_FILES = ["src/einthoven/data/sources/snomed.csv"]
"""Files outside of docs/ that pages link to. The site has them in files/."""

SPREAD = re.compile(r"(?<=\d) ± (?=\d)")
UNBROKEN_SPREAD = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"
"""No line of the site breaks inside of a mean with its spread, such as 0.92 ± 0.01."""

LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^)\s]+)\)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", action="store_true", help="write the pages, and build no site")
    arguments = parser.parse_args()

    collect(PAGES)
    if arguments.pages:
        return
    config = BUILD / "mkdocs.yml"
    config.write_text(site_configuration(PAGES))
    zensical = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--clean"]
    command = [*zensical, "--config-file", str(config)]
    result = subprocess.run(command, cwd=BUILD, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    print(result.stdout)
    if result.returncode:
        sys.exit("The site was not built.")
    problems = [line for line in result.stdout.splitlines() if line.startswith("griffe:")]
    problems += broken_links(SITE)
    if problems:
        print("\n".join(problems))
        sys.exit(f"{len(problems)} docstrings that do not fit their function, or links that lead nowhere.")
    print(f"The site is in {SITE.relative_to(ROOT)}. Open {SITE.relative_to(ROOT) / 'index.html'}.")


def collect(pages: Path) -> None:
    """Write all pages of the site into a new folder."""
    if pages.exists():
        shutil.rmtree(pages)
    shutil.copytree(DOCS, pages, ignore=shutil.ignore_patterns("recipes", "*.npz"))
    shutil.copy(HERE / "style.css", pages)
    (pages / "files").mkdir()
    for name in OTHER_FILES:
        shutil.copy(ROOT / name, pages / "files")
    write_api_pages(pages / "api")
    write_option_pages(pages / "reference" / "options")
    write_command_pages(pages / "reference" / "commands")

    for source in sorted(DOCS.rglob("*.md")):
        text = with_site_links(source.read_text(), source, source.relative_to(DOCS))
        (pages / source.relative_to(DOCS)).write_text(SPREAD.sub(UNBROKEN_SPREAD, text))
    for name, place in OTHER_PAGES.items():
        (pages / place).write_text(with_site_links((ROOT / name).read_text(), ROOT / name, Path(place)))
    (pages / "decisions" / "index.md").write_text(list_of_decisions())


def with_site_links(text: str, source: Path, place: Path) -> str:
    """Return a page whose links are those of the site.

    Parameters
    ----------
    text : str
        The page in Markdown.
    source : Path
        Its file in the repository, which its links start from.
    place : Path
        Its place in the site, relative to the top.
    """
    up = "../" * (len(place.parts) - 1)

    def replaced(match: re.Match[str]) -> str:
        label, link = match.groups()
        path, _, anchor = link.partition("#")
        if not path or "://" in path or path.startswith("mailto:"):
            return match[0]
        target = (source.parent / path).resolve()
        goal = site_place(target, label)
        if goal is None:
            # The site does not have this file. Its name stays, as text.
            return label[1:-1]
        # In a table, the name of a function is enough: its link leads to the module.
        is_in_table = text[text.rfind("\n", 0, match.start()) + 1] == "|"
        if is_in_table:
            label = re.sub(r"`[\w/]+\.py: ([\w.]+)`", r"`\1`", label)
        return f"{label}({up}{goal}{'#' if anchor and '#' not in goal else ''}{anchor})"

    return LINK.sub(replaced, text)


def site_place(target: Path, label: str) -> str | None:
    """Return where a file of the repository is in the site; None if it is not there."""
    name = target.relative_to(ROOT).as_posix()
    if name in OTHER_PAGES:
        return OTHER_PAGES[name]
    if name in OTHER_FILES:
        return f"files/{target.name}"
    if name == "README.md":
        return "index.md"
    if name == "docs/decisions":
        return "decisions/index.md"
    if name.startswith("src/einthoven/") and name.endswith(".py"):
        # The label of a link to code names a function, as in `models/mlp.py: DenseLayer`.
        function = re.search(r"\.py: ([\w.]+)`", label)
        return ANCHORS.place(name, function[1] if function else "")
    if target.is_relative_to(DOCS) and target.is_file() and "recipes" not in target.parts and target.suffix != ".npz":
        return target.relative_to(DOCS).as_posix()
    return None


def list_of_decisions() -> str:
    """Return the page that lists all decisions."""
    lines = ["# Decisions", "", "Each page says what was decided, why, and what else was considered.", ""]
    pages = sorted((DOCS / "decisions").glob("*.md"))
    lines += [f"- [{path.stem[:4]}: {title(path)}]({path.name})" for path in pages]
    return "\n".join(lines) + "\n"


def title(path: Path) -> str:
    """Return the first heading of a page. That of a decision is without its number."""
    heading = next(line for line in path.read_text().splitlines() if line.startswith("# "))
    return re.sub(r"^\d{4}[.:]?\s+", "", heading.removeprefix("# ")).strip()


def site_configuration(pages: Path) -> str:
    """Return the configuration of the site, with the pages of each folder in its navigation."""
    config: dict[str, Any] = yaml.safe_load((HERE / "mkdocs.yml").read_text())
    config["nav"] = with_folders(config["nav"], pages)
    handler = config["plugins"][1]["mkdocstrings"]["handlers"]["python"]
    handler["paths"] = [str(ROOT / "src")]
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def with_folders(entries: list[Any], pages: Path) -> list[Any]:
    """Replace the folders in a navigation by their pages. A folder that does not exist is left out."""
    replaced: list[Any] = []
    for entry in entries:
        if isinstance(entry, str):
            replaced.append(entry)
            continue
        ((name, value),) = entry.items()
        if isinstance(value, str) and value.endswith("/"):
            value = pages_of(pages / value, pages)
        elif isinstance(value, list):
            value = with_folders(value, pages)
        if value:
            replaced.append({name: value})
    return replaced


def pages_of(folder: Path, pages: Path) -> list[Any]:
    """Return the entries of a folder: its index first, then its pages by the names of their files."""
    entries: list[Any] = []
    for path in sorted(folder.glob("*.md"), key=lambda path: (path.name != "index.md", path.name)):
        place = path.relative_to(pages).as_posix()
        entries.append(place if path.name == "index.md" else {title(path): place})
    return entries


if __name__ == "__main__":
    main()
