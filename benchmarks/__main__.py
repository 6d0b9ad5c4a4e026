"""``python -m benchmarks``: measure, print the table, write it to benchmarks/results.md."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from benchmarks.before import measured_before
from benchmarks.machine import Machine
from benchmarks.table import Row, markdown

NAMES = (
    "encoder", "networks", "text", "pipeline", "store", "neighbours", "rules", "sweep", "metrics",
    "further", "commands", "startup", "edge", "reruns", "serving", "peers",
    "gpu",
)  # fmt: skip
RESULTS = Path(__file__).parent / "results.md"


def main(arguments: list[str] | None = None) -> None:
    """Run the chosen benchmarks; only a full run replaces the results that are kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small inputs, under a minute")
    parser.add_argument("--only", choices=NAMES, action="append", help="one of them; may repeat")
    parser.add_argument("--output", type=Path, help="where to write the table")
    chosen = parser.parse_args(arguments)
    names = chosen.only or NAMES
    start = time.perf_counter()
    machine = Machine.measure()
    rows: list[Row] = []
    for name in names:
        found = importlib.import_module(f"benchmarks.{name}").measure(machine, chosen.quick)
        rows += found
        for row in found:
            print(markdown([row]).splitlines()[-1], file=sys.stderr, flush=True)
    minutes = (time.perf_counter() - start) / 60
    described = "\n".join(f"- {line}" for line in machine.describe())
    before = None if chosen.quick else measured_before(RESULTS, described)
    text = "\n\n".join(
        [
            "# Results" + (" (quick: small inputs, targets mean little)" if chosen.quick else ""),
            described,
            markdown(rows, before),
            f"Taken by `python -m benchmarks` in {minutes:.1f} minutes. How to read it: "
            "benchmarks/notes.md.\n",
        ]
    )
    print(text)
    complete = not chosen.quick and not chosen.only
    if output := chosen.output or (RESULTS if complete else None):
        output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
