"""Subspaces of normal patches: fitted once for each set of images and view, kept in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from cache.files import Location
from cache.keys import Keys
from cache.layout import RowLocation, Space
from cache.store import Store
from fade.rules.subspace import Subspace, fit_subspace
from fade.transforms import NONE
from pipeline.artefacts.receipts import Receipt
from pipeline.config.schema import Params
from pipeline.scoring.views import FeatureView, described, joined

FIT_VERSION = 1
"""Raised by hand when subspaces become others; part of every address."""
READ_IMAGES = 8
"""Images whose patches are read at a time."""
Stored = tuple[tuple[Space, Sequence[RowLocation]], ...]
"""For each feature of a view its space and where images' rows lie."""


@dataclass(frozen=True)
class Fit:
    """The images that a subspace is fitted to.

    Attributes:
        digest: of these, the number of components and the features.
        references: keys, sorted.
        batch: keys of unlabelled test images, sorted.
    """

    digest: str
    references: tuple[str, ...]
    batch: tuple[str, ...]


def fit_space(view: FeatureView, spaces: Sequence[Space], params: Params) -> Space:
    """(dim + 1, dim): the mean, then the components, then zeros.

    Args:
        spaces: of features of test images, the view's among them.
        params: for the number of components.
    """
    vision, dim = params.vision, view.dim(spaces)
    own = [spaces[at] for at in view.positions(spaces)]
    description: dict[str, Any] = {
        "kind": "subspace", "version": FIT_VERSION,
        "features": [space.fingerprint for space in own],
        "view": described([view], own),
        "variance": vision.variance if vision.components is None else None,
        "components": vision.components,
        # these took directions beyond the rank of the patches
        **({"rank": True} if vision.components is not None or vision.variance == 1 else {}),
    }  # fmt: skip
    return Space(f"subspace-{view.label}", description, (dim + 1, dim), "float32")


@dataclass(frozen=True, slots=True)
class FitTask:
    """One subspace to fit; paths are absolute, as workers run elsewhere.

    Attributes:
        store: where features are, and the subspace goes.
        digest: of the images, the row's key.
        images: references with each of their transforms, and images of a batch: where features lie.
        variance: share of it that the components hold.
        components: how many, in place of that share.
    """

    store: Location
    output: Space
    name: str
    view: FeatureView
    digest: str
    images: tuple[tuple[Stored, ...], ...]
    variance: float
    components: int | None
    weight: int = 1


def fit_images(task: FitTask) -> int:
    """Fit and store one subspace: 1."""
    store = Store(task.store)
    share = task.variance if task.components is None else None
    found = fit_subspace(_patches(task, store), share=share, components=task.components)
    row = np.zeros((1, *task.output.shape), np.float32)
    row[0, 0] = found.mean
    row[0, 1 : 1 + len(found.components)] = found.components
    store.write(task.output, [task.digest], row)
    return 1


def _patches(task: FitTask, store: Store) -> Iterator[np.ndarray]:
    """Patches of a few images at a time, each image with all of its transforms."""
    for transforms in task.images:
        count = len(transforms[0][0][1])
        for start in range(0, count, READ_IMAGES):
            for stored in transforms:
                rows = [store.read(s, places[start : start + READ_IMAGES]) for s, places in stored]
                vectors = joined(task.view, [space for space, _ in stored], rows)
                yield vectors.reshape(-1, vectors.shape[-1])


@lru_cache(maxsize=16)
def open_fit(store: Location, space: Space, place: RowLocation) -> Subspace:
    """A subspace, kept by each worker."""
    (row,) = Store(store).read(space, [place])
    used = np.flatnonzero(row[1:].any(axis=1))
    return Subspace(row[0], np.ascontiguousarray(row[1 : 2 + used.max(initial=-1)]), 0.0)


@dataclass(frozen=True, eq=False)
class FitStep:
    """The subspaces of a run; see :class:`pipeline.scoring.before.Step`.

    Attributes:
        spaces: of features of test images.
        fits: all of them, by category.
        lacking: for each view the digests of those to be fitted.
        references, tests: receipts of features.
    """

    params: Params
    views: tuple[FeatureView, ...]
    spaces: tuple[Space, ...]
    fits: Mapping[str, Sequence[Fit]]
    lacking: tuple[frozenset[str], ...]
    references: Receipt
    tests: Receipt
    label: str = "subspaces"
    unit: str = "subspace"

    @property
    def function(self) -> Callable[[FitTask], int]:
        """See :class:`pipeline.scoring.before.Step`."""
        return fit_images

    def counts(self) -> dict[Space, int]:
        """See :class:`pipeline.scoring.before.Step`."""
        pairs = zip(self.views, self.lacking, strict=True)
        return {fit_space(view, self.spaces, self.params): len(lacks) for view, lacks in pairs}

    def kept(self) -> dict[Space, Keys]:
        """All of them: new images are compared with them."""
        keys = Keys.of(dict.fromkeys(fit.digest for fits in self.fits.values() for fit in fits))
        return {fit_space(view, self.spaces, self.params): keys for view in self.views}

    def tasks(self, store: Store) -> Iterator[FitTask]:
        """See :class:`pipeline.scoring.before.Step`."""
        vision = self.params.vision
        of_batch = any(fit.batch for fits in self.fits.values() for fit in fits)
        for view, lacks in zip(self.views, self.lacking, strict=True):
            categories = [None, *vision.transform_overrides] if self.references.spaces else []
            located = {
                label: self.references.located(store, label).check()
                for transform in {t for c in categories for t in vision.bank_transforms(c)}
                for label in view.labels(transform)
            }
            plain = view.labels(NONE)
            tests = {n: self.tests.located(store, n).check() for n in plain} if of_batch else {}
            output = fit_space(view, self.spaces, self.params)
            for category, fits in self.fits.items():
                poses = [view.labels(one) for one in vision.bank_transforms(category)]
                for fit in {fit.digest: fit for fit in fits if fit.digest in lacks}.values():
                    images = []
                    if fit.references:
                        images.append(
                            tuple(
                                _stored(self.references, located, n, fit.references) for n in poses
                            )
                        )
                    if fit.batch:
                        images.append((_stored(self.tests, tests, plain, fit.batch),))
                    yield FitTask(
                        store.root, output, category, view, fit.digest, tuple(images),
                        vision.variance, vision.components,
                    )  # fmt: skip


def _stored(
    receipt: Receipt, located: Mapping[str, Any], labels: Sequence[str], keys: Sequence[str]
) -> Stored:
    return tuple(
        (receipt.space(label), located[label].locations(keys).narrowed()) for label in labels
    )
