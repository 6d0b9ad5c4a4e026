"""Project folders for tests: parameters written, stages run in this process or by DVC."""

from __future__ import annotations

import contextlib
import copy
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden"
STAGES = (
    "manifest", "select", "extract", "text", "bank", "stream",
    "score_language", "score_vision", "evaluate", "report",
)  # fmt: skip

KINDS = ("clone", "new")
"""Kinds of project: a clone of the repository, and a folder that `fade new` made."""


def golden_weights(path: Path) -> Path:
    """Write the golden model's weights as a plain state dict."""
    import torch

    from fade.encoder.checkpoint import as_local_dir
    from fade.lean_import import open_clip_library

    sys.path.insert(0, str(GOLDEN))
    try:
        fill = importlib.import_module("seeded_weights").fill
    finally:
        sys.path.remove(str(GOLDEN))
    with as_local_dir(GOLDEN / "fade-golden.json") as name:
        model = open_clip_library().create_model(name, load_weights=False)
    torch.save(fill(model).state_dict(), path)
    return path


def golden_params(run: str, checkpoint: Path, dtype: str = "float32") -> dict[str, Any]:
    """Parameters of a golden run, translated from the official names."""
    official = yaml.safe_load((GOLDEN / "runs" / run / "config.yaml").read_text())
    visa = official["dataset_name"] == "visa"
    images = str(GOLDEN / ("images_visa" if visa else "images"))
    use = {"classifier": official["text_model_type"]}
    return {
        "dataset": {
            "format": official["dataset_name"], "path": images, "watch": images,
            "categories": ["weave", "plate"],
        },
        "model": {"name": str(GOLDEN / "fade-golden.json"), "pretrained": str(checkpoint)},
        "features": {
            "classification_size": official["classification_img_size"],
            "segmentation_sizes": official["segmentation_img_sizes"],
            "dtype": dtype,
        },
        "text": {
            "classification": {
                "prompts": [str(GOLDEN / p) for p in official["prompt_paths_classification"]],
                "use_classname": official["use_classname_in_prompt_classification"],
                "feature": official["language_classification_feature"], **use,
            },
            "segmentation": {
                "prompts": [str(GOLDEN / p) for p in official["prompt_paths_segmentation"]],
                "use_classname": official["use_classname_in_prompt_segmentation"],
                "feature": official["language_segmentation_feature"], **use,
            },
        },
        "vision": {
            "feature": official["vision_feature"], "shots": [official["shots"]],
            "seeds": [official["seed"]],
            "query_in_bank": official["use_query_img_in_vision_memory_bank"],
        },
        "fusion": {
            "classification_mode": official["classification_mode"],
            "segmentation_mode": official["segmentation_mode"],
            "vision_multiplier": official["vision_segmentation_multiplier"],
            "vision_weight": official["vision_segmentation_weight"],
            "normalize": official["normalize_segmentations"],
        },
        "threshold": {"images": 0},
        "evaluate": {"size": official["eval_img_size"]},
        "cluster": {"kind": "synchronous"},
    }  # fmt: skip


def changed(params: Mapping[str, Any], **leaves: Any) -> dict[str, Any]:
    """A copy with some leaves changed; ``__`` in a name stands for the dots."""
    result = copy.deepcopy(dict(params))
    for name, value in leaves.items():
        *sections, leaf = name.split("__")
        place = result
        for section in sections:
            place = place.setdefault(section, {})
        place[leaf] = value
    return result


@contextlib.contextmanager
def nobody_reads() -> Iterator[None]:
    """What is printed goes to a reader that has stopped, as ``| head`` does."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stdout:
        try:
            with contextlib.redirect_stdout(stdout):
                yield
        finally:
            with open(os.devnull, "wb") as nothing:  # for what is left to write on closing
                os.dup2(nothing.fileno(), writer)


@contextlib.contextmanager
def project(folder: Path, params: Mapping[str, Any]) -> Iterator[Path]:
    """Work in a project folder with these parameters."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".dvc").mkdir(exist_ok=True)  # marks the root, as DVC does
    (folder / "params.yaml").write_text(yaml.safe_dump(dict(params)), encoding="utf-8")
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)


def lay_pipeline(folder: Path, kind: str) -> None:
    """Give a project folder the dvc.yaml and the code.json that a kind of project has."""
    from pipeline.project.code import CODE_FILE, code_text
    from pipeline.project.scaffold import project_dvc_yaml

    text = project_dvc_yaml() if kind == "new" else (ROOT / "dvc.yaml").read_text("utf-8")
    (folder / "dvc.yaml").write_text(text, encoding="utf-8")
    if not (folder / CODE_FILE).exists():
        (folder / CODE_FILE).write_text(code_text(), encoding="utf-8")


_MODELS: dict[Any, Any] = {}
"""Loaded models, by what they were loaded from."""


@contextlib.contextmanager
def models_shared() -> Iterator[None]:
    """Share loaded models meanwhile: loading takes longer than all else of a small run."""
    from fade.encoder import Encoder

    own = Encoder.__dict__["load"]
    if getattr(own, "__func__", own).__module__ != Encoder.__module__:  # a test's
        yield
        return

    def load(cls: type[Encoder], name: str, pretrained: str, **options: Any) -> Encoder:
        if options.get("state") is not None:
            return own.__get__(None, cls)(name, pretrained, **options)
        stats = [os.stat(file) for file in (name, pretrained) if os.path.isfile(file)]
        stamps = tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in stats)
        key = (name, pretrained, stamps, repr(sorted(options.items())))
        if key not in _MODELS:
            if len(_MODELS) == 4:
                del _MODELS[next(iter(_MODELS))]
            _MODELS[key] = own.__get__(None, cls)(name, pretrained, **options)
        return _MODELS[key]

    Encoder.load = classmethod(load)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Encoder.load = own  # type: ignore[method-assign]


def run_stages(folder: Path, params: Mapping[str, Any], *stages: str) -> Path:
    """Run stages (default: all but the report) in a project folder, in this process."""
    from pipeline.config.load import load_params

    with project(folder, params), models_shared():
        for stage in stages or STAGES[:-1]:
            importlib.import_module(f"stages.{stage}").run(load_params())
    return folder
