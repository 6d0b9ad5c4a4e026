"""The model of a bundle that runs on onnxruntime: what its parts must be."""

from __future__ import annotations

import numpy as np

from fade.portable.session import GraphSession
from fade.text.archive import read_archive
from pipeline.features.onnx_encoder import GraphModel, OnnxEncoder
from pipeline.inference.bundle_file import BundleFile
from pipeline.inference.bundle_graphs import MODEL, GraphsAhead, check_digest, graph_sessions

POSITIONS = "onnx/positions.npz"
PROMPTS = "onnx/prompts.npz"


class OnnxEntries:
    """The entries of a bundle that make its model.

    Args:
        file: the bundle.
        ahead: its graphs, where they are made ready already.

    Raises:
        ValueError, KeyError, TypeError: the content is of no model.
    """

    def __init__(self, file: BundleFile, ahead: GraphsAhead | None = None) -> None:
        self.model, self._file, self._ahead = GraphModel.of(file.json(MODEL)), file, ahead

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
        model = self.model
        made = None if self._ahead is None else self._ahead.sessions(model.digests)
        graphs = (one.graph for one in model.features.values())
        return made or graph_sessions(self._file, model.digests, graphs)

    def _arrays(self, name: str) -> dict[str, np.ndarray]:
        data = self._file.bytes(name)
        check_digest(self.model.digests, name, data)
        return read_archive(data)
