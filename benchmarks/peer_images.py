"""Images for comparisons with peers: those of DeepPCB, and more by turning and mirroring them."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from PIL import Image, ImageChops, ImageOps

from benchmarks.peer_methods import Method

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("FADE_TEST_DATA", ROOT.parent / "shared")) / "data" / "deeppcb"
FAR = 64
"""Ways round that an image of one category may have before they are those of the next."""


@dataclass(frozen=True)
class Amount:
    """How many images there are: categories, and in each training images and tests; None: as they are.

    A category of MVTec AD has about 200 training images and 80 to 150 tests.
    """

    categories: int | None = None
    training: int | None = None
    tests: int | None = None

    def of(self, method: Method) -> Amount:
        """What a method is measured on, unless something else was asked for."""
        return Amount(
            self.categories or method.categories,
            self.training or method.training,
            self.tests or method.tests,
        )


def write_images(folder: Path, amount: Amount) -> Path:
    """A copy of the images, to which one is added later."""
    target = folder / "images"
    found = sorted(path for path in DATA.iterdir() if path.is_dir())
    for number in range(amount.categories or len(found)):
        turn, source = divmod(number, len(found))
        category = target / f"{found[source].name}_{turn}"
        for part, wanted in {"train": amount.training, "test": amount.tests}.items():
            _copy_part(found[source], category, part, wanted, turn)
    return target


def _copy_part(source: Path, category: Path, part: str, wanted: int | None, first: int) -> None:
    """Images of a part and their masks, turned and mirrored for more than there are."""
    kinds = [sorted(kind.iterdir()) for kind in sorted((source / part).iterdir())]
    files = [
        file for row in zip_longest(*kinds) for file in row if file
    ]  # of all kinds from the start
    for number in range(wanted or len(files)):
        turn, place = divmod(number, len(files))
        file = files[place]
        relative = file.relative_to(source)
        _turned(file, category / relative.with_stem(f"{file.stem}_{turn}"), turn + FAR * first)
        for mask in source.glob(f"ground_truth/{file.parent.name}/{file.stem}*"):
            named = mask.relative_to(source).with_stem(
                mask.stem.replace(file.stem, f"{file.stem}_{turn}")
            )
            _turned(mask, category / named, turn + FAR * first)


def _turned(source: Path, target: Path, turn: int) -> None:
    """An image another way round: eight ways, then the same ones with a pixel's column moved."""
    target.parent.mkdir(parents=True, exist_ok=True)
    moved, way = divmod(turn, 8)
    if not turn:
        shutil.copyfile(source, target)
        return
    with Image.open(source) as image:
        whole = image.rotate(90 * (way % 4))
        whole = ImageOps.mirror(whole) if way >= 4 else whole
        ImageChops.offset(whole, moved, 0).save(target)


def add_image(images: Path) -> None:
    """One more test image: a good one, turned around."""
    first = next(path for path in sorted(images.iterdir()) if path.is_dir()) / "test" / "good"
    source = sorted(first.iterdir())[0]
    with Image.open(source) as image:
        image.rotate(180).save(first / f"turned{source.suffix}")
