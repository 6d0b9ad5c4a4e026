"""What to do about folders that no layout fits."""

from fade.datasets.labels import meaning
from fade.datasets.listing import list_folder
from fade.datasets.names import few, plain_name
from fade.types import DataPath

_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("groundtruth", "ground_truth", "masks"), "ground_truth"),
}
"""Folders of a layout by the names that people give them, in lower case."""
_LOOKED_AT = 20
"""Folders that are looked into: the first tell as much as all."""


def layout_advice(root: DataPath) -> str | None:
    """Return how to change a folder without ``train/`` and ``test/`` into one that is read.

    It names folders that are called almost as a layout has them, good and bad images without a split, and
    a data set one folder deeper. None where none of these is there. Raises DataError for folders that
    cannot be listed.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     Path(place, "Train").mkdir()
        ...     Path(place, "Test").mkdir()
        ...     print(layout_advice(Path(place)))
        rename Test to test, Train to train
    """
    folders = list_folder(root).folders if root.is_dir() else []
    inner = {name: list_folder(root / name).folders for name in folders[:_LOOKED_AT]}
    for prefix, names in (("", folders), *((f"{name}/", found) for name, found in inner.items())):
        if advice := _rename(prefix, names) or _split(root, prefix, names):
            return advice
    for name, found in inner.items():
        for deeper in found[:_LOOKED_AT]:
            if {"train", "test"} & set(list_folder(root / name / deeper).folders):
                return f"the data set lies one folder deeper: name {root / name}"
    return None


def _rename(prefix: str, names: list[str]) -> str | None:
    """Which folders to rename, if train or test is among them."""
    right = {
        name: _PARTS.get(plain_name(name).replace("-", "_").replace(" ", "_")) for name in names
    }
    wrong = [name for name, part in right.items() if part and part != name]
    if not {"train", "test"} & {right[name] for name in wrong}:
        return None
    return f"rename {few([f'{prefix}{name} to {prefix}{right[name]}' for name in wrong])}"


def _split(root: DataPath, prefix: str, names: list[str]) -> str | None:
    """How to split good and bad images, if that is what the folders hold."""
    good = next((name for name in names if meaning(name) == "good"), None)
    if good is None or not list_folder(root / prefix / good).files:
        return None
    others = [name for name in names if name != good and list_folder(root / prefix / name).files]
    if not others:
        return f"for a folder of good images alone name {root / prefix / good}"
    moved = ", ".join(f"{prefix}{name} to {prefix}test/{name}" for name in others[:5])
    return (
        f"{prefix}{good} and {prefix}{others[0]} are not split: move some images of {prefix}{good} to "
        f"{prefix}train/good, its others to {prefix}test/good, and {moved}"
    )
