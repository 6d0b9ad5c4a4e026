"""What a bank must hold for its index and its neighbours, known before anything is encoded."""

from __future__ import annotations

from collections.abc import Iterable

from fade.faiss_index import FLAT, check_index
from pipeline.config.schema import Params
from pipeline.scoring.banks import Bank, bank_copies
from pipeline.scoring.nearest import Nearest


def asks_for_patches(params: Params) -> bool:
    """Whether a run can ask more of a bank than that it is not empty."""
    vision = params.vision
    return params.needs_vision and (vision.neighbours > 1 or vision.index != FLAT)


def check_bank_sizes(
    params: Params, patches: int, width: int, categories: Iterable[str | None] = (None,)
) -> None:
    """Refuse more neighbours, or a larger index, than there are patches to compare with.

    Args:
        params: of the run.
        patches: of an image, in the view that has the fewest.
        width: of their vectors.
        categories: that have references; None stands for those without transforms of their own.

    Raises:
        ParameterError: with how many patches there are.
    """
    vision, rule = params.vision, Nearest.of(params.vision)
    for trial in params.trials():
        if vision.rule_at(trial.shots) != "nearest":
            continue
        if params.query_in_bank(trial):
            rule.check(patches - 1)
        if not trial.shots:
            continue
        each = patches * min((bank_copies(params, one) for one in categories), default=1)
        if Bank.shared(params):
            rule.check(each)
            continue
        held = trial.shots * each
        kept, more = max(1, round(vision.coreset * held)), "raise vision.coreset"
        if vision.bank_size is not None:
            kept, more = min(vision.bank_size, held), "raise vision.bank_size"
        rule.check(kept, *([more] if kept < held else []))
        check_index(vision.index, width, kept, vision.metric)
