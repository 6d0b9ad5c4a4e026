"""Write the demo data set: ``python -m pipeline.demo OUT [--seed 0] [--size 256] [--force]``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fade.errors import FadeError, ParameterError
from pipeline.demo.folder import write_whole
from pipeline.demo.generate import generate_dataset


def write(out: Path, seed: int = 0, size: int = 256, force: bool = False) -> None:
    """Write the demo data set into a folder, whole or not at all.

    Refuses, with ParameterError, a path that is a file and, unless ``force`` is given, a folder
    that is not empty.
    """
    write_whole(out, lambda folder: generate_dataset(folder, seed, size), force)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.demo", description="Write the demo data set in MVTec's layout."
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--seed", type=int, default=0, help="whole number from 0 on (default 0)")
    parser.add_argument("--size", type=int, default=256, help="pixels a side (default 256)")
    parser.add_argument("--force", action="store_true", help="delete what is in the folder")
    given = parser.parse_args(arguments)
    try:
        write(given.out, given.seed, given.size, given.force)
    except FadeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: cannot write {given.out}: {error.strerror or error}", file=sys.stderr)
        return ParameterError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
