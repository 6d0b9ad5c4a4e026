"""What banks and rules cannot do together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fade.errors import ParameterError, counted
from pipeline.config.values import shown
from pipeline.config.vision import VisionParams


def check_rules(vision: VisionParams, shots: Sequence[int], *, keep: bool) -> None:
    """Refuse rules and banks that contradict each other or other parameters.

    Args:
        shots: of the run's trials, each once.
        keep: ``features.keep``.

    Raises:
        ParameterError: with what to change.
    """
    for count in shots:
        for complaint in _complaints(vision, count, keep):
            raise ParameterError(complaint)
    of_banks = ("index", "coreset", "bank_size")
    rules = {vision.rule_at(count) for count in shots}
    no_bank, unread = "has no bank for it", "does not read it"
    if "nearest" not in rules:
        names = (*of_banks, "neighbours", "radius", "per_dimension")
        _check_unset(vision, names, "rule", vision.rule, no_bank, "nearest")
    elif all(vision.source(count) == "batch" for count in shots):
        _check_unset(vision, of_banks, "bank", vision.bank, no_bank, "references")
    if "subspace" not in rules:
        _check_unset(vision, ("variance", "components"), "rule", vision.rule, unread, "subspace")
    if "mutual" not in rules:
        _check_unset(vision, ("lowest",), "rule", vision.rule, unread, "mutual")
    if not any(vision.has_batch(count) for count in shots):
        _check_unset(vision, ("partners", "set_size"), "bank", vision.bank, unread, "batch")
    if (vision.thinning == "superadd") != (vision.bank_size is not None):
        raise ParameterError(
            f"vision.thinning is {vision.thinning} and vision.bank_size {vision.bank_size}: superadd "
            "keeps bank_size vectors, such as 100000, greedy the share vision.coreset; set both or "
            "neither"
        )
    if vision.bank_size is not None and vision.coreset != 1:
        raise ParameterError(
            f"vision.bank_size and vision.coreset {vision.coreset:g} both thin the bank: set coreset "
            "to 1.0"
        )


def _check_unset(
    vision: VisionParams, names: Sequence[str], leaf: str, value: object, why: str, reader: str
) -> None:
    """Refuse settings that have no part at this value of a leaf (ParameterError)."""
    for name in names:
        if (given := getattr(vision, name)) != type(vision).model_fields[name].default:
            raise ParameterError(
                f"vision.{name} is {shown(given)}, and vision.{leaf} {shown(value)} {why}: "
                f"leave it at its default, or set vision.{leaf} to {reader}"
            )


def _complaints(vision: VisionParams, shots: int, keep: bool) -> Iterator[str]:
    rule, source = vision.rule_at(shots), vision.source(shots)
    at = f"at {counted(shots, 'shot')}"
    if rule == "mutual" and source != "batch":
        yield (
            f"vision.rule is mutual and vision.bank {source} {at}: in that rule test images score each "
            "other, so set vision.bank to batch (or {zero_shot: batch, few_shot: references} with a rule "
            "of the same kind)"
        )
    if source == "batch" and shots:
        yield (
            f"vision.bank is batch {at}, where references have no part: set vision.shots to [0], or "
            "vision.bank to references_and_batch or {zero_shot: batch, few_shot: references}"
        )
    if rule == "subspace" and source == "references" and not shots:
        yield (
            "vision.rule is subspace at 0 shots, and there are no references to fit it to: take 0 "
            "out of vision.shots, or set vision.bank to {zero_shot: batch, few_shot: references}"
        )
    if rule == "nearest" and source != "references":
        for name, default in (("neighbours", 1), ("radius", None)):
            if (value := getattr(vision, name)) != default:
                yield (
                    f"vision.{name} is {value} and vision.bank {source} {at}: of each other image the "
                    f"nearest patch alone counts; leave vision.{name} at its default"
                )
    if source != "references" and not keep:
        yield (
            f"features.keep is false and vision.bank is {source} {at}: images of a batch are compared "
            "with each other, so their features must be kept; set features.keep to true, or vision.bank "
            "to references"
        )
