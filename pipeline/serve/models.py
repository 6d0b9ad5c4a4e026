"""Predictors of a run's trials or of a bundle, made when they are needed; they share one model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fade.errors import StoreError
from fade.types import Trial
from pipeline.artefacts.results_state import State, results_state
from pipeline.inference.run import FinishedRun

if TYPE_CHECKING:
    from pipeline.features.models import ImageEncoder
    from pipeline.inference.predictor import Predictor

TRIALS = 4
"""Trials whose banks are kept in memory."""


class Models(Protocol):
    """What gives predictors by trial."""

    def predictor(self, trial: Trial | None = None) -> Predictor:
        """The predictor of a trial; by default of the one that is shown first."""


class _TrialOfRun(FinishedRun):
    """A trial of a run whose model is in memory already."""

    def __init__(self, folder: Path, trial: Trial, encoder: ImageEncoder | None) -> None:
        super().__init__(folder, trial.shots, trial.seed)
        self._loaded = encoder

    def encoder(self) -> ImageEncoder:
        """The model of the parameters."""
        if self._loaded is None:
            self._loaded = super().encoder()
        return self._loaded


class RunModels:
    """Predictors of a run's trials.

    Args:
        trial: the one that is shown first.
        state: of the results that predictors are made of.
    """

    def __init__(self, folder: Path, trial: Trial, state: State) -> None:
        self._folder, self._trial, self._state = folder, trial, state
        self._encoder: ImageEncoder | None = None
        self._made: dict[Trial, Predictor] = {}

    def predictor(self, trial: Trial | None = None) -> Predictor:
        """The predictor of a trial.

        Raises:
            StoreError: the run is not finished, its parameters changed, or the project ran again.
            ParameterError: there is no such trial, or it cannot score new images.
        """
        from pipeline.inference.predictor import Predictor

        wanted = trial or self._trial
        if wanted not in self._made:
            run = _TrialOfRun(self._folder, wanted, self._encoder)
            found = Predictor(run)
            # a request may have waited while the project ran again, with another model perhaps
            if results_state(self._folder) != self._state:
                raise StoreError("the results changed while the request waited: send it again")
            self._encoder = run.encoder()
            while len(self._made) >= TRIALS:
                self._made.pop(next(iter(self._made)))
            self._made[wanted] = found
        return self._made[wanted]


class BundleModels:
    """The predictor of a bundle.

    Args:
        weights, download: see :meth:`Predictor.from_bundle`.
    """

    def __init__(self, path: Path, weights: Path | None = None, download: bool = False) -> None:
        self._path, self._weights, self._download = path, weights, download
        self._made: Predictor | None = None

    def predictor(self, trial: Trial | None = None) -> Predictor:
        """The predictor of the one trial that a bundle holds."""
        from pipeline.inference.predictor import Predictor

        if self._made is None:
            self._made = Predictor.from_bundle(
                self._path, weights=self._weights, download=self._download
            )
        return self._made
