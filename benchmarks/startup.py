"""From the start of `fade predict` to its end, split into import, load, encode, search, write and end.

The demo's model in a bundle with ONNX, in one with torch, and in the run's folder; each start is a
process of its own, one image each. References are noise; decisions mean nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.edge import decide, environment, finished_run
from benchmarks.machine import Machine
from benchmarks.rounds import rounds
from benchmarks.table import Row, in_turn
from pipeline.config.values import DEMO_MODEL
from pipeline.inference.bundle_writing import write_bundle

PARTS = ("import", "load", "encode", "search", "write", "next image", "end")
"""The last but one is all that a second image takes with the model that is kept."""
GOALS = (
    ("torch", "a bundle with torch", 2.5),
    ("run", "a run", 2.5),
    ("ONNX", "a bundle with ONNX", 0.4),
)
"""What is opened, in words, and at most how many seconds it may take."""
SPLIT = """
import json, sys, time
clock = time.perf_counter
start = clock()
from pathlib import Path
import pipeline.cli.commands
from pipeline.inference.output import predict_each, write_predictions
from pipeline.inference.predictor import Predictor
from pipeline.process.ending import end_at_once
bundle, image, out = sys.argv[1:]
__import__("onnxruntime" if bundle.endswith("onnx.fade") else "torch")
imported = clock()
predictor = Predictor.from_bundle(Path(bundle))
loaded = clock()
encode, encoding = predictor._encode, []
def timed(*given, **options):
    begun = clock()
    found = encode(*given, **options)
    encoding.append(clock() - begun)
    return found
predictor._encode = timed
(prediction,) = predict_each(predictor, [image], "part", [], keep=True)
judged = clock()
list(write_predictions([prediction], Path(out)))
written = clock()
predictor.predict([image], "part")
again = clock()
print(json.dumps([imported - start, loaded - imported, encoding[0], judged - loaded - encoding[0],
                  written - judged, again - written, time.time()]))
end_at_once(0)
"""


def split(bundle: str, image: Path, folder: Path, repeats: int) -> Mapping[str, float]:
    """Medians of seconds by part."""
    taken: list[list[float]] = []
    for _ in rounds(repeats):
        with tempfile.TemporaryDirectory() as out:
            done = subprocess.run(
                [sys.executable, "-c", SPLIT, bundle, str(image), out],
                cwd=folder, env=environment(), check=True, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        *parts, last = json.loads(done.stdout.splitlines()[-1])
        taken.append([*parts, time.time() - last])
    return dict(zip(PARTS, map(median, zip(*taken, strict=True)), strict=True))


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark."""
    repeats = 1 if quick else 3
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run, image = finished_run(folder, DEMO_MODEL, DEMO_MODEL, 128)
        whole, portable = folder / "torch.fade", folder / "onnx.fade"
        write_bundle(run, whole, with_weights=True)
        write_bundle(run, portable, onnx="fp32")
        sides = {"torch": str(whole), "ONNX": str(portable), "run": ""}
        ways = {
            name: partial(decide, image, *(("--bundle", bundle) if bundle else ()), folder=folder)
            for name, bundle in sides.items()
        }
        took = {name: seconds for name, (seconds, _) in in_turn(ways, repeats).items()}
        parts = {name: split(sides[name], image, folder, repeats) for name in ("torch", "ONNX")}
    rows = [
        Row(f"fade predict, one image, {what}", took[name], None, f"{goal} s", took[name] <= goal)
        for name, what, goal in GOALS
    ]
    for part in PARTS:
        ours, theirs = parts["ONNX"][part], parts["torch"][part]
        rows.append(Row(f"fade predict: {part}, ONNX beside torch", ours, theirs, "-", True))
    return rows
