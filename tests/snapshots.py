"""What a folder holds, for tests that nothing in it changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

ALLOWED = frozenset({"logs", "__pycache__"})
"""Folders that a read-only command may write to: its log, and Python's own cache."""


def snapshot(folder: Path) -> dict[str, str]:
    """Every file, folder and link by name, with its content's hash; without :data:`ALLOWED`."""
    found: dict[str, str] = {}
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - ALLOWED)
        for name in folders + files:
            path = Path(where, name)
            if path.is_symlink():
                kind = f"link to {os.readlink(path)}"
            elif path.is_dir():
                kind = "folder"
            else:
                kind = hashlib.blake2b(path.read_bytes()).hexdigest()
            found[str(path.relative_to(folder))] = f"{path.lstat().st_mode:o} {kind}"
    return found
