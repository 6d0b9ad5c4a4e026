"""What results were computed with: versions of packages, revisions of the code and of the project."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fade import __version__

NUMERIC_PACKAGES = (
    "torch", "open_clip_torch", "faiss-cpu", "faiss-gpu", "numpy", "pillow", "scikit-learn",
    "opencv-python-headless", "zarr", "dask",
)  # fmt: skip
"""Packages whose numbers go into results."""
WRITTEN_BY_DVC = (":(exclude)dvc.lock", ":(exclude)results", ":(exclude)logs")
CHANGED = "+changes"
"""Marks a revision whose files were changed since."""
_CODE = Path(__file__).parents[2]


def made_with(project: Path = Path()) -> dict[str, Any]:
    """Versions, and the git revisions of the project's folder and of this code, where they have one."""
    return {
        "versions": versions(),
        "project": revision(project),
        # an installed package may lie inside of somebody's repository, which says nothing of it
        "code": revision(_CODE) if (_CODE / ".git").exists() else None,
    }


def versions() -> dict[str, str]:
    """Version by package, this one, Python and the platform included."""
    found = {
        "fade-pipeline": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }
    for package in NUMERIC_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def revision(folder: Path) -> str | None:
    """The commit that a folder is at, :data:`CHANGED` behind it where tracked files differ.

    What DVC writes while it runs the stages does not count as a change. None where there is no
    repository, no commit, or no git.
    """
    commit = git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    status = ("status", "--porcelain", "--untracked-files=no", "--", ".", *WRITTEN_BY_DVC)
    return commit + (CHANGED if git(folder, *status) != "" else "")


def git(folder: Path, *arguments: str) -> str | None:
    """What git says of a folder; None where it refuses, or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            # a look must not take the lock that DVC or an editor may want
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if not done.returncode else None


def data_fingerprint(images: Iterable[tuple[str, str]]) -> str:
    """Hash of all images of a run, each with its path and its content's hash; 40 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=20)
    for path, content in images:
        digest.update(f"{content} {path}\0".encode())
    return digest.hexdigest()


def contents_by_category(images: Iterable[tuple[str, str, str, str | None]]) -> dict[str, str]:
    """Hash of the images of each category, in whatever order they come; 40 hexadecimal digits.

    Args:
        images: each with its category, its name without suffix, and the hashes of its content and of its
            mask's; None without a mask.
    """
    sums: dict[str, int] = {}
    for category, name, content, mask in images:
        row = f"{content} {mask or ''} {name}".encode("utf-8", "surrogateescape")
        number = int.from_bytes(hashlib.blake2b(row, digest_size=20).digest())
        sums[category] = (sums.get(category, 0) + number) % (1 << 160)
    return {category: f"{total:040x}" for category, total in sums.items()}


def flattened(content: dict[str, Any]) -> dict[str, str]:
    """What :func:`made_with` found, a line each for people."""
    lines = {
        f"{name}'s git revision": content[name] or "none"
        for name in ("project", "code")
        if name in content
    }
    return {**content.get("versions", {}), **lines}
