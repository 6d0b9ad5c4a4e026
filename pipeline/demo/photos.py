"""Write photographs to try things out on: ``python -m pipeline.demo.photos OUT [--force]``.

Solar cells by electroluminescence, a subset of ELPV (Buerhop-Lutz et al., 2018; Deitsch et al., 2019),
which the package ``elpv-dataset`` brings along: 8-bit grey, 300 x 300 pixels, each with a probability
of being defective. The licence of the images is CC BY-NC-SA 4.0; it goes with them as NOTICE.txt.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from fade.errors import DataError, FadeError, ParameterError
from pipeline.demo.folder import write_whole

PACKAGE = "elpv_dataset"
KINDS = ("mono", "poly")
EACH = 40
"""Images of a kind for training, as many good and as many defective ones for test."""
NOTICE = (
    "Images: ELPV, solar cells by electroluminescence (Buerhop-Lutz et al. 2018, Deitsch et al. 2019 "
    "and 2021), a subset; licence CC BY-NC-SA 4.0: name the source, no commercial use, share alike "
    "(https://creativecommons.org/licenses/by-nc-sa/4.0/)"
)


def photographs() -> Path:
    """The folder of the installed images; the package's code is not run.

    Raises:
        DataError: the package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    for place in (spec.submodule_search_locations if spec else None) or ():
        if (Path(place) / "data" / "labels.csv").is_file():
            return Path(place) / "data"
    raise DataError(
        "the package elpv-dataset is not installed: run `pip install 'fade-pipeline[photos]'` (90 MB of "
        "images under CC BY-NC-SA 4.0), or try your own photographs"
    )


def subset(labels: str, each: int = EACH) -> dict[str, list[str]]:
    """Which images go where: good ones and certain defects, spread evenly over all modules.

    Args:
        labels: lines of path, probability of a defect and kind, with blanks between. Neighbours are
            cells of one module.
        each: images of a kind for training, and of each sort for test.

    Returns:
        Paths by folder, such as ``mono/train/good``.

    Raises:
        DataError: a line is none, or there are too few images.
    """
    found: dict[tuple[str, float], list[str]] = {}
    for number, line in enumerate(labels.splitlines(), start=1):
        try:
            path, probability, kind = line.split()
            found.setdefault((kind, float(probability)), []).append(path)
        except ValueError:
            raise DataError(
                f"labels.csv, line {number}: {line[:80]!r} is no path, probability and kind: install "
                "elpv-dataset again"
            ) from None
    chosen = {}
    for kind in KINDS:
        good = _spread(found.get((kind, 0.0), []), 2 * each, f"{kind} cells without a defect")
        chosen[f"{kind}/train/good"] = good[::2]
        chosen[f"{kind}/test/good"] = good[1::2]
        chosen[f"{kind}/test/defect"] = _spread(
            found.get((kind, 1.0), []), each, f"{kind} cells with a certain defect"
        )
    return chosen


def _spread(paths: Sequence[str], count: int, what: str) -> list[str]:
    if len(paths) < count:
        raise DataError(
            f"labels.csv lists {len(paths)} {what}, {count} are needed: install elpv-dataset again"
        )
    return [paths[i * len(paths) // count] for i in range(count)]


def write(out: Path, force: bool = False, each: int = EACH) -> None:
    """Write the subset in MVTec's layout, whole or not at all.

    Raises:
        DataError: the images are not installed, or not whole.
        ParameterError: the place is a file, or a folder that is not empty, without ``force``.
    """
    source = photographs()
    chosen = subset((source / "labels.csv").read_text(encoding="utf-8", errors="replace"), each)

    def fill(folder: Path) -> None:
        (folder / "NOTICE.txt").write_text(NOTICE + "\n", encoding="utf-8")
        for place, paths in chosen.items():
            (folder / place).mkdir(parents=True)
            for path in paths:
                # names alone, so that no list leads elsewhere
                name = Path(path).name
                try:
                    shutil.copyfile(source / "images" / name, folder / place / name)
                except FileNotFoundError:
                    raise DataError(
                        f"labels.csv lists {path}, and there is no such image: install elpv-dataset again"
                    ) from None

    write_whole(out, fill, force)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.demo.photos",
        description="Write photographs of solar cells (CC BY-NC-SA 4.0) in MVTec's layout.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--force", action="store_true", help="delete what is in the folder")
    given = parser.parse_args(arguments)
    try:
        write(given.out, given.force)
    except FadeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: cannot write {given.out}: {error.strerror or error}", file=sys.stderr)
        return ParameterError.exit_code
    print(NOTICE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
