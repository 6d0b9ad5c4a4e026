"""The features that a run needs: which images, which of them the store lacks, and the tasks for these."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cache.index import Index
from cache.keys import Keys
from cache.layout import Group, SegmentTask, Space, group_needs, segment_tasks
from fade.types import Feature
from pipeline.config.schema import Params
from pipeline.features.models import SEGMENT_BYTES, SEGMENT_IMAGES, feature_space
from pipeline.features.pair import of_vision

if TYPE_CHECKING:
    from fade.aspect import AspectRatio
    from pipeline.features.models import ImageEncoder


@dataclass(frozen=True, eq=False)
class FeaturePlan:
    """What is to be encoded; see :meth:`make`.

    Attributes:
        spaces: of all features that the run needs.
        reference_spaces, test_spaces: fingerprints of what these need.
        groups: images by the spaces that they need, references first, each image once.
        missing: for each group (images, spaces), whether the feature is to be computed.
        reference_groups: how many of the groups are of references.
    """

    spaces: Mapping[Feature, Space]
    reference_spaces: Collection[str]
    test_spaces: Collection[str]
    groups: Sequence[Group]
    missing: Sequence[NDArray[np.bool_]]
    reference_groups: int

    @classmethod
    def make(
        cls,
        params: Params,
        spaces: Mapping[Feature, Space],
        references: Mapping[str, Keys],
        scored: Keys,
        index_of: Callable[[Space], Index] | None = None,
    ) -> FeaturePlan:
        """Plan all features of a run.

        References are apart, so that all others are encoded in the same batches whether features
        are kept or not.

        Args:
            spaces: see :func:`feature_spaces`.
            references: by category keys of reference images.
            scored: keys of test and calibration images.
            index_of: a space's index: ``Store.readable`` to know what the store lacks, or
                ``Store.repair`` before it is computed; None where all is to be computed.

        Raises:
            StoreError: the store cannot be read.
        """
        for_references = [spaces[f].fingerprint for f in params.reference_features()]
        for_tests = [spaces[f].fingerprint for f in params.test_features()]
        all_references = Keys.join(list(references.values())).distinct()
        is_reference = all_references.get_indexer(scored) >= 0
        needs = [
            (keys, [spaces[f].fingerprint for f in params.bank_features(category)])
            for category, keys in (references.items() if for_references else ())
        ]
        of_references = group_needs([*needs, (scored.take(is_reference), for_tests)])
        groups = [*of_references, *group_needs([(scored.take(~is_reference), for_tests)])]
        missing = [np.ones((len(group.keys), len(group.spaces)), bool) for group in groups]
        for space in dict.fromkeys(spaces.values()) if index_of else ():
            assert index_of is not None
            index = index_of(space)  # one is held at a time
            for group, lacks in zip(groups, missing, strict=True):
                if space.fingerprint in group.spaces:
                    lacks[:, group.spaces.index(space.fingerprint)] = ~index.has(group.keys)
        return cls(spaces, for_references, for_tests, groups, missing, len(of_references))

    def of_references(self) -> FeaturePlan:
        """The part that is stored where other features are not kept: references, as banks need them."""
        return self._changed(
            lambda group, lacks: (
                lacks
                & self._are_references(group)
                & np.isin(group.spaces, list(self.reference_spaces))
            )
        )

    def streamed(self, lacking: Callable[[Keys], NDArray[np.bool_]]) -> FeaturePlan:
        """The part to encode and forget, whatever the store has: scored images that lack components.

        Args:
            lacking: tells for each of some images whether it lacks a component.
        """

        def chosen(group: Group, lacks: NDArray[np.bool_]) -> NDArray[np.bool_]:
            rows = lacking(group.keys)
            if self._are_references(group):
                rows = np.full(len(rows), rows.any())  # few; they are encoded together
            return np.outer(rows, np.isin(group.spaces, list(self.test_spaces)))

        return self._changed(chosen)

    def _are_references(self, group: Group) -> bool:
        """Whether a group holds references: then all of it are."""
        return any(group is one for one in self.groups[: self.reference_groups])

    def _changed(
        self, change: Callable[[Group, NDArray[np.bool_]], NDArray[np.bool_]]
    ) -> FeaturePlan:
        pairs = zip(self.groups, self.missing, strict=True)
        return replace(self, missing=[change(group, lacks) for group, lacks in pairs])

    @property
    def images(self) -> int:
        """How many distinct images the run needs features of."""
        return sum(len(group.keys) for group in self.groups)

    @property
    def to_encode(self) -> int:
        """How many of them are to be encoded."""
        return sum(int(np.count_nonzero(lacks.any(axis=1))) for lacks in self.missing)

    @property
    def by_fingerprint(self) -> dict[str, tuple[Feature, Space]]:
        """Feature and space by the space's fingerprint."""
        return {space.fingerprint: (feature, space) for feature, space in self.spaces.items()}

    def rows(self) -> dict[Space, int]:
        """How many rows of each space are to be computed."""
        found = dict.fromkeys(self.spaces.values(), 0)
        of = {space.fingerprint: space for space in found}
        for group, lacks in zip(self.groups, self.missing, strict=True):
            for fingerprint, count in zip(group.spaces, lacks.sum(axis=0).tolist(), strict=True):
                found[of[fingerprint]] += count
        return found

    def by_model(self) -> list[FeaturePlan]:
        """A part for each model, so that a worker needs one at a time."""
        # the one that told last of its spaces is loaded still
        models = list(dict.fromkeys(map(of_vision, self.spaces)))[::-1]
        if len(models) < 2:
            return [self]
        spaces = [
            [space.fingerprint for one, space in self.spaces.items() if of_vision(one) == model]
            for model in models
        ]
        return [
            self._changed(lambda group, lacks, own=own: lacks & np.isin(group.spaces, own))  # type: ignore[misc]
            for own in spaces
        ]

    @property
    def encodings(self) -> int:
        """How often an image is encoded: by each model that it needs."""
        return sum(part.to_encode for part in self.by_model())

    def tasks(self) -> Iterator[SegmentTask]:
        """Segments to compute, each made when it is asked for, those of a model together."""
        sizes = {space.fingerprint: space.row_bytes for space in self.spaces.values()}
        for part in self.by_model():
            yield from segment_tasks(
                part.groups, part.missing, sizes, SEGMENT_BYTES, SEGMENT_IMAGES
            )


def feature_spaces(
    encoder: ImageEncoder, params: Params, aspect: AspectRatio | None = None
) -> dict[Feature, Space]:
    """The store's spaces for all features that a run needs.

    Args:
        aspect: the aspect ratio that images keep; None: squashed to squares.
    """
    features = dict.fromkeys([*params.reference_features(), *params.test_features()])
    return {feature: feature_space(encoder, feature, params, aspect) for feature in features}
