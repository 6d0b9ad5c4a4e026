"""Tasks for the rows that a store lacks, from plain mappings."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from cache.keys import Keys
from cache.layout import SegmentTask, group_needs, segment_tasks


def plan_segments(
    needs: Mapping[str, Collection[str]],
    present: Mapping[str, Collection[str]],
    row_bytes: Mapping[str, int],
    target_bytes: int,
    max_rows: int,
) -> list[SegmentTask]:
    """The tasks of :func:`cache.layout.segment_tasks`.

    ``needs`` has for each key the spaces that it needs, ``present`` for each space the keys it has.
    """
    groups = group_needs([(Keys.of([key]), spaces) for key, spaces in needs.items()])
    missing = [
        np.array([[key not in present[space] for space in group.spaces] for key in group.keys])
        for group in groups
    ]
    return list(segment_tasks(groups, missing, row_bytes, target_bytes, max_rows))
