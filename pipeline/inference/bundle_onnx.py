"""The model of a bundle that runs on onnxruntime: where its parts lie, and what they must be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from fade.portable.session import GraphSession
from fade.text.archive import read_archive
from pipeline.features.onnx_encoder import GraphModel, OnnxEncoder

MODEL = "onnx/model.json"
WEIGHTS = "onnx/weights"
POSITIONS = "onnx/positions.npz"
PROMPTS = "onnx/prompts.npz"


def graph_entry(name: str) -> str:
    """The entry of one of the model's graphs."""
    return f"onnx/{name}.onnx"


def digest_of(data: bytes | np.ndarray) -> str:
    """What a part is known by: SHA-256, which processors compute fastest of the strong ones."""
    return hashlib.sha256(data.data if isinstance(data, np.ndarray) else data).hexdigest()


class OnnxEntries:
    """The entries of a bundle that make its model.

    Args:
        content: of :data:`MODEL`.
        read: gives the bytes of an entry.
        mapped: gives them where they lie, for large ones.

    Raises:
        ValueError, KeyError, TypeError: the content is of no model.
    """

    def __init__(
        self,
        content: Mapping[str, Any],
        read: Callable[[str], bytes],
        mapped: Callable[[str], np.ndarray],
    ) -> None:
        self.model, self._read, self._mapped = GraphModel.of(content), read, mapped

    def encoder(self) -> OnnxEncoder:
        """The model, its weights read and held against their digest."""
        sessions, positions = self._sessions(), self._arrays(POSITIONS)
        for name, array in positions.items():
            if array.dtype != np.float32 or array.ndim != 2 or not np.isfinite(array).all():
                raise ValueError(f"the positions {name} are {array.dtype} of shape {array.shape}")
        return OnnxEncoder(self.model, sessions, positions)

    def prompts(self, name: str) -> np.ndarray:
        """Embeddings of prompts, (n, dim) float32."""
        found = self._arrays(PROMPTS)[name]
        if found.dtype != np.float32 or found.ndim != 2 or not np.isfinite(found).all():
            raise ValueError(f"the prompts' embeddings {name} have shape {found.shape}")
        return found

    def _sessions(self) -> dict[str, GraphSession]:
        weights, sessions = self._mapped(WEIGHTS), {}
        with ThreadPoolExecutor(1) as beside:  # both take as long as reading all weights
            checked = beside.submit(self._check, WEIGHTS, weights)
            for name in dict.fromkeys(one.graph for one in self.model.features.values()):
                graph = self._read(graph_entry(name))
                self._check(graph_entry(name), graph)
                sessions[name] = GraphSession(graph, weights)
            checked.result()
        return sessions

    def _arrays(self, name: str) -> dict[str, np.ndarray]:
        data = self._read(name)
        self._check(name, data)
        return read_archive(data)

    def _check(self, name: str, data: bytes | np.ndarray) -> None:
        if self.model.digests.get(name) != digest_of(data):
            raise ValueError(f"{name} is damaged")
