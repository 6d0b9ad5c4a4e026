"""Opens the files of a location: of a folder, or of a URL."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from cache.files import Files, LocalFiles, Location
from fade.errors import ParameterError
from fade.types import DataPath

SCHEMES = ("s3", "gs", "az", "memory", "file")
"""Schemes of the URLs that can be opened; a store in memory lasts as long as its process."""


def open_files(location: Location) -> Files:
    """The files below a folder or a URL. Nothing is read or made yet.

    Raises:
        ParameterError: a URL that cannot be opened. It is not repeated where it may hold credentials.

    Examples:
        >>> open_files("memory://example").exists("store.json")
        False
    """
    place = located(location)
    if isinstance(place, Path):
        return LocalFiles(place)
    from cache.objects import ObjectFiles

    return ObjectFiles(place)


def open_path(location: Location) -> DataPath:
    """A folder or file of a data set: as ``pathlib.Path`` where it is local.

    Raises:
        ParameterError: a URL that cannot be opened.

    Examples:
        >>> open_path("data/mvtec").name, open_path("s3://bucket/mvtec").parent.name
        ('mvtec', 'bucket')
    """
    place = located(location)
    if isinstance(place, Path):
        return place
    from cache.objectpath import ObjectPath

    parts = urlsplit(place)
    return ObjectPath(f"{parts.scheme}://{parts.netloc}", unquote(parts.path).strip("/"))


def located(location: Location) -> Location:
    """A path where the location is on this machine, else its checked URL.

    Raises:
        ParameterError: a URL that cannot be opened.

    Examples:
        >>> located("file:///data/a%20store"), located("s3://bucket/store/")
        (PosixPath('/data/a store'), 's3://bucket/store')
    """
    if isinstance(location, Path) or "://" not in location:
        return Path(location)
    url = check_url(location)
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else url


def refuse_half_url(location: str) -> None:
    """Refuse a URL that lacks a slash: it would name a folder here.

    Raises:
        ParameterError: with both ways to mean it.

    Examples:
        >>> refuse_half_url("s3:/bucket/store")
        Traceback (most recent call last):
            ...
        fade.errors.ParameterError: s3:/bucket/store would be a folder here: write s3://bucket/prefix ...
    """
    scheme, colon, rest = location.strip().partition(":")
    if colon and scheme.lower() in SCHEMES and not rest.startswith("//"):
        form = "file:///path/to/folder" if scheme.lower() == "file" else f"{scheme}://bucket/prefix"
        raise ParameterError(
            f"{location} would be a folder here: write {form} for a URL, ./{location} for the folder"
        )


def check_url(url: str) -> str:
    """A URL without its last slash.

    Raises:
        ParameterError: an unknown scheme, no bucket, or credentials in it.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = None
    if parts is None or "@" in parts.netloc or parts.query or parts.fragment or "?" in url:
        raise ParameterError(
            "a URL of a store or data set is s3://bucket/prefix or the like, without user, password or "
            "query: credentials belong into the environment (docs/store.md)"
        )
    if parts.scheme not in SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise ParameterError(f"{url} starts with none of {known}")
    if parts.scheme == "file" and (parts.netloc or not parts.path.strip("/")):
        raise ParameterError(f"{url} is not file:///path/to/folder")
    if parts.scheme != "file" and not parts.netloc:
        raise ParameterError(f"{url} names no bucket: give {parts.scheme}://bucket/prefix")
    if ".." in unquote(parts.path).split("/"):
        raise ParameterError(f"{url} has .. in it: give the whole URL")
    return url.rstrip("/")
