"""A test image as the evaluation sees it."""

from __future__ import annotations

from dataclasses import dataclass

from fade.aspect import Shape


@dataclass(frozen=True, slots=True)
class TestImage:
    """One row of the evaluation; ``size`` is the (height, width) at which its map is measured.

    ``is_anomaly`` is None where nobody knows; ``defect`` is the kind of an anomalous one.
    ``drawn`` is the name by which bootstrap samples draw it; empty where no samples are wanted.
    """

    __test__ = False  # no test case, whatever pytest thinks of its name

    category: str
    path: str
    is_anomaly: bool | None
    mask: str | None
    mask_hash: str | None
    size: Shape
    defect: str = ""
    drawn: str = ""
