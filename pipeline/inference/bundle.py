"""Bundles: one file with all that scoring new images needs of a finished run.

A zip of plain arrays and JSON, nothing pickled and nothing compressed. A bundle may come from
anywhere, so reading one believes no name, size or shape in it.
"""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fade.device import choose_device
from fade.errors import ModelError, ParameterError, StoreError, counted
from fade.faiss_index import build_index
from fade.flat_vectors import FlatVectors
from fade.network import wanted_network, without_network
from fade.text import TextClassifier, loads
from fade.types import Trial
from fade.weights import read_weights
from pipeline.artefacts.tables import manifest_aspect
from pipeline.config.load import parse_params
from pipeline.config.schema import Params
from pipeline.evaluation.thresholds import parse_thresholds
from pipeline.features.models import (
    SHIPPED,
    clip_blocks,
    image_encoder,
    load_encoder,
    load_network,
)
from pipeline.features.patch_encoder import patch_encoder_of
from pipeline.features.precision import warn_if_slow
from pipeline.inference.bundle_arrays import bank_vectors, checked_array, images_of
from pipeline.inference.bundle_entries import SENTENCES, BundleContent
from pipeline.inference.bundle_file import REMEDY, BundleFile
from pipeline.inference.bundle_graphs import MODEL, GraphsAhead
from pipeline.inference.bundle_onnx import OnnxEntries
from pipeline.inference.material import CategoryBank, TrainedRun
from pipeline.scoring.banks import Bank, Comparison, HeldBank, bank_copies
from pipeline.scoring.nearest import Nearest
from pipeline.scoring.sentences import Sentences
from pipeline.scoring.texts import Use, classifier_digest
from pipeline.scoring.views import view_plan

if TYPE_CHECKING:
    from torch import Tensor

    from fade.encoder import Encoder
    from pipeline.features.models import ImageEncoder
    from pipeline.features.patch_encoder import PatchEncoder
    from pipeline.inference.rules import HeldRule

BUNDLE_SCHEMA = 1
KIND = "fade-bundle"
WEIGHTS = "weights.safetensors"


def network_weights(params: Params) -> str:
    """The name of the file that has the weights of ``vision.encoder``, alone or beside CLIP's."""
    return "encoder.safetensors" if params.needs_clip else WEIGHTS


def array_names(params: Params) -> dict[str, str]:
    """By view the name of the file that has its arrays: CLIP's is the size, where that says it all."""
    return {
        view.label: view.label if view.plain and view.label.isdecimal() else f"view{number}"
        for number, view in enumerate(view_plan(params))
    }


class Bundle(TrainedRun):
    """A bundle, opened.

    Args:
        weights: checkpoint file in place of the bundle's source of weights.
        download: whether the model and weights that the bundle names may be fetched from their hub.
        graphs: of its ONNX model, where they are made ready already.

    Raises:
        StoreError: missing, damaged, no bundle, or of another schema version.
    """

    def __init__(
        self, path: Path, weights: Path | None = None, *, download: bool = False,
        graphs: GraphsAhead | None = None,
    ) -> None:  # fmt: skip
        self.path, self._weights, self._download, self._graphs = path, weights, download, graphs
        self.location, self.remedy = path, REMEDY
        self.renewal = "write the bundle again with `fade run` and `fade bundle`"
        self._file, self._classifiers = BundleFile(path), dict[str, TextClassifier]()
        content = self._file.json("bundle.json")
        if content.get("kind") != KIND:
            raise StoreError(f"{path} is no bundle: write one with `fade bundle`")
        if content.get("schema") != BUNDLE_SCHEMA:
            raise StoreError(
                f"{path} has schema version {content.get('schema')}, this program reads {BUNDLE_SCHEMA}: "
                "write it again with this version, or install the one that wrote it"
            )
        with self._file.reading():
            self.params = parse_params(content["parameters"], str(path))
            parsed = BundleContent.model_validate(content)
            self.trial, self.categories = Trial(*parsed.trial), parsed.categories
            self.features, self._texts, self._banks = parsed.features, parsed.texts, parsed.banks
            self.aspect = manifest_aspect(content)
            found = parse_thresholds(content, str(path), REMEDY)
            self.thresholds = {threshold.category: threshold for threshold in found}
            if (
                sorted(threshold.category for threshold in found) != sorted(set(self.categories))
                or len(self.thresholds) != len(self.categories)
                or {threshold.trial for threshold in found} != {self.trial}
                or self.trial not in self.params.trials()
                or (self.aspect is None) == self.params.features.keeps_aspect
            ):
                raise ValueError("parameters, categories, thresholds and trial do not agree")

    @cached_property
    def onnx(self) -> OnnxEntries | None:
        """The model that runs without torch, where the bundle has one."""
        if MODEL not in self._file.entries:
            return None
        with self._file.reading():
            return OnnxEntries(self._file, self._graphs)

    def encoder(self) -> ImageEncoder:
        """The model: its weights from the bundle, the file given, or their source.

        No other machine is called, unless that was asked for.

        Raises:
            ModelError: model or weights are not here, or do not fit.
            ParameterError: weights were named, and the bundle runs on ONNX.
            StoreError: the bundle's weights are damaged.
        """
        if self.onnx is not None:
            if self._weights is not None or self._download:
                raise ParameterError(
                    f"{self.path} holds its model as ONNX: leave --weights and --download out"
                )
            with self._file.reading():
                return self.onnx.encoder()
        device = choose_device(self.params.runtime.device)
        remedy = "write the bundle from a run of fp32"
        warn_if_slow(self.params.model.precision, device, remedy)
        return image_encoder(self.params, self._clip, self._network, device)

    def _network(self) -> PatchEncoder:
        params, vision = self.params, self.params.vision
        if vision.encoder is None:
            return clip_blocks(params, self._clip())
        # of two models, a file that is named is CLIP's
        weights = None if params.needs_clip else self._weights
        if weights is None and (name := network_weights(params)) in self._file.entries:
            return patch_encoder_of(
                params, self._file.json("encoder.json"), self._read_weights(name)
            )
        given = vision.encoder_weights if weights is None else str(weights)
        params = params.model_copy(
            update={"vision": vision.model_copy(update={"encoder_weights": given})}
        )
        try:
            with nullcontext() if self._download else without_network():
                return load_network(params)
        except ModelError as error:
            raise self._without_weights(
                error, str(vision.encoder), vision.encoder_weights
            ) from None

    def _without_weights(self, error: ModelError, name: str, weights: str | None) -> ModelError:
        """What to say where the model that the bundle names, but does not hold, is not here."""
        if wanted_network(error):
            of = f" with weights {weights}" if weights else ""
            return ModelError(
                f"the bundle {self.path} needs {name}{of}, which are not all on this machine: fetch "
                "them with --download, name a file with --weights, or write the bundle with "
                "`fade bundle --with-weights`"
            )
        return ModelError(
            f"{error} (the bundle {self.path} holds no weights: name their file, or write it with "
            "`fade bundle --with-weights`)"
        )

    def _clip(self) -> Encoder:
        model = self.params.model
        name, pretrained, state = model.name, model.pretrained, None
        if self._weights is not None:
            pretrained = str(self._weights)
        elif WEIGHTS in self._file.entries:
            state = self._read_weights(WEIGHTS)
        with (
            tempfile.TemporaryDirectory() as folder,
            nullcontext() if self._download else without_network(),
        ):
            if "model.json" in self._file.entries and name not in SHIPPED:
                config = Path(folder) / "model.json"
                config.write_bytes(self._file.bytes("model.json"))
                name = str(config)
            params = self.params.model_copy(
                update={"model": model.model_copy(update={"name": name, "pretrained": pretrained})}
            )
            try:
                return load_encoder(params, state=state)
            except ModelError as error:
                if wanted_network(error) or (self._weights is None and state is None):
                    raise self._without_weights(error, model.name, model.pretrained) from None
                if name == model.name:
                    raise
                # who reads the line has the bundle, and no folder that is gone by then
                said = str(error).replace(name, f"model.json of {self.path}")
                raise ModelError(said) from None

    def _read_weights(self, name: str) -> dict[str, Tensor]:
        entry = self._file.entries[name]
        with self._file.reading(), self._file.archive.open(entry) as source:
            return read_weights(cast(Any, source), entry.file_size)

    def classifier(self, use: Use, category: str) -> TextClassifier:
        """The fitted classifier of a use and category."""
        with self._file.reading():
            digest = self._texts[use][category]
        return self._open_classifier(digest)

    def _open_classifier(self, digest: str) -> TextClassifier:
        if digest not in self._classifiers:
            with self._file.reading():
                found = loads(self._file.bytes(f"text/{digest}.npz"))
                if classifier_digest(found) != digest:
                    raise ValueError(f"text/{digest}.npz is another classifier than its name says")
            self._classifiers[digest] = found
        return self._classifiers[digest]

    def bank(self, category: str) -> CategoryBank:
        """The memory bank of a category."""
        exact, plan = Bank.shared(self.params), view_plan(self.params)
        views = tuple(view.label for view in plan)
        files, metric = array_names(self.params), self.params.vision.metric
        indexes = {}
        with self._file.reading():
            found = self._banks[category]
            references = found.references
            if len(references) > self.trial.shots or bool(references) != bool(self.trial.shots):
                raise ValueError(
                    f"{category} has {len(references)} references at {counted(self.trial.shots, 'shot')}"
                )
            for view in plan if references else ():
                name = f"banks/{found.number}/{files[view.label]}.npy"
                unit = view.plain or metric == "cosine"
                vectors = bank_vectors(name, self._file.bytes(name), unit)
                fits = len(vectors) == len(references) if exact else True
                if vectors.ndim != (3 if exact else 2) or not fits:
                    raise ValueError(
                        f"the bank of {category} has shape {vectors.shape}, for {len(references)} "
                        "references"
                    )
                # FAISS is not where torch is not
                build = build_index if self.onnx is None else FlatVectors
                indexes[view.label] = build(vectors.reshape(-1, vectors.shape[-1]), metric=metric)
        comparison = Comparison(
            self.trial, tuple(range(len(references))), self.params.query_in_bank(self.trial)
        )
        return CategoryBank(
            HeldBank(
                category,
                views,
                exact,
                indexes,
                copies=bank_copies(self.params, category),
                rule=Nearest.of(self.params.vision),
            ),
            comparison,
            references,
        )

    def held_rule(self, category: str) -> HeldRule:
        """What is normal of a category by rule subspace or mutual."""
        from fade.rules.subspace import Subspace
        from pipeline.inference.rules import HeldSample, HeldSubspaces, HeldUnion

        vision, files = self.params.vision, array_names(self.params)
        with self._file.reading():
            number = self._banks[category].number
            names = {view: f"rules/{number}/{file}.npy" for view, file in files.items()}
            arrays = {
                view: checked_array(name, self._file.bytes(name)) for view, name in names.items()
            }
            for array in arrays.values():
                if not np.isfinite(array).all():
                    raise ValueError(f"an array of {category} is not finite")
            rule = vision.rule_at(self.trial.shots)
            if rule == "mutual":
                return HeldSample(images_of(arrays), vision.metric, vision.lowest)
            if rule == "nearest":
                held = self.bank(category)
                return HeldUnion(images_of(arrays), held.bank, held.comparison)
            return HeldSubspaces(
                {view: Subspace(array[0], array[1:], 0.0) for view, array in arrays.items()}
            )

    def prompt_vectors(self, use: Use, category: str) -> np.ndarray | None:
        """The embeddings of a classifier's distinct prompts, where the bundle has them."""
        if self.onnx is None:
            return None
        count = len(set(self.sentences(use, category).texts))
        with self._file.reading():
            found = self.onnx.prompts(self._texts[use][category])
            if found.shape != (count, self.onnx.model.dim):
                raise ValueError(f"{count} prompts have embeddings of shape {found.shape}")
            return found

    def sentences(self, use: Use, category: str) -> Sentences:
        """The prompts that a classifier was fitted on."""
        with self._file.reading():
            found = self._file.json("prompts.json")[use][category]
            texts, abnormal = SENTENCES.validate_python(found)
            if len(texts) != len(abnormal):
                raise ValueError(f"{len(texts)} prompts of {category} have {len(abnormal)} labels")
            return Sentences(texts, abnormal)
