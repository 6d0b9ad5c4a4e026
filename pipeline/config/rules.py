"""Which images a patch is compared with, and by which rule."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from fade.rules.pairs import MIN_IMAGES
from pipeline.config.values import ByShots, ParamsSection, by_shots, shown

Source = Literal["references", "batch", "references_and_batch"]
"""What is normal: references, the other test images of the category, or both."""
Rule = Literal["nearest", "subspace", "mutual"]
ALL_PARTNERS = 256
"""Up to so many images of a batch, each is compared with all others unless something else is said."""
PARTNERS = 32
"""With how many others where there are more."""


def _partners(value: Any) -> Any:
    if value is None or value == "all" or (type(value) is int and value >= 2 and value % 2 == 0):
        return value
    raise ValueError(
        f"must be null, all, or an even number of other images from 2 on, not {shown(value)}"
    )


class RuleParams(ParamsSection):
    """The part of section vision that says what patches are compared with, and how."""

    bank: Source | ByShots[Source] = "references"
    rule: Rule | ByShots[Rule] = "nearest"
    variance: Annotated[float, Field(gt=0, le=1)] = 0.99
    components: Annotated[int, Field(ge=1)] | None = None
    lowest: Annotated[float, Field(gt=0, le=1)] = 0.3
    partners: Annotated[int | Literal["all"] | None, BeforeValidator(_partners)] = None
    set_size: Annotated[int, Field(ge=MIN_IMAGES)] = 256
    thinning: Literal["greedy", "superadd"] = "greedy"
    bank_size: Annotated[int, Field(ge=1)] | None = None

    def source(self, shots: int) -> Source:
        """What is normal at so many shots."""
        return by_shots(self.bank, shots)

    def rule_at(self, shots: int) -> Rule:
        """How patches are compared at so many shots."""
        return by_shots(self.rule, shots)

    def has_batch(self, shots: int) -> bool:
        """Whether other test images count at so many shots."""
        return self.source(shots) != "references"

    def keeps_banks(self, shots: int) -> bool:
        """Whether a new image is compared with a bank of references alone."""
        return self.rule_at(shots) == "nearest" and not self.has_batch(shots)


def partners_of(vision: RuleParams, images: int) -> int | None:
    """With how many others each image of a batch is compared; None: with all of its set."""
    if vision.partners == "all" or (vision.partners is None and images <= ALL_PARTNERS):
        return None
    return vision.partners or PARTNERS
