"""Holds an exported model against the run's own, on images that the run knows to be normal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cache.location import open_path
from fade.datasets import dataset_root
from fade.errors import DataError, ModelError
from fade.maps import resize_levels
from fade.metrics import PixelHistogram
from fade.preprocess import decode_rgb, resize_image
from fade.regions import label_regions
from fade.types import Feature
from pipeline.artefacts.catalogue import CALIBRATION, MANIFEST, SELECTION
from pipeline.artefacts.tables import read_table
from pipeline.dataset.loader import read_unchanged
from pipeline.evaluation.groups import parts_of
from pipeline.evaluation.normal_thresholds import OVERRIDES, from_normal, overridden
from pipeline.evaluation.recipe import measured_size
from pipeline.evaluation.thresholds import Threshold
from pipeline.features.models import start_encoding
from pipeline.features.pair import of_vision
from pipeline.inference.prediction import Prediction
from pipeline.inference.predictor import Predictor
from pipeline.inference.run import FinishedRun
from pipeline.scoring.calibration import trial_images

if TYPE_CHECKING:
    from PIL import Image

    from pipeline.features.models import ImageEncoder
    from pipeline.features.onnx_encoder import OnnxEncoder

Features = Mapping[Feature, np.ndarray]
"""Of one image."""
FEATURE_TOLERANCE = 1e-5
"""Largest difference between numbers of both models in float32, for vectors of length 1."""
SHORTEST_SHARE = 1e-3
"""Vectors that are shorter, beside the image's longest one, count as so long: hardly anything is left
of them but rounding."""
ROUNDING = 1e-5
"""A score that is so near to a threshold, of 1 or less, counts as the score that set it."""
SHIFT_TOLERANCE = 1e-4
"""Most that a threshold rises so that no decision changes: the image that sets one has its score."""
COMPARED_IMAGES = 32
"""So many images are compared; of each category at least one."""


@dataclass(frozen=True)
class NormalImages:
    """Images of a category that the run knows.

    Attributes:
        paths: in the data set, by the hashes of their files.
        held_out: whether each is a reference, to be compared with the others.
    """

    paths: Mapping[str, str]
    held_out: bool = False

    def read(self, run: FinishedRun) -> Iterator[Image.Image]:
        """The images in RGB.

        Raises:
            DataError: one is gone, or changed since the run.
        """
        dataset = run.params.dataset
        place = dataset.path if "://" in dataset.path else str(run.folder / dataset.path)
        root = dataset_root(dataset.format, open_path(place))
        for key, path in self.paths.items():
            data = read_unchanged(root, path, key)
            yield decode_rgb(data, path, exif_rotation=dataset.exif_rotation)


def _to_calibrate(run: FinishedRun, category: str) -> NormalImages:
    """The images that the category's threshold rests on."""
    table, _ = read_table(run.folder / CALIBRATION.path)
    own = table[table["category"] == category]
    references = _references(run, category)
    chosen = trial_images(own["hash"].tolist(), set(references))
    if chosen.held_out:
        return NormalImages({key: references[key] for key in chosen.keys}, held_out=True)
    rows = own[own["hash"].isin(chosen.keys)]
    return NormalImages(dict(zip(rows["hash"], rows["path"], strict=True)))


def _references(run: FinishedRun, category: str) -> dict[str, str]:
    """Paths of the trial's references, by hash."""
    table, _ = read_table(run.folder / SELECTION.path)
    own = table[table["category"] == category]
    paths = own.drop_duplicates("hash").set_index("hash")["path"].to_dict()
    rows = own[(own["seed"] == run.trial.seed) & (own["rank"] < run.trial.shots)]
    return {str(key): str(paths[key]) for key in rows["hash"]}


def _to_compare(run: FinishedRun, category: str, most: int) -> NormalImages:
    """The image that sets the threshold, references, then images to calibrate on; else test images."""
    found = {**_references(run, category), **_to_calibrate(run, category).paths}
    setter = run.thresholds[category].set_by
    # of many categories few images are compared, and the threshold rises for those alone
    found = dict(sorted(found.items(), key=lambda item: item[1] != setter))
    if not found:
        table, _ = read_table(
            run.folder / MANIFEST.path, ("category", "path", "hash"), split="test"
        )
        rows = table[table["category"] == category]
        found = dict(zip(rows["hash"], rows["path"], strict=True))
    if not found:
        raise DataError(f"{category} has no image to compare the exported model on")
    return NormalImages(dict(list(found.items())[:most]))


class GraphComparison:
    """Both models side by side."""

    def __init__(self, run: FinishedRun, encoder: ImageEncoder, exported: OnnxEncoder) -> None:
        self.run, self.encoder, self.exported = run, encoder, exported
        self.predictor = Predictor(run, encoder)
        self.told = Differences()

    def features(self, encoder: ImageEncoder, picture: Image.Image) -> Features:
        """An image's features in float32."""
        params, aspect = self.run.params, self.run.aspect
        found: dict[Feature, np.ndarray] = {}
        shapes = {feature: encoder.pixels(feature, aspect) for feature in params.test_features()}
        for shape in sorted(set(shapes.values())):
            here = [feature for feature, own in shapes.items() if own == shape]
            pixels = np.stack([resize_image(picture, shape, aspect)])
            for model in (False, True):
                if own := [feature for feature in here if of_vision(feature) == model]:
                    encoded = start_encoding(encoder, pixels, own, "float32")()
                    found |= {feature: encoded[feature][0] for feature in own}
        return found

    def both(self, category: str, most: int) -> list[Pair]:
        """What both models say of some images of a category; differences are taken into account."""
        pairs = []
        for picture in _to_compare(self.run, category, most).read(self.run):
            own, other = (self.features(one, picture) for one in (self.encoder, self.exported))
            first, second = (self.predictor.judge(picture, category, f) for f in (own, other))
            self.told.take(own, other)
            self.told.compare(first, second)
            pairs.append((first, second))
        return pairs

    def in_float32(self, categories: Sequence[str]) -> dict[str, Threshold]:
        """Hold a model in float32 against the run's, and give its thresholds by category.

        The image that sets a threshold has exactly its score, so that a rounding would make it
        anomalous: thresholds rise by as much.

        Raises:
            ModelError: features differ by more than :data:`FEATURE_TOLERANCE`, or decisions differ.
        """
        thresholds = {}
        for category in categories:
            before = self.run.thresholds[category]
            pairs = self.both(category, max(1, COMPARED_IMAGES // len(categories)))
            if self.told.feature > FEATURE_TOLERANCE:
                raise ModelError(
                    "features of the exported model differ from the run's by "
                    f"{self.told.feature:.2g}, at most {FEATURE_TOLERANCE:g} is allowed: nothing was "
                    "written"
                )
            raised = raised_threshold(pairs, before.image)
            if raised is not None and before.image is not None:
                self.told.raised = max(self.told.raised, raised - before.image)
            self.told.count(pairs, raised)
            if (
                self.told.raised > SHIFT_TOLERANCE * _scale(before.image)
                or self.told.equal < self.told.decisions
            ):
                raise ModelError(
                    f"the exported model decides otherwise than the run's on images of {category} "
                    f"(scores differ by {self.told.score:.2g}): nothing was written"
                )
            thresholds[category] = replace(before, image=raised)
        return thresholds

    def in_eight_bits(self, categories: Sequence[str]) -> dict[str, Threshold]:
        """Thresholds from the exported model's own scores, on the images that the run's come of.

        Raises:
            ParameterError: references would be compared with each other, and this run cannot.
        """
        thresholds = {}
        for category in categories:
            before = self.run.thresholds[category]
            thresholds[category] = before
            if before.source != "none" and (before.source != "given" or before.images):
                thresholds[category] = self._calibrated(before)
            pairs = self.both(category, max(1, COMPARED_IMAGES // len(categories)))
            self.told.count(pairs, thresholds[category].image)
        return thresholds

    def _calibrated(self, before: Threshold) -> Threshold:
        run, params, category = self.run, self.run.params, before.category
        images = _to_calibrate(run, category)
        parts = parts_of(images.paths.values(), params.evaluate.group)
        scores, histogram = [], None
        for path, picture in zip(images.paths.values(), images.read(run), strict=True):
            found = self.predictor.judge(
                picture,
                category,
                self.features(self.exported, picture),
                without=path if images.held_out else None,
            )
            scores.append(np.nan if found.score is None else found.score)
            levels = found.finished
            if levels is None and found.levels is not None:
                levels = resize_levels(found.levels, measured_size(params, *found.size, run.aspect))
            if levels is not None:
                one = PixelHistogram.of_image(levels, label_regions(np.zeros(levels.shape, bool)))
                histogram = one if histogram is None else histogram + one
        threshold = from_normal(
            category, before.trial, np.array(scores, np.float64), histogram,
            params.threshold.quantile, held_out=images.held_out,
            reason="there are no images to calibrate int8 on", paths=list(images.paths.values()),
            factor=params.threshold.factor, scale=before.map_scale,
            bounded=params.vision.bounded(before.trial.shots),
            false_alarms=params.threshold.false_alarms, parts=parts,
        )  # fmt: skip
        given = params.threshold.overrides.get(category)
        if given is not None:
            threshold = overridden(threshold, given, scores, OVERRIDES, parts)
        return replace(threshold, remark=f"{threshold.remark}; calibrated for int8")


Pair = tuple[Prediction, Prediction]
"""What the run's model and the exported one say of an image."""


def is_anomalous(own: Prediction) -> bool | None:
    """Whether the run's model calls an image anomalous, roundings aside; None without a decision."""
    if own.score is None or own.threshold is None:
        return None
    return own.score > own.threshold + ROUNDING * _scale(own.threshold)


def _scale(threshold: float | None) -> float:
    """What tolerances are multiplied by: distances have any length, scores from cosines at most 1."""
    return max(1.0, abs(threshold or 0.0))


def raised_threshold(pairs: Sequence[Pair], threshold: float | None) -> float | None:
    """The lowest threshold, not below the given one, by which normal images stay normal."""
    if threshold is None:
        return None
    scores = (two.score for one, two in pairs if is_anomalous(one) is False)
    return max([threshold, *(score for score in scores if score is not None)])


def equal_decisions(pairs: Sequence[Pair], threshold: float | None) -> int:
    """How many decisions of the exported model, by a threshold, are the run's."""
    return sum(
        (two.score > threshold) == is_anomalous(one)
        for one, two in pairs
        if threshold is not None and two.score is not None
    )


@dataclass
class Differences:
    """The largest differences so far, and how many decisions are equal.

    Attributes:
        images: so many were compared.
        feature: between numbers of both models' vectors, divided by the length of the run's.
        cosine: smallest between both models' vectors.
        score: between image scores.
        level: between map levels.
        raised: of a threshold.
        decisions, equal: how many there were, and how many of them are equal.
    """

    images: int = 0
    feature: float = 0.0
    cosine: float = 1.0
    score: float = 0.0
    level: int = 0
    raised: float = 0.0
    decisions: int = 0
    equal: int = 0

    def take(self, own: Features, other: Features) -> None:
        """Take the features of an image into account."""
        self.images += 1
        for feature, one in own.items():
            two, lengths = other[feature], np.linalg.norm(one, axis=-1, keepdims=True)
            lengths = np.maximum(
                lengths, SHORTEST_SHARE * lengths.max() + np.finfo(np.float32).tiny
            )
            self.feature = max(self.feature, float((np.abs(one - two) / lengths).max()))
            products = np.einsum("...i,...i->...", one, two)
            norms = np.maximum(np.linalg.norm(two, axis=-1), lengths[..., 0])
            self.cosine = min(self.cosine, float((products / (norms * lengths[..., 0])).min()))

    def compare(self, own: Prediction, other: Prediction) -> None:
        """Take score and map of an image into account."""
        if own.score is not None and other.score is not None:
            self.score = max(self.score, abs(own.score - other.score))
        if own.levels is not None and other.levels is not None:
            off = np.abs(own.levels.astype(int) - other.levels.astype(int))
            self.level = max(self.level, int(off.max()))

    def count(self, pairs: Sequence[Pair], threshold: float | None) -> None:
        """Count decisions, those of the exported model by a threshold of its own."""
        self.decisions += sum(is_anomalous(own) is not None for own, _ in pairs)
        self.equal += equal_decisions(pairs, threshold)
