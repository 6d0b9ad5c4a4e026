"""All folders below one, those that links lead to included."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator


def folders_below(
    root: str, onerror: Callable[[OSError], None] | None = None
) -> Iterator[tuple[str, list[str], list[str]]]:
    """A folder and those below it, as :func:`os.walk` gives them: place, folders, files.

    Links to folders elsewhere are followed, each such folder once, and so are those to hidden ones. One
    that a hidden path led to is given again by a path that is not. A link that leads to another folder
    below the root is not followed, since that is found in its place, nor is one that leads to a folder
    above.

    Args:
        onerror: takes the error of a folder that cannot be listed.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     for name in ("line/monday", "camera"):
        ...         Path(place, name).mkdir(parents=True)
        ...     for name, to in (("latest", "monday"), ("camera", "../camera"), ("up", "..")):
        ...         Path(place, "line", name).symlink_to(to)
        ...     sorted(os.path.basename(folder) for folder, _, _ in folders_below(f"{place}/line"))
        ['camera', 'line', 'monday']
    """
    top, elsewhere = os.path.realpath(root), dict[str, str]()
    seen: set[tuple[str, bool]] = set()
    for place, folders, files in os.walk(root, onerror=onerror, followlinks=True):
        kept = []
        for name in sorted(folders):
            path, real = os.path.join(place, name), None
            if os.path.islink(path):
                real = os.path.realpath(path)
                above = os.path.commonpath([real, top])
                if above == real or (above == top and not is_hidden(os.path.relpath(real, top))):
                    continue
            elif place in elsewhere:
                real = os.path.join(elsewhere[place], name)
            if real is not None:
                # who passes over what is hidden gets the folder by its other path
                hidden = is_hidden(os.path.relpath(path, root))
                if not {(real, False), (real, hidden)}.isdisjoint(seen):
                    continue
                seen.add((real, hidden))
                elsewhere[path] = real
            kept.append(name)
        folders[:] = kept
        yield place, folders, files


def is_hidden(path: str) -> bool:
    """Whether a relative path has a part that systems hide.

    Examples:
        >>> is_hidden("line/.trash/007.png"), is_hidden("./line/007.png"), is_hidden("../a.b")
        (True, False, False)
    """
    return any(part.startswith(".") and part.strip(".") for part in path.split(os.sep))
