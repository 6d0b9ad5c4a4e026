"""PatchCore of anomalib on images of your own: the same network, weights, pixels and references as ours.

``python -m benchmarks.peer_accuracy DATA`` prints image AUROC, pixel AUROC and AUPRO in percent of both
sides, the means over categories and seeds. ``PEER_VENV`` names anomalib's environment, see ``peers.py``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import mean

import pandas as pd

from benchmarks.peer_methods import PATCHCORE
from benchmarks.peers import Ours, Peer, peer_python

METRICS = ("full_image_auroc", "full_pixel_auroc", "full_pixel_au_pro")


def main(arguments: list[str] | None = None) -> None:
    """Run ours once for all shots and seeds, and anomalib once for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peer_accuracy", description=__doc__)
    parser.add_argument("data", type=Path, help="as MVTec is laid out: categories, or a single one")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    chosen = parser.parse_args(arguments)
    data = chosen.data.resolve()
    if peer_python() is None:
        raise SystemExit("anomalib is not there: make peers, or PEER_VENV")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        images = folder / "images"
        for part in ("peer", "images"):
            (folder / part).mkdir()
        ours = Ours(PATCHCORE, data, folder / "ours", 1)
        ours.change(**{"vision.shots": chosen.shots, "vision.seeds": chosen.seeds})
        ours.measure()
        found = pd.read_csv(folder / "ours" / "results" / "metrics.csv")
        found = found[found["category"] != "mean"]
        selection = pd.read_parquet(folder / "ours" / "artefacts" / "selection.parquet")
        for category in selection["category"].unique():
            place = data / category
            (images / category).symlink_to(place if place.is_dir() else data)
        for shots in chosen.shots:
            theirs = []
            for seed in chosen.seeds:
                used = selection[(selection["rank"] < shots) & (selection["seed"] == seed)]
                references = {
                    str(category): [str(data / path) for path in rows["path"]]
                    for category, rows in used.groupby("category")
                }
                peer = Peer(PATCHCORE, images, folder / "peer", 1)
                theirs.append(Peer.metrics(peer.measure(references)))
            ran = found[found["shots"] == shots]
            for side, values in (
                ("ours", [100 * float(ran[metric].mean()) for metric in METRICS]),
                ("anomalib", [mean(one[metric] for one in theirs) for metric in METRICS]),
            ):
                listed = " / ".join(f"{value:.1f}" for value in values)
                print(f"{data.name}, {shots} shots, {side}: {listed}", flush=True)


if __name__ == "__main__":
    main()
