"""One image at a time, in memory: a detector from a name, reference images and an encoder.

The pipeline computes the same numbers for many images and trials at once. Source: FADE
(arXiv 2409.00556), sections 3.2 to 3.4.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from fade.aspect import AspectRatio
from fade.errors import DataError, ParameterError
from fade.maps import fuse_values, image_score, to_levels
from fade.preprocess import resize_image
from fade.prompts import DEFAULT_TEMPLATE, fill, load_ensemble
from fade.text import TextClassifier, fit, language_map, language_scores
from fade.types import ClipStream, Feature, Mode, Stream
from fade.vision import vision_map

if TYPE_CHECKING:
    from fade.encoder import Encoder

GENERIC_NAME = "object"
"""Word in place of the object's name in the prompts of maps."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a detector works; the defaults are those of the official few-shot example.

    Attributes:
        mode: what scores and maps are made of; not ``none``.
        classification_size: pixels a side at which an image gives its score.
        segmentation_sizes: sizes whose maps are averaged.
        score_prompts, map_prompts: shipped ensembles or JSON files, see :mod:`fade.prompts`.
        score_stream, map_stream, vision_stream: the image features that are classified for the score
            and for the map, and compared with references. The official zero-shot examples set
            ``vision_stream`` to gem.
        classifier: one of :data:`fade.text.CLASSIFIERS`.
        query_in_bank: whether an image's own other patches count as normal ones.
        vision_multiplier, vision_weight: factor on the vision map, and its share in the map.
        aspect: the aspect ratio that all images have and that their patches keep: sizes stand for
            rectangles of as many pixels. None squashes images to squares, as the paper does.

    Examples:
        >>> settings = Settings(mode="vision", segmentation_sizes=(224, 448))
        >>> settings.language, [feature.label for feature in settings.vision_features()]
        (False, ['clip-patch-224', 'clip-patch-448'])
    """

    mode: Mode = "both"
    classification_size: int = 240
    segmentation_sizes: tuple[int, ...] = (240, 448, 896)
    score_prompts: tuple[str, ...] = ("winclip",)
    map_prompts: tuple[str, ...] = (
        "winclip", "descriptions_1", "descriptions_2", "descriptions_3", "descriptions_4",
        "descriptions_5",
    )  # fmt: skip
    score_stream: Stream = "clip"
    map_stream: Stream = "gem"
    vision_stream: Stream = "clip"
    classifier: str = "average"
    query_in_bank: bool = False
    vision_multiplier: float = 3.5
    vision_weight: float = 0.85
    aspect: AspectRatio | None = None

    @property
    def language(self) -> bool:
        """Whether text has a part."""
        return self.mode in ("language", "both")

    @property
    def vision(self) -> bool:
        """Whether normal patches have a part."""
        return self.mode in ("vision", "both")

    def score_feature(self) -> Feature:
        """The token that gives the language score."""
        return Feature(self.classification_size, self.score_stream, "cls")

    def map_features(self) -> list[Feature]:
        """The patches that give the language map, one feature a size."""
        return [Feature(size, self.map_stream, "patch") for size in self.segmentation_sizes]

    def vision_features(self) -> list[Feature]:
        """The patches that are compared with normal ones, one feature a size."""
        return [Feature(size, self.vision_stream, "patch") for size in self.segmentation_sizes]


@dataclass(frozen=True, eq=False)
class Inspection:
    """What a detector says of an image.

    Attributes:
        score: how anomalous it is, in [0, 1].
        levels: the same of each patch: (rows, columns) uint8 on the grid of the largest size.

    Examples:
        >>> import numpy as np
        >>> found = Inspection(0.8, np.array([[0, 9], [204, 3]], np.uint8))
        >>> divmod(int(found.levels.argmax()), 2)  # row and column of the worst patch
        (1, 0)
    """

    score: float
    levels: np.ndarray


@dataclass(frozen=True, eq=False)
class Detector:
    """All that is needed to inspect images of one kind of object; see :meth:`prepare`.

    Attributes:
        encoder: of images.
        settings: how it works.
        score_text, map_text: fitted text classifiers, None where text has no part.
        references: patches of each reference image by size, (patches, dim) float32.

    Examples:
        >>> from importlib.resources import files
        >>> from fade import Encoder
        >>> import numpy as np
        >>> demo = files("pipeline.demo")
        >>> encoder = Encoder.load(str(demo / "fade-demo.json"), str(demo / "fade-demo.safetensors"))
        >>> good = np.full((128, 128, 3), 120, np.uint8)
        >>> bad = good.copy()
        >>> bad[32:64, 32:64] = 255
        >>> settings = Settings(mode="vision", segmentation_sizes=(128,))
        >>> detector = Detector.prepare(encoder, "plate", [good], settings)
        >>> detector.inspect(bad).score > detector.inspect(good).score
        True
    """

    encoder: Encoder
    settings: Settings
    score_text: TextClassifier | None
    map_text: TextClassifier | None
    references: tuple[Mapping[int, np.ndarray], ...]

    @classmethod
    def prepare(
        cls,
        encoder: Encoder,
        name: str,
        references: Iterable[np.ndarray] = (),
        settings: Settings | None = None,
    ) -> Detector:
        """Embed the prompts, fit the text classifiers and encode the reference images.

        Args:
            encoder: of images and texts.
            name: of the object, as a prompt calls it.
            references: good images, each (H, W, 3) uint8 RGB.
            settings: how it works.

        Raises:
            ParameterError: settings that mean nothing, or nothing to compare patches with.
            DataError: a reference is no RGB image, or not of the aspect ratio that is kept.
        """
        settings = settings or Settings()
        good = () if references is None else tuple(references)
        _check(settings)
        if not settings.segmentation_sizes or not (settings.language or settings.vision):
            raise ParameterError(
                f"a detector of mode {settings.mode!r} and sizes {settings.segmentation_sizes} finds "
                "nothing: choose language, vision or both, and at least one size"
            )
        if settings.vision and not good and not settings.query_in_bank:
            raise ParameterError(
                f"mode {settings.mode} has nothing to compare with: give references, set "
                "query_in_bank, or choose mode language"
            )
        score_text = map_text = None
        if settings.language:
            score_text = text_classifier(encoder, settings.score_prompts, name, settings.classifier)
            map_text = text_classifier(
                encoder, settings.map_prompts, GENERIC_NAME, settings.classifier
            )
        features = settings.vision_features() if settings.vision else []
        banks = tuple(
            {
                feature.size: patches
                for feature, patches in embed(encoder, image, features, settings.aspect).items()
            }
            for image in (good if settings.vision else ())
        )
        return cls(encoder, settings, score_text, map_text, banks)

    def inspect(self, image: np.ndarray) -> Inspection:
        """Score an image, (H, W, 3) uint8 RGB, and map its anomalies.

        Raises:
            DataError: it is no RGB image, or not of the aspect ratio that is kept.
        """
        settings = self.settings
        wanted = settings.vision_features() if settings.vision else []
        if settings.language:
            wanted += [settings.score_feature(), *settings.map_features()]
        features = embed(self.encoder, image, wanted, settings.aspect)
        grids = {
            size: self.encoder.patch_grid(size, settings.aspect)
            for size in settings.segmentation_sizes
        }
        score = language = vision = None
        if self.score_text and self.map_text:
            cls_token = features[settings.score_feature()][None]
            score = float(language_scores(self.score_text, cls_token)[0])
            language = language_map(
                self.map_text,
                [features[feature] for feature in settings.map_features()],
                list(grids.values()),
            )
        if settings.vision:
            patches = {feature.size: features[feature] for feature in settings.vision_features()}
            vision = np.float32(settings.vision_multiplier) * vision_map(
                patches, self.references, query_in_bank=settings.query_in_bank, grids=grids
            )
        fused = fuse_values(
            language, vision, mode=settings.mode, weight=settings.vision_weight, normalize=False
        )
        return Inspection(
            image_score(score, vision, mode=settings.mode, shots=len(self.references)),
            to_levels(fused),
        )


def _check(settings: Settings) -> None:
    """Refuse settings that would give wrong numbers, or an error of another name."""
    for name in ("segmentation_sizes", "score_prompts", "map_prompts"):
        value = getattr(settings, name)
        if isinstance(value, str | int):
            raise ParameterError(f"{name} is one {value!r}: give several, or one in a tuple")
    for name in ("score_stream", "map_stream", "vision_stream"):
        if (stream := getattr(settings, name)) not in get_args(ClipStream):
            raise ParameterError(
                f"{name} is {stream!r}: choose {' or '.join(get_args(ClipStream))}"
            )
    for name, least, most, says in (
        ("vision_weight", 0, 1, "from 0 to 1"),
        ("vision_multiplier", math.ulp(0), sys.float_info.max, "above 0"),
    ):
        value = getattr(settings, name)
        if not (isinstance(value, int | float | np.floating) and least <= value <= most):
            raise ParameterError(f"{name} is {value!r}: give a number {says}")


def text_classifier(
    encoder: Encoder,
    prompts: Sequence[str],
    name: str,
    classifier: str = "average",
) -> TextClassifier:
    """Fit a text classifier on embedded prompts.

    Args:
        encoder: of texts.
        prompts: shipped ensembles or paths of JSON files, see :mod:`fade.prompts`.
        name: put in for ``{classname}``.
        classifier: one of :data:`fade.text.CLASSIFIERS`.

    Raises:
        DataError: a prompt file is missing or not in the format.
        ParameterError: an unknown classifier.
    """
    ensembles = [load_ensemble(prompt, Path()) for prompt in prompts]
    sentences, labels = fill(ensembles, name, DEFAULT_TEMPLATE)
    return fit(classifier, encoder.encode_texts(sentences), labels)


def embed(
    encoder: Encoder,
    image: np.ndarray,
    features: Collection[Feature],
    aspect: AspectRatio | None = None,
) -> dict[Feature, np.ndarray]:
    """Features of one image; it is encoded once a size.

    Args:
        encoder: of images.
        image: (H, W, 3) uint8 RGB; resized from the original to each size.
        features: wanted ones.
        aspect: the aspect ratio that is kept; None squashes the image to squares.

    Returns:
        L2-normalised float32: (dim,) for cls, (patches, dim) for patch.

    Raises:
        DataError: the image has another shape or type, or not the aspect ratio.
    """
    from PIL import Image

    if not isinstance(image, np.ndarray):
        raise DataError(
            f"an image of type {type(image).__name__} cannot be encoded: give uint8 RGB of shape "
            "(height, width, 3), such as np.asarray of a PIL image in RGB"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise DataError(
            f"an image of shape {image.shape} and type {image.dtype} cannot be encoded: give uint8 "
            "RGB of shape (height, width, 3)"
        )
    height, width = image.shape[:2]
    if aspect is not None and not aspect.fits(width, height):
        raise DataError(
            f"an image of {width} x {height} pixels has another aspect ratio than the "
            f"{aspect.width}:{aspect.height} of the settings: crop it, or set aspect to None"
        )
    picture = Image.fromarray(image)
    found: dict[Feature, np.ndarray] = {}
    shapes = {feature: encoder.pixels(feature, aspect) for feature in features}
    for shape in sorted(set(shapes.values())):
        here = [feature for feature in features if shapes[feature] == shape]
        outputs = {(feature.stream, feature.token) for feature in here}
        encoded = encoder.encode_images(resize_image(picture, shape, aspect)[None].copy(), outputs)
        for feature in here:
            found[feature] = encoded[feature.stream, feature.token][0]
    return found
