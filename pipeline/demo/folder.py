"""Writes a folder of images whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from fade.errors import ParameterError


def write_whole(out: Path, fill: Callable[[Path], None], force: bool = False) -> None:
    """Write a folder through another one, so that it is never seen half.

    Args:
        out: the folder.
        fill: writes its content into a folder that is there and empty.
        force: replace what is there.

    Raises:
        ParameterError: the place is a file, or, without ``force``, a folder that is not empty.
    """
    out = out.absolute()
    if out.exists() and not out.is_dir():
        raise ParameterError(f"{out} is not a folder; name a folder for the demo data set")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise ParameterError(f"{out} is not empty; name another folder, or replace it with --force")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        made = Path(scratch) / "data"
        made.mkdir()
        fill(made)
        if not out.exists():
            made.rename(out)
            return
        old = Path(scratch) / "old"
        out.rename(old)
        try:
            made.rename(out)
        except BaseException:
            old.rename(out)
            raise
