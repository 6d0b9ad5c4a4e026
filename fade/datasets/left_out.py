"""Why a reader leaves an image out, and how it says so."""

from collections.abc import Callable

Note = Callable[[str, str], None]
"""Takes the path that a reader leaves out, relative to the root, and the reason.

The path is that of an image or mask, or ends in ``/`` and stands for all files of a folder.
"""

BEYOND_LIMIT = "beyond dataset.limit"
OTHER_CATEGORY = "of a category that dataset.categories does not name"
DEFECT_IN_TRAINING = "a training image with a defect"
VALIDATION = "a validation image, which no stage uses"


def ignore(path: str, reason: str) -> None:
    """Take note of nothing."""
