"""Sentences and overrides that do not say what they were meant to."""

from __future__ import annotations

import logging
from difflib import get_close_matches

import numpy as np

from fade.errors import ParameterError, summarise
from pipeline.config.schema import Params
from pipeline.scoring.texts import USES, Use

log = logging.getLogger("fade")

Filled = dict[tuple[Use, str], tuple[list[str], np.ndarray]]
"""Sentences and their labels (1 = abnormal), by use and category."""


def check_overrides(params: Params, categories: list[str]) -> None:
    """Refuse overrides for a category that does not exist, which would do nothing.

    Where ``dataset.categories`` leaves some out, nobody knows here which others exist: a warning.
    """
    for name in params.text.overrides:
        if name in categories:
            continue
        close = get_close_matches(name, categories, n=3)
        hint = (
            f"did you mean {', '.join(close)}?" if close else f"there are {summarise(categories)}"
        )
        line = f"text.overrides names {name!r}, which is no category of this run ({hint})"
        if params.dataset.categories is None:
            raise ParameterError(f"{line}: correct the name or remove it")
        log.warning("%s", line)


def warn_of_both_sides(filled: Filled) -> None:
    """Sentences that are normal and abnormal tell nothing."""
    for use in USES:
        found = []
        for (of, category), (texts, labels) in filled.items():
            sides = [
                {text for text, side in zip(texts, labels, strict=True) if side == label}
                for label in (0, 1)
            ]
            both = sides[0] & sides[1] if of == use else ()
            if both:
                share = "all of them" if sides[0] == sides[1] else repr(min(both)[:100])
                found.append(f"{category}: {share}")
        if found:
            log.warning(
                "text.%s: sentences that are both normal and abnormal tell nothing: %s; look at "
                "text.template and the prompts", use, summarise(found),
            )  # fmt: skip
