"""Which images a run judges: new ones, alone or together."""

from __future__ import annotations

from fade.errors import ParameterError
from fade.types import Trial
from pipeline.config.schema import Params


def check_new_images(params: Params) -> None:
    """Refuse runs whose image scores are those of a test set alone (ParameterError)."""
    if params.evaluate.smooth_similar:
        raise ParameterError(
            "evaluate.smooth_similar smooths image scores over a test set, which new images are not "
            "part of: set it to [] and run `fade run`, which encodes nothing"
        )


def check_batch(params: Params, shots: int) -> None:
    """Refuse runs that do not score images against each other (ParameterError)."""
    if not params.needs_vision or params.vision.rule_at(shots) != "mutual":
        raise ParameterError(
            "--batch scores images against each other, and this run does not: leave --batch out, "
            "or make a run with vision.rule mutual (docs/methods.md)"
        )


def batch_line(params: Params, trial: Trial, *, batch: bool) -> str | None:
    """What scores depend on besides their image, in runs where images of a batch are compared.

    Args:
        batch: whether the images are scored against each other.
    """
    if batch:
        return "transductive: each image is scored against the others that are named here"
    if not params.needs_vision or not params.vision.has_batch(trial.shots):
        return None
    return "transductive: images are compared with test images of the run, which nobody labelled"
