"""Which trial of a sweep stands for it: one choice for the report, predictions, bundles and exports."""

from __future__ import annotations

from collections.abc import Sequence

from fade.errors import ParameterError, counted
from fade.types import Trial


def choose_trial(
    trials: Sequence[Trial], shots: int | None = None, seed: int | None = None
) -> Trial:
    """The trial asked for; by default the one with most shots, of those the smallest seed.

    Raises:
        ParameterError: there is no such trial.

    >>> choose_trial([Trial(0, 0), Trial(4, 1), Trial(4, 2)])
    Trial(shots=4, seed=1)
    """
    fitting = [
        trial for trial in trials if shots in (None, trial.shots) and seed in (None, trial.seed)
    ]
    if not fitting:
        known = ", ".join(f"{trial.shots} (seed {trial.seed})" for trial in trials)
        wanted = (("shots", shots), ("seed", seed))
        asked = " and ".join(f"{name} {value}" for name, value in wanted if value is not None)
        raise ParameterError(f"there is no trial with {asked}: the run has shots {known}")
    return min(fitting, key=lambda trial: (-trial.shots, trial.seed))


def trial_words(trial: Trial) -> str:
    """A trial as people read it.

    >>> trial_words(Trial(4, 0)), trial_words(Trial(1, 2))
    ('4 shots, seed 0', '1 shot, seed 2')
    """
    return f"{counted(trial.shots, 'shot')}, seed {trial.seed}"
