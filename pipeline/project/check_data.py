"""Looks at a data set's names, before a run: enough images for what the parameters ask of them?

No image is opened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType

from fade.datasets.leftovers import Account, ignore
from fade.errors import DataError, FadeError, ParameterError, counted
from pipeline.config.schema import DatasetParams, Params
from pipeline.dataset.manifest import dataset_records
from pipeline.dataset.selection import check_batches, check_shots
from pipeline.evaluation.guarantee import images_needed
from pipeline.project.findings import Finding, ok, problem, warning
from pipeline.scoring.banks import Bank

NO_LABELS: Mapping[str, bool] = MappingProxyType({})
NAMED = 5
"""Categories that one line names, at most."""


@dataclass
class ImageCounts:
    """How many images of each kind a data set lists.

    Attributes:
        training, good, defects, unlabelled, masks: by category; test images are good, defects or
            without a label, and masks are those of defects.
    """

    training: Counter[str] = field(default_factory=Counter)
    good: Counter[str] = field(default_factory=Counter)
    defects: Counter[str] = field(default_factory=Counter)
    unlabelled: Counter[str] = field(default_factory=Counter)
    masks: Counter[str] = field(default_factory=Counter)

    @property
    def categories(self) -> list[str]:
        """All of them, in the order in which they were met."""
        return list(dict.fromkeys([*self.training, *self.good, *self.defects, *self.unlabelled]))

    @property
    def tests(self) -> int:
        """Test images, with a label or without."""
        return self.good.total() + self.defects.total() + self.unlabelled.total()

    @property
    def test_sizes(self) -> dict[str, int]:
        """How many test images each category has."""
        sizes = self.good + self.defects + self.unlabelled
        return {category: sizes[category] for category in self.categories}


def count_images(
    dataset: DatasetParams,
    account: Account | None = None,
    labels: Mapping[str, bool] = NO_LABELS,
) -> ImageCounts:
    """Count the images that a run would use.

    Args:
        account: takes in what is used and what is left out.
        labels: of test images by path, in place of the data set's.

    Raises:
        DataError: the data set cannot be read.
    """
    counts = ImageCounts()
    for record in dataset_records(dataset, account.note if account else ignore):
        if account:
            account.use(record)
        is_anomaly = labels.get(record.path, record.is_anomaly)
        if record.split == "train":
            counts.training[record.category] += 1
        elif is_anomaly is None:
            counts.unlabelled[record.category] += 1
        elif is_anomaly:
            counts.defects[record.category] += 1
            counts.masks[record.category] += record.mask is not None
        else:
            counts.good[record.category] += 1
    return counts


def check_labels(dataset: DatasetParams, labels: Mapping[str, bool], file: str) -> None:
    """Refuse corrected labels of what is no test image of the data set, though a run leaves out some.

    Args:
        dataset: nothing is said of one that cannot be listed here; others say why.
        labels: by path.
        file: ``evaluate.labels``.

    Raises:
        DataError: naming the first of them.
    """
    from pipeline.evaluation.corrections import check_images

    whole = dataset.model_copy(update={"categories": None, "limit": None})
    try:
        records = (record for record in dataset_records(whole) if record.split == "test")
        known = {record.path for record in records if record.path in labels}
    except DataError:
        return
    check_images(labels, known, file)


def check_data(params: Params) -> tuple[ImageCounts | None, list[Finding]]:
    """The images that a run would use, and what of the parameters they do not suffice for.

    Raises:
        FadeError: the data set cannot be read.
    """
    from pipeline.dataset.accounting import unused_files, unused_summary, unused_warnings
    from pipeline.evaluation.corrections import corrections
    from pipeline.project.watched import check_watched, made_by_a_stage

    dataset, labels = params.dataset, NO_LABELS
    with suppress(DataError):  # said by itself
        labels = corrections(params.evaluate.labels)
    account = Account()
    try:
        check_watched(dataset)
        counts = count_images(dataset, account, labels)
    except DataError:
        if made_by_a_stage(dataset.path):
            text = f"{dataset.path} is not there yet: `fade run` makes it"
            return None, [warning("data", text)]
        raise
    line = (
        f"{dataset.path}: {counted(len(counts.categories), 'category')}, "
        f"{counts.training.total()} training and {counted(counts.tests, 'test image')} (not opened)"
    )
    unused = unused_files(dataset, account)
    found = [ok("data", line)]
    if unused:
        found.append(ok("data", unused_summary(unused)))
    found += [warning("data", text) for text in unused_warnings(dataset, unused)]
    found += [*_shots(params, counts), *_batches(params, counts), *_tests(params, counts)]
    return counts, [*found, *_thresholds(params, counts), *_overrides(params, counts)]


def _shots(params: Params, counts: ImageCounts) -> Iterator[Finding]:
    shots = params.max_shots if params.needs_vision else 0
    try:
        for category in counts.categories if shots else ():
            check_shots(category, counts.training[category], shots)
    except FadeError as error:
        yield problem("shots", error)
        return
    if shots:
        least = min(counts.training[category] for category in counts.categories)
        yield ok(
            "shots", f"up to {shots}; the smallest category has {counted(least, 'training image')}"
        )


def _batches(params: Params, counts: ImageCounts) -> Iterator[Finding]:
    if not params.needs_batch or not counts.tests:
        return
    sizes = counts.test_sizes
    try:
        check_batches(sizes)
    except FadeError as error:
        yield problem("batches", error)
        return
    yield ok("batches", f"the smallest category has {min(sizes.values())} test images")


def _tests(params: Params, counts: ImageCounts) -> Iterator[Finding]:
    if not counts.tests:
        if not params.threshold.images or not counts.training:
            yield problem(
                "test images",
                DataError(
                    f"{params.dataset.path} has no test images and threshold.images is "
                    f"{params.threshold.images}: nothing would be scored"
                ),
            )
        else:
            yield warning("test images", "there are none: thresholds alone are made, no metric")
        return
    categories = counts.categories
    if counts.unlabelled:
        yield ok(
            "labels",
            f"none for {counts.unlabelled.total()} of {counted(counts.tests, 'test image')}: scored, "
            "without a part in metrics",
        )
    reasons = {
        "no defect images": [c for c in categories if not counts.defects[c]],
        "no good test images": [c for c in categories if not counts.good[c]],
    }
    for reason, names in reasons.items():
        if names:
            yield warning(
                "test images", f"{reason} in {_few(names)}: its image metrics are undefined"
            )
    bare = [c for c in categories if counts.defects[c] and not counts.masks[c]]
    part = [c for c in categories if 0 < counts.masks[c] < counts.defects[c]]
    if bare:
        yield warning("masks", f"none in {_few(bare)}: pixel metrics are undefined there")
    if part:
        lacking = sum(counts.defects[c] - counts.masks[c] for c in part)
        text = f"{counted(lacking, 'defect image', 'has')} none ({_few(part)}): for image metrics alone"
        yield warning("masks", text)
    if not bare and not part and counts.defects:
        yield ok("masks", f"all defect images have one ({counts.defects.total()})")


def _thresholds(params: Params, counts: ImageCounts) -> Iterator[Finding]:
    threshold = params.threshold
    if threshold.source == "labels":
        unfit = [c for c in counts.categories if not (counts.good[c] and counts.defects[c])]
        if unfit:
            text = (
                f"threshold.source is labels, and {_few(unfit)} lacks good or defect images: there is "
                "no decision; set it to normal"
            )
            yield warning("thresholds", text)
        else:
            yield ok("thresholds", "from labels, which is optimistic on the same images")
        return
    if not threshold.images:
        yield warning("thresholds", "threshold.images is 0: there are scores, but no decisions")
        return
    none = [c for c in counts.categories if not counts.training[c]]
    if none:
        yield warning("thresholds", f"no training images in {_few(none)}: no decisions there")
    shots = params.max_shots if params.needs_vision else 0
    full = [c for c in counts.categories if 0 < counts.training[c] <= shots]
    if full and shots:
        whole = params.vision.rule_at(shots) == "nearest" and not Bank.shared(params)
        yield warning(
            "thresholds",
            f"the bank of {counted(shots, 'shot')} takes all training images of {_few(full)}: "
            + (
                "none can be left out of it, so that there are no decisions; add good images, or set "
                "vision.index to flat, vision.coreset to 1 and vision.thinning to greedy"
                if whole
                else "each is held against the others, which errs on the high side (a single one gives "
                "no decision); add good images"
            ),
        )
    rate = threshold.false_alarms
    if rate is not None and not none and not full:
        spare = min(min(counts.training[c] - shots for c in counts.categories), threshold.images)
        if spare < (needed := images_needed(rate)):
            yield warning(
                "thresholds",
                f"threshold.false_alarms {rate:g} needs {counted(needed, 'good image')} a category "
                f"outside the bank, not {spare}: add images, or raise threshold.images "
                f"({threshold.images})",
            )
    if not none and not full:
        spare = min(min(counts.training[c] - shots for c in counts.categories), threshold.images)
        yield ok("thresholds", f"from at least {counted(spare, 'training image')} a category")


def _overrides(params: Params, counts: ImageCounts) -> Iterator[Finding]:
    """Names that are no categories: the run warns of some, and refuses or says too late of others."""
    known = counts.categories
    for what, leaf, named, fatal in (
        ("prompts", "text.overrides", params.text.overrides, True),
        ("thresholds", "threshold.overrides", params.threshold.overrides, True),
        ("references", "vision.transform_overrides", params.vision.transform_overrides, False),
        (
            "foreground",
            "evaluate.foreground_overrides",
            params.evaluate.foreground_overrides,
            False,
        ),
    ):
        for name in named:
            if name in known:
                continue
            close = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"known: {_few(known)}"
            text = f"{leaf} names {name!r}, which is no category of this run ({hint})"
            # a run of some categories keeps the overrides of others
            refused = fatal and not params.dataset.categories
            yield problem(what, ParameterError(text)) if refused else warning(what, text)


def _few(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} others" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
