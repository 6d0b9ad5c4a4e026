"""The reference of files: a row for each artefact of the catalogue."""

from __future__ import annotations

from pipeline.artefacts.catalogue import ARTEFACTS, RECORDS


def markdown() -> str:
    """A table of all files that stages write, results first."""
    ordered = sorted([*ARTEFACTS, *RECORDS], key=lambda one: one.path.parts[0] != "results")
    rows = [
        f"| `{one.path.as_posix()}` | `{one.stage}` | {one.row} | {one.key} |" for one in ordered
    ]
    head = "| file | written by | a row or file of it | told apart by |\n|---|---|---|---|"
    return "\n".join([head, *rows])
