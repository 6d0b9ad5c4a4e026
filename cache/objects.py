"""Files in an object store (S3 and what speaks like it, Google Cloud, Azure), through obstore."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from cache.files import Listed, Location
from fade.errors import ParameterError
from fade.types import Names

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

T = TypeVar("T")
R = TypeVar("R")

THREADS = 16
"""Requests side by side: an object store's time is waiting."""
PAGE = 1000
"""Names that a listing brings at once."""
DELETE = 200
"""Objects deleted in one call."""
RETRY: RetryConfig = {
    "max_retries": 6,
    "backoff": {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=10),
        "base": 2,
    },
    "retry_timeout": timedelta(minutes=2),
}
"""Server errors (5xx), 429, timeouts and lost connections are tried again, then reported."""
WAITS = (0.5, 2.0)
"""Seconds before further tries of what obstore gives up at once."""
CLIENT: ClientConfig = {
    "connect_timeout": timedelta(seconds=5),
    "timeout": timedelta(minutes=1),
}
"""A request takes a minute at most; what is read or written at once is a few MB."""

_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
"""Variables that lead to another server than the cloud's own."""
_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE with boto3 installed, or "
    "AWS_SKIP_SIGNATURE=true for a public bucket",
    "gs": "set GOOGLE_SERVICE_ACCOUNT to a key file, or run `gcloud auth application-default login`",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
# what obstore says when it found no credentials and asks the machine's own metadata service
_NO_CREDENTIALS = re.compile(
    r"Missing ?\w*(?:Key|Account|Credential|Token)|169\.254\.169\.254|metadata\.google\.internal"
    r"|169\.254\.170\.2|Account must be specified|from session\.get_credentials|oauth",
    re.IGNORECASE,
)


class ObjectFiles:
    """Objects below a URL. An object appears whole or not at all: no renaming is needed."""

    remote = True
    at_once = 8 << 20

    def __init__(self, url: str) -> None:
        if importlib.util.find_spec("obstore") is None:
            raise ParameterError(
                f"{url} needs the package obstore: pip install 'fade-pipeline[cloud]'"
            )
        self.location: Location = url
        self._url = url

    @property
    def _client(self) -> ObjectStore:
        return _client(self._url)

    def read(self, name: str, most: int) -> bytes:
        """See :class:`cache.files.Files`."""
        import obstore

        def get() -> bytes | None:
            result = obstore.get(self._client, name)
            return bytes(result.bytes()) if result.meta["size"] <= most else None

        data = self._call(name, get)
        if data is None:
            raise ValueError(f"it is larger than {most:,} bytes")
        return data

    def read_into(self, name: str, pieces: Sequence[tuple[int, memoryview]]) -> None:
        """See :class:`cache.files.Files`. Ranges that lie near to each other take one request."""
        import obstore

        starts = [offset for offset, _ in pieces]
        lengths = [buffer.nbytes for _, buffer in pieces]

        def get() -> list[Any]:
            try:
                return list(obstore.get_ranges(self._client, name, starts=starts, lengths=lengths))
            except obstore.exceptions.GenericError as error:
                if re.search(r"416 Range|Wanted range", str(error)):
                    return []
                raise

        found = self._call(name, get)
        if [len(data) for data in found] != lengths:
            raise ValueError("it is cut short")
        for (_, buffer), data in zip(pieces, found, strict=True):
            buffer[:] = memoryview(data)

    def write(self, name: str, data: bytes | memoryview) -> None:
        """See :class:`cache.files.Files`."""
        import obstore

        self._call(name, lambda: obstore.put(self._client, name, data))

    def stat(self, name: str) -> Listed:
        """Size and time of a file."""
        import obstore

        found = self._call(name, lambda: obstore.head(self._client, name))
        return Listed(name, found["size"], found["last_modified"].timestamp())

    def exists(self, name: str) -> bool:
        """See :class:`cache.files.Files`."""
        try:
            self.stat(name)
        except FileNotFoundError:
            return False
        return True

    def names(self, folder: str) -> Names:
        """See :class:`cache.files.Files`."""
        import obstore

        found = self._call(
            folder, lambda: obstore.list_with_delimiter(self._client, folder or None)
        )
        files = (entry["path"].rpartition("/")[2] for entry in found["objects"])
        folders = (path.rpartition("/")[2] for path in found["common_prefixes"])
        return Names(sorted(files), sorted(folders))

    def list(self, folder: str) -> Iterator[Listed]:
        """See :class:`cache.files.Files`. Names come in pages."""
        import obstore

        last: str | None = None
        pages: Any = None

        def turn() -> Any:
            nonlocal pages
            if pages is None:  # at first, or where a lost page would have begun
                pages = iter(
                    obstore.list(self._client, folder or None, offset=last, chunk_size=PAGE)
                )
            current, pages = pages, None
            page = next(current, None)
            pages = current
            return page

        while page := self._call(folder, turn):
            for entry in page:
                yield Listed(entry["path"], entry["size"], entry["last_modified"].timestamp())
            last = page[-1]["path"]

    def sizes(self, folder: str, names: Sequence[str]) -> Sequence[int]:
        """See :class:`cache.files.Files`. The folder is listed: a page costs what one file would."""
        found = {file.name: file.bytes for file in self.list(folder)} if names else {}
        return [found.get(f"{folder}/{name}", -1) for name in names]

    def delete(self, names: Iterable[str]) -> None:
        """See :class:`cache.files.Files`."""
        import obstore

        kept = list(names)
        for start in range(0, len(kept), DELETE):
            part = kept[start : start + DELETE]
            self._call(part[0], partial(obstore.delete, self._client, part))

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """See :class:`cache.files.Files`."""
        work = list(items)
        return map(function, work) if len(work) < 2 else _pool().map(function, work)

    def _call(self, name: str, function: Callable[[], R]) -> R:
        """Call obstore, again where it does not itself: an answer that was cut short.

        Every call here may be repeated. Errors, which are long and may quote requests, become a line.
        """
        from obstore.exceptions import BaseError

        for wait in (*WAITS, None):
            try:
                return function()
            except (BaseError, OSError) as error:
                if isinstance(error, OSError) and error.errno:  # said already
                    raise
                absent = isinstance(error, FileNotFoundError)
                problem = _explain(str(error), self._url, absent)
                if wait is None or not problem.again:
                    kind = FileNotFoundError if problem.number == errno.ENOENT else OSError
                    raise kind(problem.number, problem.line, f"{self._url}/{name}") from None
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")


class _Problem(NamedTuple):
    number: int
    line: str
    again: bool = False
    """Whether another try may help that obstore did not make."""


def _explain(text: str, url: str, absent: bool) -> _Problem:
    """What an error of obstore means; its text quotes requests and is not repeated where known."""
    bucket, scheme = urlsplit(url).netloc, urlsplit(url).scheme
    status = re.search(r"status(?: code)?: (\d{3})", text)
    code = int(status[1]) if status else 0
    retried = re.search(r"after (\d+) retries", text)
    tries = f", after {retried[1]} retries" if retried else ""
    if "NoSuchBucket" in text or "ContainerNotFound" in text:
        return _Problem(errno.ENXIO, f"there is no bucket {bucket}: make it, or correct the URL")
    if absent:
        return _Problem(errno.ENOENT, "it is not there")
    if _NO_CREDENTIALS.search(text):
        return _Problem(errno.EACCES, f"no credentials: {_CREDENTIALS.get(scheme, 'set them')}")
    if code in (401, 403):
        line = f"access denied ({code}): check the credentials and what they may do"
        return _Problem(errno.EACCES, line)
    if code == 301 or "redirect" in text:
        return _Problem(errno.EIO, "the bucket is in another region: set AWS_REGION to it")
    if code:
        line = f"the server answers with error {code}{tries}: try again later"
        return _Problem(errno.EIO, line)
    if "TimedOut" in text or "kind: Timeout" in text or "timed out" in text:
        return _Problem(errno.ETIMEDOUT, f"no answer in time{tries}: try again later", not tries)
    if "HTTP" in text or "Http" in text:
        line = f"no connection to the server{tries}: check the network and the endpoint"
        return _Problem(errno.EIO, line, not tries)
    said = text.splitlines()[0][:200] if text else "an unknown error"
    return _Problem(errno.EIO, re.sub(r"\?\S+", "", said))  # queries may hold signatures


@lru_cache(maxsize=16)
def _client(url: str) -> ObjectStore:
    """The client of a URL; it keeps its connections, and memory its content.

    Raises:
        OSError: obstore does not take the URL, or there are no credentials.
    """
    import obstore.store
    from obstore.exceptions import BaseError

    scheme = urlsplit(url).scheme
    if scheme == "memory":
        return obstore.store.MemoryStore()
    options: dict[str, Any] = {}
    client: ClientConfig = {**CLIENT}
    if _environment(*_ENDPOINTS[scheme]).startswith("http://"):
        client["allow_http"] = True  # asked for in so many words
    if scheme == "s3":
        options = _aws_options()
    try:
        return obstore.store.from_url(url, client_options=client, retry_config=RETRY, **options)
    except (BaseError, ValueError) as error:
        problem = _explain(str(error), url, False)
        raise OSError(problem.number, problem.line, url) from None


def _aws_options() -> dict[str, Any]:
    """Where obstore does not look itself: the profiles and logins of the AWS tools, with boto3."""
    own = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE")
    if _environment(*own) or importlib.util.find_spec("boto3") is None:
        return {}
    import boto3
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return {"credential_provider": Boto3CredentialProvider(boto3.Session())}
    except BotoCoreError as error:
        line = f"no credentials ({type(error).__name__}): {_CREDENTIALS['s3']}"
    except ValueError:
        line = f"no credentials: {_CREDENTIALS['s3']}"
    raise PermissionError(errno.EACCES, line, "s3://")


def _environment(*names: str) -> str:
    """The first variable that is set, or nothing."""
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="objects")
