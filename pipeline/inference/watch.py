"""Judges the image files of a folder as they come, each once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from fade.datasets.folders_below import folders_below
from fade.datasets.mask_files import mask_files
from fade.datasets.names import is_text, looks_like_image
from fade.errors import DataError, counted
from pipeline.inference.journal import Journal, Key
from pipeline.inference.output import PICTURES, picture_name, write_pictures
from pipeline.inference.prediction import Prediction
from pipeline.inference.predictor import Predictor
from pipeline.inference.stream import batches

TRIES = 5
"""How many looks a file that cannot be used has, before it is noted as such."""

Stamp = tuple[int, int]
"""Size in bytes and time of change in nanoseconds: those of another content differ."""


@dataclass(frozen=True)
class Unread:
    """A file that cannot be used.

    Attributes:
        problem: which file, and why.
    """

    problem: str


class Watch:
    """The image files of a folder, of which each look judges those that are new and whole.

    A file waits until two looks find it with one size and one time of change. One that cannot be used
    is tried again: its copy may have paused. A file counts by its place, size, time of change and
    category: one that is written anew is judged anew.

    Args:
        folder: to look at, with all folders below; what is hidden is left out.
        journal: of what was judged before; it takes what is judged here.
        out: the journal's folder, whose pictures are no images to judge.
        pictures: whether pictures of predictions are written there.

    Raises:
        DataError: the folder is none.
    """

    def __init__(
        self,
        folder: Path,
        predictor: Predictor,
        category: str,
        journal: Journal,
        *,
        out: Path,
        pictures: bool = True,
    ) -> None:
        check_folder(folder)
        self._folder, self._before = folder, _before(str(folder))
        self._place = os.path.join(os.path.realpath(folder), "")
        self._predictor, self._category, self._journal = predictor, category, journal
        self._out, self._pictures = out, pictures
        self._own = {os.path.realpath(out / kind) for kind in PICTURES}
        self._waiting: dict[str, Stamp] = {}
        self._tries: dict[tuple[str, Stamp], int] = {}
        self._faults: set[str] = set()
        self._masks = False

    @property
    def waiting(self) -> int:
        """How many files of the last look are not judged."""
        return len(self._waiting)

    def look(
        self, say: Callable[[str], None], stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[Prediction | Unread]:
        """Judge what is new and whole, in the order in which it was written.

        Each answer is noted before it is given.

        Args:
            say: takes a line for each folder that cannot be listed, once for as long as that lasts, and
                one for the first masks of a data set, which are not judged.
            stopped: asked before each batch whether to leave the rest for later.
        """
        faults: set[str] = set()
        new = {
            name: stamp
            for name, stamp in listed(self._folder, self._own, faults).items()
            if self._key(name, stamp) not in self._journal
        }
        masks = new.keys() & mask_files(str(self._folder)) if new else set()
        if masks and not self._masks:
            self._masks = True
            say(f"not looked at: {counted(len(masks), 'mask')} of a data set, and any that follow")
        new = {name: stamp for name, stamp in new.items() if name not in masks}
        for fault in sorted(faults - self._faults):
            say(fault)
        self._faults = faults
        whole = [name for name, stamp in new.items() if self._waiting.get(name) == stamp]
        self._waiting = new
        self._tries = {(n, at): count for (n, at), count in self._tries.items() if new.get(n) == at}
        whole.sort(key=lambda name: (new[name][1], name))
        for batch in batches(whole, self._predictor.params.runtime.batch_size):
            if stopped():
                return
            yield from self._judge(batch)

    def _key(self, name: str, stamp: Stamp) -> Key:
        place = self._place + name[len(self._before) :]
        return _text(place), *stamp, self._category

    def _judge(self, batch: list[str]) -> Iterator[Prediction | Unread]:
        problems: list[str] = []
        named = [name for name in batch if is_text(name)]
        predictions = self._predictor.stream(
            named, self._category, problems=problems, keep=self._pictures
        )
        found = {prediction.name: prediction for prediction in predictions}
        unread = [name for name in named if name not in found]
        reasons = dict(zip(unread, problems, strict=True))
        for name in batch:
            stamp = self._waiting[name]
            if stamp_of(name) != stamp:
                continue  # it changed meanwhile: what was read may be half of it
            key = self._key(name, stamp)
            if name in found:
                prediction = self._drawn(found.pop(name))
                self._journal.add(key, prediction)
                del self._waiting[name]
                yield prediction
                continue
            tried = self._tries[name, stamp] = self._tries.get((name, stamp), 0) + 1
            if tried >= TRIES or name not in reasons:
                reason = reasons.get(name, f"{_text(name)}: its name is not UTF-8; rename it")
                self._journal.add_problem(key, _text(name), reason)
                del self._waiting[name]
                yield Unread(reason)

    def _drawn(self, prediction: Prediction) -> Prediction:
        """A prediction whose pictures are written, where they are wanted."""
        if not self._pictures or prediction.picture is None:
            return prediction
        name = picture_name(prediction, self._journal.pictures)
        return replace(
            prediction, pictures=write_pictures(prediction, self._out, name), picture=None
        )


def check_folder(folder: Path) -> None:
    """Refuse a place to watch that is no folder (DataError)."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: name the one that images come into")


def listed(folder: Path, without: set[str], faults: set[str]) -> dict[str, Stamp]:
    """The image files of a folder and those below it, by their names.

    Args:
        without: folders to leave out, by their real paths.
        faults: takes a line for each folder that cannot be listed.
    """

    def fail(error: OSError) -> None:
        faults.add(f"{error.filename} cannot be listed ({error.strerror}); its images wait")

    found = {}
    for place, folders, files in folders_below(str(folder), fail):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and os.path.realpath(os.path.join(place, name)) not in without
        ]
        before = _before(place)
        for file in files:
            if looks_like_image(file) and not file.startswith("."):
                name = before + file
                if stamp := stamp_of(name):
                    found[name] = stamp
    return found


def stamp_of(name: str) -> Stamp | None:
    """Size and time of change of a file, or of a link to nothing; None for one that is gone."""
    for follow in (True, False):
        try:
            told = os.stat(name, follow_symlinks=follow)
        except OSError:
            continue
        return told.st_size, told.st_mtime_ns
    return None


def _before(folder: str) -> str:
    """What the names of a folder's files begin with: as masks are named, also below "."."""
    return str(Path(folder, "x"))[:-1]


def _text(name: str) -> str:
    """A name whose bytes that are no UTF-8 are written as escapes."""
    return os.fsencode(name).decode(errors="backslashreplace")
