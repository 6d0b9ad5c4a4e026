"""Whether a run may write into its project, asked before DVC fails at it."""

from __future__ import annotations

import os
from pathlib import Path

from fade.errors import StoreError
from pipeline.artefacts.catalogue import ARTEFACTS

PLACES = (
    Path(), Path(".dvc"), Path(".dvc/tmp"), Path(".dvc/cache"),
    *dict.fromkeys(one.path.parent for one in ARTEFACTS), *(one.path for one in ARTEFACTS),
)  # fmt: skip
"""What a run writes, and the folders around it; of these, those that are folders are asked."""


def check_writable() -> None:
    """Refuse this project if its user, or a disk that is read-only, lets nobody write into it.

    Raises:
        StoreError: naming the folder.
    """
    for path in PLACES:
        if path.is_dir() and not os.access(path, os.W_OK | os.X_OK):
            raise StoreError(
                f"{path.resolve()} cannot be written to, and a run writes there: change its rights, or "
                "copy the project to where you may write"
            )
