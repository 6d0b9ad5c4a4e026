"""Names: which files are images, and what a category may be called."""

import os
import unicodedata
from collections.abc import Iterable, Sequence

from fade.errors import DataError

IMAGE_SUFFIXES = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
        *(".gif", ".ppm", ".pgm", ".pbm", ".pnm"),
    }
)
"""Suffixes of images and masks, in lower case; files may have them in either case."""

UNREAD_SUFFIXES = frozenset(
    {
        *(".avif", ".heic", ".heif", ".jp2", ".j2k", ".jpf", ".jpx", ".jxl", ".jxr", ".jif"),
        ".jfi",
        *(".tga", ".apng", ".ico", ".psd", ".exr", ".hdr", ".pfm", ".pam", ".pcx", ".qoi", ".svg"),
        *(".raw", ".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".raf", ".dcm"),
    }
)
"""Suffixes of images that are not read, in lower case."""

_RESERVED_CATEGORY = "mean"  # the row of averages in results/metrics.csv


def stem(path: str) -> str:
    """The path of a file without its suffix, by which images and masks are paired."""
    return os.path.splitext(path)[0]


def is_image(name: str) -> bool:
    """Tell whether a file's name has one of the known image suffixes.

    Examples:
        >>> is_image("000.PNG"), is_image("labels.csv"), is_image("000.heic")
        (True, False, False)
    """
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def looks_like_image(name: str) -> bool:
    """Tell whether a file's name has the suffix of an image, read or not.

    Examples:
        >>> looks_like_image("000.heic"), looks_like_image("labels.csv")
        (True, False)
    """
    suffix = os.path.splitext(name)[1].lower()
    return suffix in IMAGE_SUFFIXES or suffix in UNREAD_SUFFIXES


def is_text(name: str) -> bool:
    """Tell whether a file's name is UTF-8.

    Examples:
        >>> is_text("größe.png"), is_text(os.fsdecode(bytes([0xF6])))
        (True, False)
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def plain_name(name: str) -> str:
    """Return a name as it looks: in lower case, without spaces around it and format characters."""
    visible = (char for char in name if unicodedata.category(char) != "Cf")
    return "".join(visible).strip().lower()


def other_form(name: str, names: Iterable[str]) -> str | None:
    """Return the name among others that is the same text in another Unicode form, such as NFC and NFD.

    They look alike, and most file systems tell them apart; names from macOS are often decomposed. The
    name that is returned is quoted with escapes, which show the difference.

    Examples:
        >>> print(other_form("größe.png", ["a.png", "gro\\u0308ße.png"]))
        'gro\\u0308\\xdfe.png'
    """
    if name.isascii():
        return None
    text = unicodedata.normalize("NFC", name)
    same = (one for one in names if one != name and unicodedata.normalize("NFC", one) == text)
    return next(map(ascii, same), None)


def check_category(name: str, where: str) -> None:
    """Refuse names that could not stand in a path or in a table of results."""
    if name in ("", ".", "..") or any(char in "/\\" or char < " " for char in name):
        raise DataError(f"{where}: category {name!r} cannot be a folder's name; rename it")
    if not plain_name(name):
        raise DataError(f"{where}: category {name!r} is blank; rename it")
    if plain_name(name) == _RESERVED_CATEGORY:
        raise DataError(f"{where}: category {name!r} is the name of the averages; rename it")


def few(names: Sequence[str], most: int = 20) -> str:
    """Return names as a message has them: the first so many, and how many more.

    Examples:
        >>> few(["a.png", "b.png", "c.png"], 2)
        'a.png, b.png and 1 more'
    """
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def known_suffixes() -> str:
    """Return the known suffixes as a message has them, without dots."""
    return ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
