"""The pages of the site: which files they come from, generated parts filled in, links checked."""

from __future__ import annotations

import html
import posixpath
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote

from docs.site import artefacts, commands, parameters

ROOT = parameters.ROOT
ELSEWHERE = {
    "benchmarks/results.md": "results.md",
    "benchmarks/notes.md": "measurements.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "prompts/README.md": "prompts-folder.md",
}
"""Pages whose files lie outside docs/, and their names on the site."""
GENERATED: Mapping[str, Callable[[], str]] = {
    "artefacts": artefacts.markdown,
    "parameters": parameters.markdown,
    "commands": commands.markdown,
}
"""What ``<!-- generated: NAME -->`` in a page stands for."""
_MARKER = re.compile(r"^<!-- generated: (\w+) -->$", re.M)
_LINK = re.compile(r"(?<!`)(?P<text>!?\[[^\]]*\])\((?P<target>[^)\s]+)\)")
_FENCE = re.compile(r"^ *(```|~~~).*?^ *\1 *$", re.M | re.S)
_HEADING = re.compile(r"^#{1,6} +(.*?)(?: *\{#([\w.-]+)\})?$", re.M)


FOLDERS = ("images/", "notebooks/")
"""Of docs/, whose files go beside the pages."""


def sources(root: Path = ROOT) -> dict[str, str]:
    """Name on the site and file in the repository of every page; paths with ``/``."""
    inside = {file.name: f"docs/{file.name}" for file in sorted((root / "docs").glob("*.md"))}
    return inside | {name: file for file, name in ELSEWHERE.items()}


def pages(root: Path = ROOT) -> dict[str, str]:
    """The text of every page, by its name on the site."""
    return {
        name: relinked(filled((root / file).read_text(encoding="utf-8")), file)
        for name, file in sources(root).items()
    }


def filled(text: str) -> str:
    """A page with its generated parts in place of their markers."""
    return _MARKER.sub(lambda found: GENERATED[found[1]]().rstrip(), text)


def relinked(text: str, file: str) -> str:
    """A page whose links between files of the repository lead to pages of the site."""
    names = {source: name for name, source in sources().items()}

    def link(found: re.Match[str]) -> str:
        path, hash_sign, anchor = found["target"].partition("#")
        if not path or "://" in path or path.startswith("mailto:"):
            return found[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(file), path))
        name = names.get(target, target.removeprefix("docs/"))
        return f"{found['text']}({name}{hash_sign}{anchor})"

    return _outside_fences(text, lambda part: _LINK.sub(link, part))


def broken_links(texts: Mapping[str, str], root: Path = ROOT) -> list[str]:
    """Links of pages to pages, headings and pictures that are not there, one line each."""
    anchors = {name: headings(text) for name, text in texts.items()}
    broken = []
    for name, text in texts.items():
        for found in _LINK.finditer(_outside_fences(text, str, "")):
            path, _, anchor = unquote(found["target"]).partition("#")
            if "://" in path or path.startswith("mailto:"):
                continue
            page = path or name
            if page in anchors:
                there = not anchor or anchor in anchors[page]
            else:
                there = page.startswith(FOLDERS) and (root / "docs" / page).is_file()
            if not there:
                broken.append(f"{name}: {found['target']}")
    return broken


def headings(text: str) -> set[str]:
    """The anchors of a page's headings, as the site and GitHub make them."""
    found: set[str] = set()
    for match in _HEADING.finditer(_outside_fences(text, str, "")):
        slug = match[2] or slugify(match[1])
        while slug in found:
            head, _, number = slug.rpartition("_")
            slug = f"{head}_{int(number) + 1}" if head and number.isdigit() else f"{slug}_1"
        found.add(slug)
    return found


def slugify(title: str, separator: str = "-") -> str:
    """A heading's anchor, as GitHub makes it: lower case, punctuation gone, spaces as hyphens."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|<[^>]*>", r"\1", html.unescape(title))
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", separator)


def _outside_fences(text: str, change: Callable[[str], str], fence: str | None = None) -> str:
    """A text whose parts outside fenced blocks are changed; the blocks stay, or become ``fence``."""
    parts, end = [], 0
    for found in _FENCE.finditer(text):
        parts += [change(text[end : found.start()]), found[0] if fence is None else fence]
        end = found.end()
    return "".join([*parts, change(text[end:])])
