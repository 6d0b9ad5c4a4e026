"""Builds the site: ``python -m docs.site [--serve]``; its first page is build/docs/html/index.html."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from docs.site.pages import FOLDERS, ROOT, broken_links, pages

BUILD = ROOT / "build" / "docs"


def write_sources(folder: Path = BUILD) -> None:
    """Write what the site generator reads: pages, pictures, notebooks, styles, its configuration."""
    shutil.rmtree(folder, ignore_errors=True)
    target = folder / "pages"
    for name in FOLDERS:
        shutil.copytree(ROOT / "docs" / name, target / name)
    for name, text in pages().items():
        (target / name).write_text(text, encoding="utf-8")
    here = Path(__file__).parent
    shutil.copy(here / "style.css", target / "style.css")
    shutil.copy(here / "mkdocs.yml", folder / "mkdocs.yml")


def main() -> int:
    """Check links, then build; 1 if a link is broken or the generator warns of anything."""
    parser = argparse.ArgumentParser(prog="python -m docs.site", description=__doc__)
    parser.add_argument("--serve", action="store_true", help="serve the site on this machine")
    serve = parser.parse_args().serve
    broken = broken_links(pages())
    for line in broken:
        print(f"broken link: {line}", file=sys.stderr)
    if broken:
        return 1
    write_sources()
    action = ["serve"] if serve else ["build", "--strict", "--clean"]
    done = subprocess.run(
        [sys.executable, "-m", "zensical", *action, "-f", str(BUILD / "mkdocs.yml")]
    )
    if not done.returncode and not serve:
        print(f"site: {BUILD / 'html' / 'index.html'}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
