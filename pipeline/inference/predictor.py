"""Scores new images with a finished run or a bundle, by the functions that the stages call."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fade.bank import normalized_float32
from fade.errors import ParameterError
from fade.levels import Scale
from fade.maps import places_on
from fade.text import language_map, language_scores
from fade.types import Feature
from pipeline.dataset.pixel_remarks import PixelRemarks
from pipeline.evaluation.recipe import Recipe, closing_of, measured_size
from pipeline.features.models import feature_space
from pipeline.inference.explain import nearest_patch, patch_groups, region, region_level, worst_in
from pipeline.inference.judged import check_batch, check_new_images
from pipeline.inference.material import TrainedRun
from pipeline.inference.opening import embedded_prompts, fitted_text, opened_bank
from pipeline.inference.pictures import check_aspect, encode_pictures, open_picture, pixel_key
from pipeline.inference.prediction import Compared, Picture, Prediction, Region, decide
from pipeline.inference.stream import encoded
from pipeline.scoring.components import patch_grid
from pipeline.scoring.views import FeatureView, view_plan

if TYPE_CHECKING:
    from PIL import Image

    from pipeline.features.models import ImageEncoder

log = logging.getLogger("fade")


class Predictor:
    """Scores images of a run's categories; loads the model once, the rest when it is needed.

    Args:
        material: of the run, see :meth:`from_run` and :meth:`from_bundle`.
        encoder: its model, where it is loaded already.

    Raises:
        StoreError: the model's weights or settings are not those of the run.
        ParameterError: the run's scores are those of a test set alone.

    Examples:
        >>> predictor = Predictor.from_run(project)  # a folder with a finished run
        >>> [found] = predictor.predict([image], "weave")  # a path, a PIL image or an array
        >>> found.decision, found.levels.shape
        ('normal', (10, 10))
    """

    def __init__(self, material: TrainedRun, encoder: ImageEncoder | None = None) -> None:
        self.material, self.params, self.trial = material, material.params, material.trial
        check_new_images(self.params)
        self.thresholds, self._said = dict(material.thresholds), set[str]()
        self._encoder = material.encoder() if encoder is None else encoder
        self._spaces = spaces = {
            feature: feature_space(self._encoder, feature, self.params, material.aspect)
            for feature in self.params.test_features()
        }
        material.check_features({f.label: space.fingerprint for f, space in spaces.items()})
        self._views = view_plan(self.params) if self.params.needs_vision else []
        features = [spaces[f] for view in self._views for f in view.features]
        self._grids = {view.label: view.grid(features) for view in self._views}
        self._dims = {view.label: view.dim(features) for view in self._views}
        self._encode = partial(
            encode_pictures, encoder=self._encoder, params=self.params, aspect=material.aspect
        )
        self._recipe, self._closing = Recipe.of(self.params), closing_of(self.params)
        # none of them knows the predictor: its model goes with it, and waits for no collector
        given = material, self._encoder
        self._classifier = lru_cache(maxsize=None)(partial(fitted_text, *given))
        self._bank = lru_cache(maxsize=4)(partial(opened_bank, *given, self._grids, self._dims))
        self._rule = lru_cache(maxsize=4)(partial(material.fitting_rule, dims=self._dims))
        self._sentences = lru_cache(maxsize=4)(partial(embedded_prompts, *given))

    @classmethod
    def from_run(
        cls, folder: Path | str = Path(), *, shots: int | None = None, seed: int | None = None
    ) -> Predictor:
        """The predictor of a project folder whose run is finished.

        Args:
            folder: of the project.
            shots: which trial; by default the one with most shots.
            seed: which trial; by default the smallest seed.

        Raises:
            StoreError: something is missing, damaged or of other parameters.
            ParameterError: no such trial.
        """
        from pipeline.inference.run import FinishedRun

        return cls(FinishedRun(Path(folder), shots, seed))

    @classmethod
    def from_bundle(
        cls, path: Path | str, *, weights: Path | str | None = None, download: bool = False
    ) -> Predictor:
        """The predictor of a bundle that ``fade bundle`` wrote.

        Args:
            path: of the file.
            weights: checkpoint file, where the bundle has none and its source is not at hand.
            download: whether model and weights may be fetched from the hub that the bundle names.

        Raises:
            StoreError: not a valid bundle, or of another schema version.
        """
        from pipeline.inference.bundle import Bundle

        return cls(Bundle(Path(path), Path(weights) if weights else None, download=download))

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories that it knows."""
        return self.material.categories

    @property
    def device(self) -> str:
        """Where images are encoded: ``cuda`` or ``cpu``."""
        return self._encoder.device

    def predict(self, images: Sequence[Picture], category: str) -> list[Prediction]:
        """Score images of one category.

        Args:
            images: paths, PIL images or uint8 RGB arrays.
            category: one of :attr:`categories`.

        Raises:
            ParameterError: unknown category.
            DataError: an image cannot be read, or has not the aspect ratio that the run keeps.
        """
        return list(self.stream(images, category))

    def stream(
        self,
        images: Iterable[Picture],
        category: str,
        *,
        problems: list[str] | None = None,
        keep: bool = False,
        batch_size: int | None = None,
    ) -> Iterator[Prediction]:
        """Score images of one category as they come, in their order; see :meth:`predict`.

        The images may be endless: no more than a batch is taken before its predictions are given.
        Those of images before an error, of the iterable or of an image, are given before it is raised.

        Args:
            images: paths, PIL images or uint8 RGB arrays.
            category: one of :attr:`categories`.
            problems: takes a line for each image that cannot be used, which is then left out.
            keep: whether predictions keep their pictures, each of which was read once.
            batch_size: images at a time; 1 answers each at once. Default: the run's.
        """
        self.material.check_category(category)
        for name, picture, features in self._read(images, problems, batch_size):
            found = self._predict_one(name, picture.size, features, category)
            yield replace(found, picture=picture) if keep else found

    def stream_batch(
        self,
        images: Iterable[Picture],
        category: str,
        *,
        problems: list[str] | None = None,
        keep: bool = False,
    ) -> Iterator[Prediction]:
        """Score images of one category against each other, for runs of rule mutual.

        Their features are held until all of them are read. Equal images count once.

        Args:
            images, category, problems, keep: see :meth:`stream`.

        Raises:
            ParameterError: another rule, or fewer than five images that differ.
        """
        from pipeline.inference.rules import batch_maps

        self.material.check_category(category)
        check_batch(self.params, self.trial.shots)
        read = list(self._read(images, problems))
        queries = {
            pixel_key(picture): {view.label: self._vectors(view, features) for view in self._views}
            for _, picture, features in read
        }
        maps = batch_maps(queries, self._grids, self.params.vision)
        for name, picture, features in read:
            given = maps[pixel_key(picture)]
            found = self._predict_one(name, picture.size, features, category, given)
            yield replace(found, picture=picture) if keep else found

    def judge(
        self,
        picture: Image.Image,
        category: str,
        features: Mapping[Feature, np.ndarray],
        *,
        without: str | None = None,
    ) -> Prediction:
        """Score an image by features that were made already.

        Args:
            picture: in RGB.
            category: one of :attr:`categories`.
            features: of the image, in float32.
            without: path of a reference that it is not compared with: itself.

        Raises:
            ParameterError: what this run compares with cannot be left out.
        """
        kept = {f: vector.astype(self.params.features.dtype) for f, vector in features.items()}
        given = None if without is None else self._vision_map(kept, category, without)
        return self._predict_one("", picture.size, kept, category, given)

    def _read(
        self, images: Iterable[Picture], problems: list[str] | None, size: int | None = None
    ) -> Iterator[tuple[str, Image.Image, dict[Feature, np.ndarray]]]:
        """Name, picture and features of images that can be used, encoded batch by batch."""
        remarks = PixelRemarks(self.params.dataset.exif_rotation)
        size = self.params.runtime.batch_size if size is None else size
        opened = partial(self._open, remarks=remarks)
        yield from encoded(images, size, opened, self._encode, problems)
        for line in remarks.lines(self._said):
            log.warning("%s", line)

    def _open(
        self, image: Picture, number: int, remarks: PixelRemarks | None = None
    ) -> tuple[str, Image.Image]:
        """A name for an image, and it in RGB; refused where the run keeps another aspect ratio."""
        name, picture = open_picture(image, number, self.params.dataset.exif_rotation, remarks)
        check_aspect(name, picture, self.params, self.material.aspect)
        return name, picture

    def _predict_one(
        self,
        name: str,
        size: tuple[int, int],
        features: dict[Feature, np.ndarray],
        category: str,
        given: np.ndarray | None = None,
    ) -> Prediction:
        """The prediction of an image; its vision map may be given, as images of a batch have it."""
        params, recipe = self.params, self._recipe
        threshold = self.thresholds[category]
        scale = threshold.map_scale
        language = text_map = vision = worst = None
        if params.needs_language_score:
            token = normalized_float32(features[params.classification_feature()][None])
            classifier = self._classifier("classification", category)
            language = float(language_scores(classifier, token)[0])
        if params.needs_language_map:
            asked = params.language_features()
            patches = [normalized_float32(features[feature]) for feature in asked]
            grids = [patch_grid(self._spaces[feature]) for feature in asked]
            text_map = language_map(self._classifier("segmentation", category), patches, grids)
        if params.needs_vision:
            vision = self._vision_map(features, category) if given is None else given
            if params.evaluate.masks_background(category):
                from pipeline.evaluation.foreground import masked_map

                feature, limit = params.foreground_feature(), params.evaluate.foreground_threshold
                vision = masked_map(name, vision, features[feature], self._spaces[feature], limit)
            if params.evaluate.reweighted:
                from pipeline.evaluation.reweighting import bank_vectors, worst_reweighted

                held, own = self._bank(category), self._vectors(self._views[0], features)
                bank = bank_vectors(held.bank, held.comparison, len(own))
                worst = worst_reweighted(vision, own, bank) * params.vision_multiplier(self.trial)
            vision = vision * np.float32(params.vision_multiplier(self.trial))
        measured = measured_size(params, *size, self.material.aspect)
        score = recipe.score(language, vision, self.trial.shots, measured, worst)
        values = recipe.values(text_map, vision, self.trial.shots)
        levels = finished = None
        if values is not None:
            # without a scale of any image, it is this one's own
            if recipe.is_fine(self.trial.shots) and threshold.scale is None:
                scale = Scale.fine(float(values.min()), float(values.max()))
            levels = scale.levels(values)
            if not recipe.is_plain(scale) or not self._closing.is_none:
                finished = recipe.pixels(values, measured, scale)
        decision = decide(score, threshold.image)
        return Prediction(
            name, category, score, threshold.image, decision, levels,
            threshold.pixel, threshold.source, threshold.images, threshold.remark, size,
            trial=self.trial, set_by=threshold.set_by, false_alarm_limit=threshold.false_alarm_limit,
            finished=finished, scale=scale, closing=self._closing,
        )  # fmt: skip

    def explain(
        self, image: Picture, category: str, *, level: int | None = None, prompts: int = 3
    ) -> tuple[Prediction, list[Region]]:
        """Why an image's map is high where it is: its regions, the highest first; it keeps its picture.

        Args:
            image: a path, PIL image or uint8 RGB array.
            category: one of :attr:`categories`.
            level: patches above it make regions; by default the pixel threshold.
            prompts: how many of each side to name.

        Raises:
            ParameterError: no maps in this run, or neither a threshold nor a level.
        """
        self.material.check_category(category)
        if self.params.fusion.segmentation_mode == "none":
            raise ParameterError("fusion.segmentation_mode is none: there is no map to explain")
        name, picture = self._open(image, 0)
        (features,) = self._encode([picture])
        found = self._predict_one(name, picture.size, features, category)
        prediction = replace(found, picture=picture)
        levels = prediction.patch_levels()
        assert levels is not None
        by_vision = self.params.fusion.segmentation_mode in ("vision", "both")
        by_rule = by_vision and not self.params.vision.keeps_banks(self.trial.shots)
        compared = self._vision_map(features, category) if by_rule else None
        return prediction, [
            self._region(labels, levels, prediction.size, features, category, prompts, compared)
            for labels in patch_groups(levels, region_level(prediction, level))
        ]

    def _vision_map(
        self, features: dict[Feature, np.ndarray], category: str, without: str | None = None
    ) -> np.ndarray:
        """What vision says of one image, before any multiplier; a reference may be left out."""
        vision, shots = self.params.vision, self.trial.shots
        queries = {view.label: self._vectors(view, features) for view in self._views}
        by_bank = vision.keeps_banks(shots)
        if without is not None and (not by_bank or self.params.evaluate.reweighted):
            raise ParameterError(
                f"vision.rule {vision.rule_at(shots)} or evaluate.reweighted does not let a "
                "reference be left out: give training images besides the references"
            )
        if not by_bank:
            return self._rule(category).vision_map(queries, self._grids)
        held = self._bank(category)
        comparison = held.comparison if without is None else held.comparison_without(without)
        return held.bank.vision_maps(queries, [comparison])[0]

    def _vectors(self, view: FeatureView, features: dict[Feature, np.ndarray]) -> np.ndarray:
        """(patches, dim) of one image in a view."""
        spaces = [self._spaces[feature] for feature in view.features]
        return view.vectors(spaces, [features[feature][None] for feature in view.features])[0]

    def _region(
        self, inside: NDArray[np.bool_], levels: NDArray, size: tuple[int, int],
        features: dict[Feature, np.ndarray], category: str, prompts: int, compared: NDArray | None,
    ) -> Region:  # fmt: skip
        nearest, similar, told = None, None, None
        if compared is not None:
            worst = places_on(worst_in(inside, levels), levels.shape, compared.shape)
            told = Compared(self._rule(category).measure, float(compared.flat[int(worst)]))
        elif self.params.fusion.segmentation_mode in ("vision", "both"):
            view = self._views[-1]
            worst = places_on(worst_in(inside, levels), levels.shape, self._grids[view.label])
            nearest = nearest_patch(
                self._vectors(view, features), int(worst), self._bank(category), levels.shape,
                self.params.vision.bank_transforms(category), size[::-1],
            )  # fmt: skip
        if self.params.needs_language_map:
            feature = self.params.language_features()[-1]
            grid = patch_grid(self._spaces[feature])
            places = np.unique(places_on(np.flatnonzero(inside), levels.shape, grid))
            patches = normalized_float32(features[feature][places])
            similar = self._sentences(category).similar(patches, prompts)
        return region(inside, levels, size, nearest, similar, told)
