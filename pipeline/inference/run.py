"""What scoring new images needs of a finished run: parameters, banks, text, thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.store import Store
from fade.errors import ParameterError, StoreError, counted
from fade.faiss_index import index_vectors, read_index, stored_digest
from fade.text import TextClassifier
from pipeline.artefacts.catalogue import (
    CATEGORIES,
    MANIFEST,
    REFERENCES,
    SELECTION,
    TEST,
    THRESHOLDS,
    store_root,
)
from pipeline.artefacts.parameters import LOCK_FILE
from pipeline.artefacts.receipts import Receipt, read_receipt
from pipeline.artefacts.tables import manifest_aspect, read_json, read_table
from pipeline.config.load import load_params
from pipeline.config.rules import partners_of
from pipeline.config.schema import Params
from pipeline.config.values import PARAMS_FILE
from pipeline.config.yaml12 import leaf
from pipeline.evaluation.thresholds import Threshold, parse_thresholds
from pipeline.evaluation.trials import choose_trial
from pipeline.features.models import SHIPPED, load_image_encoder
from pipeline.features.precision import warn_if_slow
from pipeline.inference.lock import check_lock
from pipeline.inference.material import CategoryBank, TrainedRun
from pipeline.inference.rules import (
    HeldRule,
    HeldUnion,
    batch_of_run,
    images_of_run,
    sample_of_run,
    subspaces_of_run,
)
from pipeline.scoring.banks import (
    BANK_TABLE,
    Bank,
    Comparison,
    HeldBank,
    bank_copies,
    bank_path,
    comparison_digest,
    comparisons,
)
from pipeline.scoring.nearest import Nearest
from pipeline.scoring.sentences import Sentences, read_sentences
from pipeline.scoring.texts import (
    TextIndex,
    Use,
    classifier_path,
    read_classifier,
)
from pipeline.scoring.views import view_plan

if TYPE_CHECKING:
    import numpy as np

    from pipeline.features.models import ImageEncoder


COMPONENTS: Mapping[Use, str] = {"classification": "language-score", "segmentation": "language-map"}
"""The score component that comes of a use of text."""


@dataclass(frozen=True)
class _Chosen:
    """What a trial compares a category's images with.

    Attributes:
        comparison: with positions in the bank.
        keys: hashes of its references.
        references: paths of all references, by position.
        indexes: by path, the checksums of the bank's files.
    """

    comparison: Comparison
    keys: list[str]
    references: tuple[str, ...]
    receipt: Receipt
    indexes: Mapping[str, str]


class FinishedRun(TrainedRun):
    """A project folder whose stages up to evaluate have run.

    Args:
        shots, seed: which trial, see :func:`choose_trial`.

    Raises:
        StoreError: an artefact is missing, damaged or made with other parameters.
    """

    def __init__(
        self, folder: Path = Path(), shots: int | None = None, seed: int | None = None
    ) -> None:
        self.folder = self.location = folder
        self._opened = _state(folder)
        self.remedy = "run `fade run --force text bank`"
        self.renewal = "run `fade run`, with --force if it finds nothing to do"
        self.params = _anchored(load_params(folder / PARAMS_FILE), folder)
        self.trial = choose_trial(self.params.trials(), shots, seed)
        check_lock(folder)
        self.categories = tuple(read_json(folder / CATEGORIES.path)["categories"])
        receipt = read_receipt(TEST, folder)
        self.features = {
            feature.label: receipt.space(feature.label).fingerprint
            for feature in self.params.test_features()
        }
        content = read_json(folder / THRESHOLDS.path)
        self.thresholds = self._thresholds(content)
        self._against: Mapping[str, Any] = content.get("against") or {}
        kept = self.params.features.keeps_aspect
        self.aspect = manifest_aspect(read_table(folder / MANIFEST.path)[1]) if kept else None
        self.check_unchanged()

    def check_unchanged(self) -> None:
        """Refuse a project that runs, or ran again, since this run was opened.

        Raises:
            StoreError: what is read from now on may be of another run.
        """
        if _state(self.folder) != self._opened:
            raise StoreError(
                f"{self.folder / PARAMS_FILE}, {LOCK_FILE} or {THRESHOLDS.path} changed while they were "
                "read: wait until `fade run` has ended, and start again"
            )

    def _thresholds(self, content: Mapping[str, Any]) -> dict[str, Threshold]:
        path = self.folder / THRESHOLDS.path
        found = {
            threshold.category: threshold
            for threshold in parse_thresholds(content, str(path))
            if threshold.trial == self.trial
        }
        params, fusion = self.params, self.params.fusion
        made_with = {
            f"trials.{self.trial.label}": [
                params.vision_weight(self.trial), params.vision_multiplier(self.trial)
            ],
            "classification_mode": fusion.classification_mode,
            "segmentation_mode": fusion.segmentation_mode,
            "normalize": fusion.normalize,
        }  # fmt: skip
        same = all(leaf(content, f"fusion.{name}") == own for name, own in made_with.items())
        if not same or set(found) != set(self.categories):
            raise StoreError(
                f"{path} was made with other parameters than those in {PARAMS_FILE}: run `fade run` "
                "to bring the results up to date"
            )
        return found

    def check_same_run(self, label: str, category: str, digest: str) -> None:
        """Refuse a bank or text classifier that the thresholds do not hold for.

        The project may run, or may have run again, since the thresholds were read.

        Args:
            label: of the score component that comes of it.
            digest: of what images are compared with, as the component's receipt has it.

        Raises:
            StoreError: the thresholds were made with another one.
        """
        try:
            made_with = self._against[label][category]
            made_with = made_with[self.trial.label] if label == "vision-map" else made_with
        except (KeyError, TypeError):  # an older version's thresholds, or no images of the category
            return
        if made_with != digest:
            what = "bank" if label == "vision-map" else "text classifier"
            raise StoreError(
                f"{self.folder / THRESHOLDS.path}: the thresholds were made with another {what} of "
                f"{category} than the one that is there now, since the project runs or ran again, or by "
                "another version: wait until `fade run` has ended, or run it, and start again"
            )

    def encoder(self) -> ImageEncoder:
        """The model of the parameters."""
        found = load_image_encoder(self.params, keep=True)
        remedy = "set it to fp32 and run `fade run`"
        warn_if_slow(self.params.model.precision, found.device, remedy)
        return found

    @cached_property
    def _text(self) -> TextIndex:
        return TextIndex.read(self.folder)

    def classifier(self, use: Use, category: str) -> TextClassifier:
        """The classifier that the text stage fitted."""
        return read_classifier(self.classifier_file(use, category))

    def classifier_file(self, use: Use, category: str) -> Path:
        """The file of a classifier."""
        try:
            digest = self._text.classifiers[use][category]
        except KeyError:
            raise StoreError(
                f"the text stage knows no classifier of {category} for {use}: run `fade run`"
            ) from None
        self.check_same_run(COMPONENTS[use], category, digest)
        return self.folder / classifier_path(digest)

    def bank(self, category: str) -> CategoryBank:
        """The bank that the bank stage built."""
        found = self._chosen(category)
        views = tuple(view.label for view in view_plan(self.params))
        shared = Bank.shared(self.params)
        trial = None if shared else self.trial
        paths = {view: bank_path(category, view, trial) for view in views if found.keys}
        indexes = {view: read_index(self.folder / path) for view, path in paths.items()}
        for path in paths.values():
            written = found.indexes.get(path.as_posix())
            if written and stored_digest(self.folder / path).hex() != written:
                raise StoreError(
                    f"{self.folder / path} is of another run than {BANK_TABLE}: wait until `fade run` "
                    "has ended, and start again; if none runs, run `fade run --force bank`"
                )
        held = HeldBank(
            category,
            views,
            shared,
            indexes,
            copies=bank_copies(self.params, category),
            rule=Nearest.of(self.params.vision),
        )
        return CategoryBank(held, found.comparison, found.references)

    def held_rule(self, category: str) -> HeldRule:
        """The subspaces of stage score_vision, or images of the batch from the store."""
        store = Store(store_root(self.params.features.store, self.folder))
        rule = self.params.vision.rule_at(self.trial.shots)
        if rule == "nearest":
            held, batch = self.bank(category), batch_of_run(self.folder, self.params, category)
            keys = batch.drawn(partners_of(self.params.vision, len(batch.keys)))
            others = images_of_run(self.folder, self.params, store, category, keys)
            return HeldUnion(others, held.bank, held.comparison)
        read = sample_of_run if rule == "mutual" else subspaces_of_run
        found, digest = read(self.folder, self.params, store, category, self.trial)
        self.check_same_run("vision-map", category, digest)
        return found

    def _chosen(self, category: str) -> _Chosen:
        """What the trial compares a category's images with; held against its thresholds."""
        drawn, held = ("category", "seed", "rank", "hash", "path"), ("category", "hash", "position")
        selection, _ = read_table(self.folder / SELECTION.path, drawn)
        table, remarks = read_table(self.folder / BANK_TABLE, held)
        receipt = read_receipt(REFERENCES, self.folder)
        own = selection[selection["category"] == category]
        rows = table[table["category"] == category]
        positions = dict(zip(rows["hash"], rows["position"].astype(int), strict=True))
        paths = own.drop_duplicates("hash").set_index("hash")["path"].to_dict()
        try:
            found = {
                one.trial: (one, keys) for one, keys in comparisons(own, positions, self.params)
            }
            comparison, keys = found[self.trial]
            references = tuple(
                str(paths[key]) for key in sorted(positions, key=positions.__getitem__)
            )
            labels = [feature.label for feature in self.params.bank_features(category)]
            batch = None
            if self.params.vision.has_batch(self.trial.shots):
                batch = batch_of_run(self.folder, self.params, category).digest
            digest = comparison_digest(comparison, keys, receipt, labels, self.params, batch)
        except KeyError:
            raise StoreError(
                f"the banks of {category} are of other parameters: run `fade run`"
            ) from None
        if len(own[(own["seed"] == self.trial.seed)]) < self.trial.shots:
            raise StoreError(
                f"the selection holds fewer than {counted(self.trial.shots, 'reference')} of "
                f"{category}: run `fade run`"
            )
        self.check_same_run("vision-map", category, digest)
        return _Chosen(comparison, keys, references, receipt, remarks.get("indexes") or {})

    def bank_rows(self, category: str) -> tuple[dict[str, np.ndarray], list[str]]:
        """The trial's bank as vectors by view, and the paths of its references.

        CLIP's as the store keeps them (references, patches, dim) where the index is exact, others as
        they are compared, copies of a reference included; what is left of them (patches, dim) where a
        coreset was taken.

        Raises:
            ParameterError: the index is approximate, which could not be built again elsewhere.
        """
        params = self.params
        if params.vision.index != "flat":
            raise ParameterError(
                f"vision.index {params.vision.index} cannot be taken along: set it to flat"
            )
        chosen = self._chosen(category)
        paths = [chosen.references[position] for position in chosen.comparison.references]
        if not chosen.keys:
            return {}, paths
        found = {}
        plain = all(view.plain for view in view_plan(params))
        stored = plain and bank_copies(params, category) == 1
        if Bank.shared(params) and not stored:
            bank, positions = self.bank(category).bank, list(chosen.comparison.references)
            for view, index in bank.indexes.items():
                vectors = index_vectors(index)
                images = vectors.reshape(len(chosen.references), -1, vectors.shape[1])
                found[view] = images[positions]
            return found, paths
        if not Bank.shared(params):
            bank = self.bank(category).bank
            for view, index in bank.indexes.items():
                found[view] = index_vectors(index).copy()
            return found, paths
        store = Store(store_root(params.features.store, self.folder))
        for feature in params.bank_features(category):
            locations = chosen.receipt.locate(store, feature.label, chosen.keys)
            found[str(feature.size)] = store.read(
                chosen.receipt.space(feature.label), [locations[key] for key in chosen.keys]
            )
        return found, paths

    def sentences(self, use: Use, category: str) -> Sentences:
        """The prompts by the parameters, if they are still those that were fitted."""
        self.classifier_file(use, category)  # of the same run
        return read_sentences(self.params, use, category, self._text, self.folder)


def _state(folder: Path) -> list[bytes]:
    """The files that say which run this is; nothing for those that are not there."""
    files = (folder / PARAMS_FILE, folder / LOCK_FILE, folder / THRESHOLDS.path)
    return [file.read_bytes() if file.is_file() else b"" for file in files]


def _anchored(params: Params, folder: Path) -> Params:
    """Parameters whose relative model files are found from elsewhere, too."""
    model = params.model
    name, pretrained = model.name, model.pretrained
    if name not in SHIPPED and name.endswith(".json"):
        name = str(folder / name)
    if pretrained and (folder / pretrained).is_file():
        pretrained = str(folder / pretrained)
    vision = params.vision
    encoder, weights = vision.encoder, vision.encoder_weights
    if encoder is not None and encoder.startswith("local-dir:"):
        encoder = f"local-dir:{folder / encoder.removeprefix('local-dir:')}"
    if weights is not None:
        weights = str(folder / weights)
    return params.model_copy(
        update={
            "model": model.model_copy(update={"name": name, "pretrained": pretrained}),
            "vision": vision.model_copy(update={"encoder": encoder, "encoder_weights": weights}),
        }
    )
