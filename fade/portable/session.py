"""Runs checked ONNX graphs with onnxruntime on the CPU."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fade.errors import ModelError
from fade.portable.check import ALIGNMENT, check_exact, check_graph
from fade.portable.placing import placed

QUIET = 4
"""onnxruntime's level of what ends a process: of a graph that fails it tells by an exception, too, and
its warnings speak of things that its users cannot change."""

FOLDER = "session.model_external_initializers_file_folder_path"
"""onnxruntime's option: where files of weights lie."""
KERNEL = 4
"""Axes of a convolution's weights."""
CONVOLUTIONAL = 2
"""From so many convolutions on onnxruntime's layouts for them pay: a transformer has one."""
PACKED = 1 << 20
"""Arrays of so many bytes are packed for products: the runtime reads them once."""


class GraphSession:
    """A graph that is ready to run.

    Args:
        graph: the ONNX file.
        weights: of the file that it shares with others.
        place: a file that holds them, and from which byte on. Large arrays are then read from it in
            place of being copied. It must not change before the session is there.

    Raises:
        ModelError: onnxruntime is not installed.
        ValueError: the graph is not one that this program writes.
        InexactError: its products of eight bits depend on the processor.

    Examples:
        >>> from fade.portable.builder import GraphBuilder, WeightsFile
        >>> builder = GraphBuilder(WeightsFile())
        >>> doubled = builder.op("Mul", "x", builder.constant(np.float32(2)))
        >>> graph = builder.finish([("x", np.float32, ["n"])], {"doubled": doubled})
        >>> session = GraphSession(graph, b"")
        >>> session.run({"x": np.array([1, 3], np.float32)}, ["doubled"])[0].tolist()
        [2.0, 6.0]
    """

    def __init__(
        self, graph: bytes, weights: bytes | memoryview, place: tuple[Path, int] | None = None
    ) -> None:
        large, held = check_graph(graph, len(weights)), np.frombuffer(weights, np.uint8)
        check_exact(large, held)
        try:
            import onnxruntime
        except ImportError:
            raise ModelError(
                "this bundle runs on onnxruntime, which is not installed: run "
                "`pip install 'fade-pipeline[edge]'`"
            ) from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = QUIET
        if sum(len(one.shape) == KERNEL for one in large) < CONVOLUTIONAL:
            # a transformer gains nothing by it that could be measured, and starts later
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = asked_threads(os.environ.get("OMP_NUM_THREADS", ""))
        try:
            if place is not None and place[1] % ALIGNMENT == 0:
                there = frozenset(one.name for one in large if one.size >= PACKED)
                if there:
                    large = [one for one in large if one.name not in there]
                    graph = placed(graph, there, place[0].name, place[1])
                    options.add_session_config_entry(FOLDER, str(place[0].parent))
            if large:
                # as arrays they are copied once, as a file in memory twice
                given = [onnxruntime.OrtValue.ortvalue_from_numpy(one.of(held)) for one in large]
                options.add_external_initializers([one.name for one in large], given)
            self._session: Any = onnxruntime.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no class of their own
            raise ValueError(
                f"onnxruntime refuses it: {' '.join(str(error).split())[:200]}"
            ) from None
        self._inputs = [one.name for one in self._session.get_inputs()]

    def run(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
        """The outputs of these names.

        Args:
            inputs: by name; those that the graph does not take are left out.
            outputs: names.

        Raises:
            ValueError: the graph fails, or has no such output.
        """
        given = {name: inputs[name] for name in self._inputs if name in inputs}
        try:
            return [np.asarray(one) for one in self._session.run(list(outputs), given)]
        except Exception as error:  # its errors have no class of their own
            raise ValueError(f"onnxruntime fails: {' '.join(str(error).split())[:200]}") from None


def asked_threads(asked: str) -> int:
    """How many threads a value of ``OMP_NUM_THREADS`` asks for, as torch and BLAS read it.

    Returns:
        0 where it asks for none: onnxruntime then takes all cores.

    Examples:
        >>> asked_threads("2"), asked_threads("4,2"), asked_threads("")
        (2, 4, 0)
    """
    first = asked.partition(",")[0].strip()
    return int(first) if first.isdecimal() else 0
