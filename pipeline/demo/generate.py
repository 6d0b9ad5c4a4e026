"""Pictures and whole data sets from the families and defects, equal for equal seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fade.errors import ParameterError
from pipeline.demo.defects import DEFECTS, Defect
from pipeline.demo.families import FAMILIES, Array, Family, Mask, Rng, Style, blur

DEMO_CATEGORIES: Mapping[str, tuple[str, ...]] = {
    "capsule": ("crack", "dent", "contamination"),
    "circuit_board": ("burn", "misplaced", "scratch"),
    "fabric": ("hole", "stain", "thread"),
    "tile": ("crack", "glue", "missing_piece"),
    "washer": ("corrosion", "missing_piece", "scratch"),
}
"""Categories of the demo data set, each named as its family, with the defects of their tests."""

DEMO_DEFECTS: tuple[str, ...] = tuple(
    name for name in DEFECTS if any(name in defects for defects in DEMO_CATEGORIES.values())
)
"""Defects that occur in the demo data set, some of them reserved to it."""

GOOD_PHRASES: tuple[str, ...] = (
    "without defect",
    "without damage",
    "without flaw",
    "in perfect condition",
)
"""What captions say of a picture without a defect."""

_MARGIN = 1.1
_OVERSAMPLING = 1.3


@dataclass(frozen=True, slots=True)
class Nuisance:
    """The most that camera and placing may differ between two pictures of one category."""

    rotation: float = 2.0
    """Degrees either way."""
    shift: float = 0.015
    """Fraction of the side, either way."""
    scale: float = 0.02
    """Fraction either way."""
    brightness: float = 0.05
    """Fraction either way."""
    gradient: float = 0.08
    """Fraction by which light falls off from the middle to a border."""
    blur: float = 0.45
    """Deviation in pixels."""
    noise: float = 0.012
    """Deviation of the sensor's noise, of 1."""

    def place(self, image: Array, foreground: Mask, rng: Rng, size: int) -> tuple[Array, Mask]:
        """Turn, shift and scale a larger drawing into the frame of ``size`` pixels a side."""
        drawn = image.shape[0]
        turn, zoom = rng.uniform(-1, 1, 2)
        dx, dy = rng.uniform(-1, 1, 2) * self.shift * size
        scale = size * _MARGIN / drawn * (1 + zoom * self.scale)
        move = cv2.getRotationMatrix2D(
            (drawn / 2 - 0.5, drawn / 2 - 0.5), turn * self.rotation, scale
        )
        move[:, 2] += (size - drawn) / 2 + np.array([dx, dy])
        soft = blur(image, 0.35 / scale)
        placed = cv2.warpAffine(soft, move, (size, size), borderMode=cv2.BORDER_REFLECT)
        cover = cv2.warpAffine(
            foreground.astype(np.float32), move, (size, size), borderMode=cv2.BORDER_REFLECT
        )
        return np.clip(placed, 0, 1).astype(np.float32), np.asarray(cover > 0.5, np.bool_)

    def expose(self, image: Array, rng: Rng) -> Array:
        """Light, focus and sensor noise: (S, S, 3) in [0, 1] to the same."""
        size = image.shape[0]
        turn = rng.uniform(0, 2 * np.pi)
        axis = np.linspace(-1, 1, size, dtype=np.float32)
        slope = axis[None, :] * np.float32(np.cos(turn)) + axis[:, None] * np.float32(np.sin(turn))
        level = 1 + self.brightness * rng.uniform(-1, 1)
        light = (level + self.gradient * rng.uniform(0.2, 1) * slope).astype(np.float32)
        seen = blur(image * light[..., None], self.blur * rng.uniform(0.4, 1))
        grain = (
            rng.standard_normal(image.shape, dtype=np.float32) * self.noise * rng.uniform(0.5, 1)
        )
        return np.asarray(np.clip(seen + grain, 0, 1), np.float32)


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture: uint8 RGB (S, S, 3), the mask of its defect (S, S), and words for a caption.

    The words read in a row: what it is, its state and, of a defect, the place, for example
    ("metal washer", "with a scratch", "on the top left").
    """

    image: NDArray[np.uint8]
    mask: Mask
    caption_words: tuple[str, ...]


def place_words(mask: Mask) -> str:
    """Where in the frame a mask lies, in thirds, by its centre of mass."""
    rows, columns = np.nonzero(mask)
    down = int(np.clip(rows.mean() * 3 / mask.shape[0], 0, 2))
    across = int(np.clip(columns.mean() * 3 / mask.shape[1], 0, 2))
    words = " ".join(w for w in (("top", "", "bottom")[down], ("left", "", "right")[across]) if w)
    return f"on the {words}" if words else "in the center"


def style_of(family: Family, seed: int) -> Style:
    """The product that a seed stands for: the same for every picture of a category."""
    return family.style(np.random.default_rng(np.random.SeedSequence([seed, 1])))


def generate_image(
    family: Family,
    style: Style,
    seed: int,
    size: int = 256,
    defect: Defect | None = None,
    nuisance: Nuisance | None = None,
) -> Sample:
    """Draw one picture of a product; equal arguments give equal bytes.

    With the same seed, the picture without a defect shows the same piece under the same light as
    the one with it. ``seed`` is an integer from 0 on, ``size`` pixels a side, from 64 on; others
    raise ParameterError. The mask is that of the pixels that the defect changed, before blur and
    noise, and is empty without a defect.
    """
    if size < 64:
        raise ParameterError(f"size {size} is below 64 pixels; ask for a larger picture")
    if seed < 0:
        raise ParameterError(f"seed {seed} is negative; give an integer from 0 on")
    nuisance = nuisance or Nuisance()
    draws = [np.random.default_rng(s) for s in np.random.SeedSequence([seed, 2]).spawn(5)]
    piece, camera, flaw, sensor, words = draws
    drawn = family.render(style, piece, round(size * _MARGIN * _OVERSAMPLING))
    image, foreground = nuisance.place(*drawn, camera, size)
    mask = np.zeros((size, size), np.bool_)
    state: tuple[str, ...] = (str(words.choice(GOOD_PHRASES)),)
    if defect is not None:
        image, mask = defect.apply(image, foreground, flaw, float(flaw.uniform(0.25, 1)))
        state = (str(words.choice(defect.phrases)), place_words(mask))
    seen = nuisance.expose(image, sensor)
    pixels = np.round(seen * 255).astype(np.uint8)
    return Sample(pixels, mask, (str(words.choice(family.words)), *state))


def generate_dataset(
    root: Path,
    seed: int = 0,
    size: int = 256,
    categories: Mapping[str, tuple[str, ...]] = DEMO_CATEGORIES,
    train: int = 8,
    good: int = 6,
    per_defect: int = 3,
) -> None:
    """Write a data set in MVTec's layout into a folder; equal arguments give equal files.

    ``categories`` maps names of families to names of defects. Each category gets ``train`` pictures
    in train/good, ``good`` in test/good and ``per_defect`` of each defect, with their masks.
    Unknown names raise ParameterError before anything is written.
    """
    for name, defects in categories.items():
        for kind, given, known in (("family", (name,), FAMILIES), ("defect", defects, DEFECTS)):
            unknown = sorted(set(given) - set(known))
            if unknown:
                raise ParameterError(
                    f"unknown {kind} {unknown[0]!r}; known are: {', '.join(sorted(known))}"
                )
    for name, defects in categories.items():
        family = FAMILIES[name]
        number = list(FAMILIES).index(name)
        style = style_of(family, _seed(seed, number))
        folders = [("train", "good", train), ("test", "good", good)]
        folders += [("test", defect, per_defect) for defect in defects]
        for part, (split, label, count) in enumerate(folders):
            for i in range(count):
                sample = generate_image(
                    family, style, _seed(seed, number, part, i), size, DEFECTS.get(label)
                )
                _write(root / name / split / label / f"{i:03d}.png", sample.image)
                if label in DEFECTS:
                    target = root / name / "ground_truth" / label / f"{i:03d}_mask.png"
                    _write(target, sample.mask.astype(np.uint8) * 255)


def _seed(*numbers: int) -> int:
    """One seed out of several integers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)
