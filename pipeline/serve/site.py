"""What is served: a project's finished run as it is now, or a bundle."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from fade.errors import DataError, FadeError, StoreError, counted, plain
from fade.types import Trial
from pipeline.artefacts.labels import LABELS_FILE
from pipeline.artefacts.results_state import results_state
from pipeline.inference.bundle_file import BundleFile
from pipeline.serve.label_book import LabelBook, Stamp
from pipeline.serve.models import BundleModels, Models, RunModels
from pipeline.serve.snapshot import Snapshot

log = logging.getLogger("fade")
LOOK_SECONDS = 1.0
"""How often it is looked whether the results changed."""


class Site:
    """What is served: see :class:`RunSite` and :class:`BundleSite`.

    Attributes:
        name: to show.
        model: whether it is loaded.
        reason: why it cannot be; empty where it can.
    """

    name: str
    model: Literal["loading", "ready", "failed"] = "loading"
    reason: str = ""

    def models(self) -> Models:
        """What gives predictors."""
        raise NotImplementedError

    def load(self) -> None:
        """Load the model of the trial that is shown first.

        Raises:
            FadeError: it cannot be loaded.
        """
        self.models().predictor()
        self.model = "ready"

    def failed(self, error: FadeError) -> None:
        """Note why the model cannot be loaded."""
        self.model, self.reason = "failed", plain(str(error))
        log.warning("new images cannot be judged: %s", self.reason)


class RunSite(Site):
    """A project's finished run. Opened again when the project ran again.

    Args:
        shots, seed: the trial to show first.

    Raises:
        StoreError: something is missing, damaged or of other parameters.
        DataError: the file of labels cannot be used.
    """

    def __init__(self, folder: Path, shots: int | None = None, seed: int | None = None) -> None:
        self.folder, self._shots, self._seed = folder, shots, seed
        self.name = folder.resolve().name
        self._lock = threading.Lock()
        self._book = LabelBook(folder / LABELS_FILE)
        self._labelled: tuple[str, Stamp] | None = None
        self._open()

    @property
    def labels_file(self) -> str:
        """Where corrected labels are kept, as the page shows it."""
        return LABELS_FILE.as_posix()

    @staticmethod
    def uses_labels(snapshot: Snapshot) -> bool:
        """Whether the run's metrics are of the corrected labels: ``evaluate.labels``."""
        named = snapshot.params.evaluate.labels
        return named is not None and Path(named) == LABELS_FILE

    def _open(self) -> None:
        self._snapshot: Snapshot | None = None
        self._reason = ""
        self._looked = time.monotonic()
        self._state = results_state(self.folder)
        self._snapshot = Snapshot(self.folder, self._shots, self._seed)
        self._models = RunModels(self.folder, self._snapshot.trial, self._snapshot.state)

    def snapshot(self) -> Snapshot:
        """The run as it is now, with the corrected labels."""
        with self._lock:
            if time.monotonic() - self._looked > LOOK_SECONDS:
                self._look()
            found = self._snapshot
            if found is None:
                raise StoreError(self._reason)
            self._take_labels(found)
            return found

    def _look(self) -> None:
        self._looked = time.monotonic()
        state = results_state(self.folder)
        if self._snapshot is not None and state == self._state:
            return
        try:
            self._open()
        except FadeError as error:
            self._snapshot = None
            self._reason = f"the results changed, and are not whole yet: {plain(str(error))}"

    def _take_labels(self, snapshot: Snapshot) -> None:
        """Bring the index up to the file of labels, which may be edited beside."""
        taken = self._labelled == (snapshot.key, self._book.stamp)
        if taken and not self._book.changed():
            return
        try:
            labels = self._book.labels()
        except DataError as error:
            raise StoreError(str(error)) from None
        unknown = snapshot.index.correct_all(labels)
        if unknown:
            images = counted(unknown, "image")
            log.warning("%s names %s that the run does not have", self._book.path, images)
        self._labelled = snapshot.key, self._book.stamp

    def set_label(
        self,
        snapshot: Snapshot,
        row: int,
        label: bool | None,
        check: Callable[[int], None] | None = None,
    ) -> None:
        """Keep the label of an image: None takes the correction back.

        Args:
            snapshot, row: the image.
            label: whether it is anomalous.
            check: gets the label so far, as an index has it, and may raise what leaves it.

        Raises:
            DataError: the file of labels changed and cannot be used.
            OSError: it cannot be written.
        """
        with self._lock:
            given = int(snapshot.index.given[row])

            def look(kept: bool | None) -> None:
                if check:
                    check(given if kept is None else int(kept))

            kept = None if label is not None and given == int(label) else label
            before = self._book.set(snapshot.index.path(row), kept, look)
            snapshot.index.correct(row, label)
            # where others wrote in between, their labels are yet to be taken in
            if self._labelled == (snapshot.key, before):
                self._labelled = snapshot.key, self._book.stamp

    def models(self) -> RunModels:
        """Predictors of the run's trials."""
        return self._models

    def trial(self, snapshot: Snapshot, shots: int | None, seed: int | None) -> Trial:
        """The trial asked for.

        Raises:
            ParameterError: there is none such.
        """
        from pipeline.evaluation.trials import choose_trial

        if shots is None and seed is None:
            return snapshot.trial
        return choose_trial(list(snapshot.index.scores), shots, seed)


class BundleSite(Site):
    """A bundle: new images alone.

    Args:
        weights, download: see :meth:`Predictor.from_bundle`.

    Raises:
        StoreError: the file is no bundle.
    """

    def __init__(self, path: Path, weights: Path | None = None, download: bool = False) -> None:
        BundleFile(path)  # a file of another kind is refused now, not when its model is loaded
        self.name = path.name
        self._models = BundleModels(path, weights, download)

    def models(self) -> BundleModels:
        """The predictor of the bundle."""
        return self._models
