"""The graphs of a bundle's ONNX model: checked, and made ready to run, at need ahead of time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import fade.portable  # noqa: F401 - it tells onnxruntime to send nothing, before that is imported
from fade.errors import FadeError, StoreError
from pipeline.inference.bundle_file import BundleFile

if TYPE_CHECKING:
    from fade.portable.session import GraphSession

# numpy is not imported here: weights are held against their digest while it is

MODEL = "onnx/model.json"
WEIGHTS = "onnx/weights"


def graph_entry(name: str) -> str:
    """The entry of one of the model's graphs."""
    return f"onnx/{name}.onnx"


def digest_of(data: bytes | memoryview) -> str:
    """What a part is known by: SHA-256, which processors compute fastest of the strong ones."""
    return hashlib.sha256(data).hexdigest()


def check_digest(digests: Mapping[str, str], name: str, data: bytes | memoryview) -> None:
    """Refuse (ValueError) a part that is not the one that the model was written with."""
    if digests.get(name) != digest_of(data):
        raise ValueError(f"{name} is damaged")


def graph_sessions(
    file: BundleFile,
    digests: Mapping[str, str],
    graphs: Iterable[str],
    imported: Event | None = None,
    *,
    in_place: bool = False,
) -> dict[str, GraphSession]:
    """The model's graphs, ready to run, held against their digests with their weights.

    Args:
        file: the bundle.
        digests: SHA-256 by entry.
        graphs: names.
        imported: set when another thread has imported onnxruntime: two that import wait for each other.
        in_place: whether weights are read where they lie, in half the memory and a third less time.

    Raises:
        ValueError: one is damaged, or none that this program writes.
        StoreError: an entry cannot be read, or weights of eight bits multiply otherwise elsewhere.
    """
    weights = file.mapped(WEIGHTS)

    def made(place: tuple[Path, int] | None) -> dict[str, GraphSession]:
        sessions = {}
        for name in dict.fromkeys(graphs):
            graph = file.bytes(graph_entry(name))
            check_digest(digests, graph_entry(name), graph)
            try:
                sessions[name] = GraphSession(graph, weights, place)
            except InexactError:
                raise StoreError(
                    f"{file.path} has weights of full eight bits, with which processors decide "
                    "differently: write it again with `fade bundle --onnx --precision int8`"
                ) from None
        return sessions

    with ThreadPoolExecutor(1) as beside:  # both take as long as reading all weights
        checked = beside.submit(check_digest, digests, WEIGHTS, weights)
        if imported is not None:
            imported.wait()
        from fade.portable.check import InexactError
        from fade.portable.session import GraphSession

        sessions = None
        if in_place:
            with suppress(ValueError):
                sessions = made((file.path.resolve(), file.start(WEIGHTS)))
            if not file.is_there():  # the runtime opened it by its name
                sessions = None
        sessions = made(None) if sessions is None else sessions
        checked.result()
    return sessions


class GraphsAhead:
    """A bundle's graphs, made ready in a thread while the program imports the rest.

    What is wrong with the bundle is left to who opens it, and says so.

    Args:
        path: of the bundle.
        in_place: see :func:`graph_sessions`.
    """

    def __init__(self, path: Path, *, in_place: bool = False) -> None:
        self._made: Future[tuple[Mapping[str, str], dict[str, GraphSession]]] | None = None
        with suppress(FadeError):
            file = BundleFile(path)
            if MODEL in file.entries:
                imported, pool = Event(), ThreadPoolExecutor(1)
                self._made = pool.submit(self._make, file, imported, in_place)
                pool.shutdown(wait=False)
                try:
                    import onnxruntime  # noqa: F401

                    import fade.portable.session  # noqa: F401
                except ImportError:  # GraphSession says so
                    pass
                finally:
                    imported.set()

    @staticmethod
    def _make(
        file: BundleFile, imported: Event, in_place: bool
    ) -> tuple[Mapping[str, str], dict[str, GraphSession]]:
        content = file.json(MODEL)
        digests = dict(content["digests"])
        graphs = [one["graph"] for one in content["features"].values()]
        return digests, graph_sessions(file, digests, graphs, imported, in_place=in_place)

    def sessions(self, digests: Mapping[str, str]) -> dict[str, GraphSession] | None:
        """The graphs, if those that were made are of these digests."""
        if self._made is None or self._made.exception() is not None:
            return None
        made, sessions = self._made.result()
        return sessions if made == digests else None
