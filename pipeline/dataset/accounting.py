"""Which files of a data set are not used, in words and as JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from cache.location import open_path
from fade.datasets.detect import detect_format
from fade.datasets.leftovers import (
    DEFECT_IN_TRAINING,
    NOT_LOOKED_INTO,
    STRAY_MASK,
    UNREAD_KIND,
    Account,
    Leftover,
)
from fade.datasets.read import TABLE_FORMATS, dataset_root, table_files
from fade.errors import counted, summarise
from pipeline.config.schema import DatasetParams

_LINES = {
    UNREAD_KIND: ("image", "is", "of a kind that is not read (save as PNG, or remove)"),
    STRAY_MASK: ("mask", "belongs", "to no image"),
    NOT_LOOKED_INTO: ("image", "lies", "in folders that this format does not look into"),
    DEFECT_IN_TRAINING: ("training image", "has", "a defect and no part in the run"),
}
SAID = frozenset(_LINES)
"""Reasons that are a warning: the files look like images, and no parameter leaves them out."""


def unused_files(dataset: DatasetParams, account: Account) -> list[Leftover]:
    """The files below a data set's root that a run does not use.

    Args:
        account: of all records that its reader yields.

    Raises:
        DataError: a folder cannot be listed.
    """
    path = open_path(dataset.path)
    tables = table_files(dataset.format, path)
    listed = dataset.format in TABLE_FORMATS
    return account.leftovers(dataset_root(dataset.format, path), tables, listed=listed)


def unused_warnings(dataset: DatasetParams, unused: Sequence[Leftover]) -> Iterator[str]:
    """A line for each reason that nobody asked for, with folders and counts."""
    by_reason: defaultdict[str, list[Leftover]] = defaultdict(list)
    for leftover in unused:
        if leftover.reason in SAID:
            by_reason[leftover.reason].append(leftover)
    if not by_reason:
        return
    likely = detect_format(open_path(dataset.path))
    same = {dataset.format, "folder", "mvtec", "csv"}  # the last three read what they read anyway
    hint = f"; it looks like dataset.format {likely}" if likely and likely not in same else ""
    for reason, found in by_reason.items():
        noun, verb, what = _LINES[reason]
        total = counted(sum(leftover.count for leftover in found), noun, verb)
        yield f"{total} {what}: {summarise([_words(part) for part in found])}{hint}"


def unused_summary(unused: Sequence[Leftover]) -> str:
    """How many files are not used and why, in a line; empty if all are.

    >>> unused_summary([Leftover("a", "hidden", 2, ".x"), Leftover("b", "hidden", 1, ".y")])
    'not used: 3 files (3 hidden)'
    """
    counts: defaultdict[str, int] = defaultdict(int)
    for leftover in unused:
        counts[leftover.reason] += leftover.count
    if not counts:
        return ""
    parts = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
    return f"not used: {counted(sum(counts.values()), 'file')} ({parts})"


def unused_rows(unused: Sequence[Leftover]) -> list[dict[str, Any]]:
    """The same as JSON: folder, reason, count and the name of one of the files."""
    return [asdict(leftover) for leftover in unused]


def unused_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A line for each folder and reason, from :func:`unused_rows`."""
    return [f"{_words(Leftover(**row))}: {row['reason']}" for row in rows]


def _words(leftover: Leftover) -> str:
    if leftover.count == 1:
        return leftover.path
    return f"{leftover.folder or '.'}/ ({leftover.count}, such as {leftover.example})"
