"""What must stay small where data are large: the store's index, and the memory of fine evaluations.

A piece of what ``python -m benchmarks.scale rows`` and ``evaluate`` measure at full size.
"""

from __future__ import annotations

from benchmarks.machine import Machine
from benchmarks.scale import allowed_peak
from benchmarks.scale_evaluate import measure_evaluate
from benchmarks.scale_index import ROW_BYTES, open_rows
from benchmarks.table import Row

SECONDS = 3
"""At most so long an index of a million rows takes to open."""


def measure(machine: Machine, quick: bool) -> list[Row]:
    """Rows of this benchmark."""
    count = 20_000 if quick else 1_000_000
    opened = open_rows(count)
    each = opened.held / count
    small, large = (100, 300) if quick else (500, 3_000)
    (few,), (many,) = (measure_evaluate(images, None).values() for images in (small, large))
    allowed = allowed_peak(few, large - small)
    return [
        Row(f"store, open an index of {count:,} rows", opened.taken.seconds, None, f"{SECONDS} s",
            opened.taken.seconds <= SECONDS),
        Row("store, memory of an index, a row", each, None, f"{ROW_BYTES} bytes",
            each <= ROW_BYTES, unit="bytes"),
        Row(f"evaluate over 65,536 levels, {large:,} images, peak memory beside {small:,}",
            many.peak / 1e6, few.peak / 1e6, "1.1 x and 300 bytes an image", many.peak <= allowed,
            unit="MB"),
    ]  # fmt: skip
