"""``python -m benchmarks``: measure, print the table, write it to benchmarks/results.md.

That file has a section for each class of machine: processor, cores, threads and system.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

from benchmarks.before import machine_class, measured_before, sections, with_section
from benchmarks.machine import Machine
from benchmarks.process import compile_once
from benchmarks.table import Row, markdown
from fade.errors import first_line

NAMES = (
    "encoder", "networks", "text", "pipeline", "store", "neighbours", "rules", "sweep", "metrics",
    "further", "commands", "startup", "edge", "reruns", "serving", "large", "batch", "peers",
    "gpu",
)  # fmt: skip
RESULTS = Path(__file__).parent / "results.md"


def cpu_seconds() -> float:
    """Processor time of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


def main(arguments: list[str] | None = None) -> None:
    """Run the chosen benchmarks; only a full run replaces the results that are kept.

    A benchmark that fails costs its own rows alone; the exit code is then 1.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small inputs, some minutes")
    parser.add_argument("--only", choices=NAMES, action="append", help="one of them; may repeat")
    parser.add_argument("--output", type=Path, help="where to write the table")
    chosen = parser.parse_args(arguments)
    names = chosen.only or NAMES
    compile_once()
    start = time.perf_counter()
    machine = Machine.measure()
    described = "\n".join(f"- {line}" for line in machine.describe())
    of = machine_class(described)
    committed = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    known = sections(committed)
    before = measured_before(known[of]) if of in known and not chosen.quick else None
    rows: list[Row] = []
    took: list[str] = []
    remarks = []
    if known and of not in known and not chosen.quick:
        remarks.append(f"Nothing to compare with: the committed results are of {'; '.join(known)}.")
    failed: list[str] = []
    for name in names:
        began, worked = time.perf_counter(), cpu_seconds()
        try:
            found = importlib.import_module(f"benchmarks.{name}").measure(machine, chosen.quick)
        except (Exception, SystemExit) as error:  # the others are still worth their time
            found = []
            failed.append(f"{name} failed: {type(error).__name__}: {first_line(error)}")
            print(failed[-1], file=sys.stderr, flush=True)
        rows += found
        for row in found:
            print(markdown([row], before).splitlines()[-1], file=sys.stderr, flush=True)
        spent = f"{name} {time.perf_counter() - began:.0f} ({cpu_seconds() - worked:.0f})"
        took.append(spent)
        print(f"seconds, and of processor time: {spent}", file=sys.stderr, flush=True)
    minutes = (time.perf_counter() - start) / 60
    text = "\n\n".join(
        [
            *(["Quick: small inputs, targets mean little."] if chosen.quick else []),
            described,
            *(f"**{line}**" for line in failed),
            markdown(rows, before),
            *remarks,
            f"Seconds of each benchmark, and of processor time: {', '.join(took)}.",
            f"Taken by `python -m benchmarks` in {minutes:.1f} minutes. How to read it: "
            "benchmarks/notes.md.",
        ]
    )
    print(with_section("", of, text))
    if chosen.output:
        chosen.output.write_text(with_section("", of, text), encoding="utf-8")
    elif not chosen.quick and not chosen.only:
        RESULTS.write_text(with_section(committed, of, text), encoding="utf-8")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
