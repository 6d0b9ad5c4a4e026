"""Looks at what a run would meet: machine, packages, project, data, weights, store."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from fade.errors import FadeError, ParameterError, StoreError, counted
from pipeline.config.load import load_params
from pipeline.config.schema import Params
from pipeline.config.values import PARAMS_FILE
from pipeline.features.pair import of_vision
from pipeline.features.precision import slow_precision
from pipeline.project.check_cluster import check_threads
from pipeline.project.check_data import ImageCounts, check_data, check_labels
from pipeline.project.check_model import (
    check_index,
    check_model,
    check_prompts,
    loaded_network,
    patch_and_widths,
)
from pipeline.project.findings import Finding, ok, problem, warning
from pipeline.project.overrides import stands_in

if TYPE_CHECKING:
    from cache.store import Store
    from fade.types import Feature

CHECKED_PACKAGES = (
    "torch", "torchvision", "open_clip_torch", "numpy", "pillow", "opencv-python-headless",
    "zarr", "google-crc32c", "dask", "pandas", "pyarrow", "scikit-learn", "pydantic", "dvc", "typer",
)  # fmt: skip
LOW_DISK = 2 << 30
"""Bytes below which a disk is called nearly full."""


def diagnose() -> list[Finding]:
    """Look at this machine and at the project in the working directory.

    Nothing is loaded, downloaded or written; a hub or a scheduler that the parameters name is asked
    whether it is there.
    """
    findings = [*_packages(), *_faiss()]
    try:
        params = load_params()
    except ParameterError as error:
        return [*findings, problem("parameters", error)]
    if stands_in():
        text = (
            f"{PARAMS_FILE} is that of one `fade run` with options: unless that still goes on, the next "
            "`fade run` puts your own back"
        )
        findings.append(warning("parameters", text))
    else:
        findings.append(_named(params))
    counts: list[ImageCounts | None] = []

    def data(params: Params) -> Iterator[Finding]:
        known, found = check_data(params)
        counts.append(known)
        yield from found

    def store(params: Params) -> Iterator[Finding]:
        yield from _store(params, counts[0] if counts else None)

    checks: tuple[tuple[str, Callable[[Params], Iterator[Finding]]], ...] = (
        ("device", _device), ("threads", check_threads), ("project", _project), ("data", data),
        ("labels", _labels), ("prompts", check_prompts), ("model", check_model), ("index", check_index),
        ("store", store),
    )  # fmt: skip
    for topic, check in checks:
        try:
            findings += check(params)
        except FadeError as error:
            if (found := problem(topic, error)).text not in {one.text for one in findings}:
                findings.append(found)
        except Exception as error:  # what is broken may break in any way
            text = " ".join(f"{type(error).__name__}: {error}".split())
            findings.append(problem(topic, FadeError(f"cannot be looked at ({text})")))
    return findings


def _named(params: Params) -> Finding:
    from pipeline.project.preflight import check_named

    try:
        check_named(params)
    except ParameterError as error:
        return problem("parameters", error)
    return ok("parameters", f"{PARAMS_FILE} is in order")


def exit_code(findings: list[Finding]) -> int:
    """0, or the code of the first problem."""
    return next((finding.code for finding in findings if finding.level == "problem"), 0)


def _packages() -> Iterator[Finding]:
    found, missing = [f"python {platform.python_version()}"], []
    for name in CHECKED_PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    yield ok("packages", ", ".join(found))
    if missing:
        text = f"{', '.join(missing)} not installed: run `pip install 'fade-pipeline[cpu]'` again"
        yield problem("packages", FadeError(text))
    for text in _unfit():
        yield warning("packages", text)


def _unfit() -> Iterator[str]:
    """Installed packages whose versions this program does not allow."""
    try:
        from packaging.requirements import Requirement
    except ImportError:  # it comes with packages of runs, which are missing then
        return
    try:
        listed = [Requirement(line) for line in requires("fade-pipeline") or ()]
    except PackageNotFoundError:  # run from its source
        return
    for requirement in listed:
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", "pipeline")):
            try:
                there = version(requirement.name)
            except PackageNotFoundError:
                continue
            if not requirement.specifier.contains(there, prereleases=True):
                yield (
                    f"{requirement.name} {there} is installed, {requirement.specifier} is needed: "
                    f"run `pip install '{requirement}'`"
                )


def _faiss() -> Iterator[Finding]:
    try:
        import faiss
    except ImportError:
        text = "not installed: run `pip install 'fade-pipeline[cpu]'`, or [gpu] with CUDA"
        yield problem("faiss", FadeError(text))
        return
    build = "gpu" if hasattr(faiss, "StandardGpuResources") else "cpu"
    yield ok("faiss", f"{faiss.__version__}, {build} build")


def _device(params: Params) -> Iterator[Finding]:
    import torch

    from fade.device import choose_device, torch_dtype

    device = choose_device(params.runtime.device)
    name = f" ({torch.cuda.get_device_name()})" if device == "cuda" else ""
    yield ok("device", f"{device}{name}, torch {torch.__version__}")
    precision = params.model.precision
    dtype = torch_dtype(precision)
    try:
        tokens = torch.ones(1, 1, 8, 8, device=device, dtype=dtype)
        torch.nn.functional.scaled_dot_product_attention(tokens @ tokens, tokens, tokens)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        text = f"model.precision {precision} does not work on {device} ({reason}): use fp32"
        yield problem("precision", ParameterError(text))
        return
    if slow := slow_precision(precision, device):
        yield warning("precision", slow)
    else:
        yield ok("precision", precision)


def _project(params: Params) -> Iterator[Finding]:
    from pipeline.artefacts.catalogue import project_root
    from pipeline.artefacts.named_files import READERS, in_words, replaced
    from pipeline.artefacts.provenance import git
    from pipeline.process.dvc_files import cut_short
    from pipeline.project.code import is_project
    from pipeline.project.dvc import check_stages
    from pipeline.project.own_stages import lacking, refusal_of
    from pipeline.project.scaffold import DVC_FILE, commit_command, project_dvc_yaml
    from pipeline.project.writable import check_writable

    check_stages(())
    root = project_root()
    if not (root / ".dvc").is_dir():
        text = f"{root} is no DVC project: run `fade new .`, or `dvc init` (--no-scm without git)"
        yield problem("project", ParameterError(text))
        return
    check_writable()
    for file in cut_short():
        text = f"{file} is cut short, as a killed run leaves it: the next `fade run` repairs it"
        yield warning("project", text)
    if files := in_words(replaced(READERS, params, keep=False)):
        text = (
            f"{files} was replaced since the last run: the next `fade run` uses it; a plain `dvc repro` "
            "does not look at such files"
        )
        yield warning("project", text)
    in_git = git(Path(), "rev-parse") is not None
    no_scm = "no_scm" in _text(root / ".dvc" / "config")
    if not in_git and not no_scm:
        text = f"{root} is no git repository, and DVC needs one: run `git init` there"
        yield problem("project", ParameterError(text))
    else:
        note = ", without git: no experiments"
        if in_git:
            first = f", no commit yet: before `dvc exp run`, {commit_command(root)}"
            note = first if git(Path(), "rev-parse", "--verify", "HEAD") is None else ""
        yield ok("project", f"{root}{note}")
    if found := lacking():
        yield problem("project", ParameterError(refusal_of(found)))
    elif is_project() and _text(DVC_FILE) != project_dvc_yaml():
        yield warning(
            "project",
            f"{DVC_FILE} is not the one that this version writes: unless you changed it yourself, "
            f"renew it with `fade new . --force` ({PARAMS_FILE} and what else you set is kept)",
        )


def _labels(params: Params) -> Iterator[Finding]:
    from pipeline.evaluation.corrections import named_labels

    if file := params.evaluate.labels:
        labels = named_labels(file)
        check_labels(params.dataset, labels, file)
        yield ok("labels", f"{file}: {counted(len(labels), 'label')}")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""


def _store(params: Params, counts: ImageCounts | None) -> Iterator[Finding]:
    from cache.store import Store
    from pipeline.artefacts.catalogue import folder_above, store_root

    root = store_root(params.features.store)
    if isinstance(root, str):
        yield from _store_url(root)
        return
    place = folder_above(root, StoreError)
    held, closed = (root / "store.json").is_file(), not os.access(place, os.W_OK)
    if closed and not held:
        raise StoreError(f"{place} cannot be written to: set features.store to another folder")
    free = shutil.disk_usage(place).free
    room = f"{free:,} bytes free"
    if held:
        yield ok("store", f"{_held(Store(root))}; {room}")
        if closed:
            yield _only_read(str(root))
            return
    else:
        yield ok("store", f"{root} is made by the first run; {room}")
    needed = feature_bytes(params, counts) if counts else 0
    if needed > free:
        yield warning(
            "store", f"features of all images take {needed:,} bytes, and {place} has {room}: free some, "
            "set features.store to another disk, or features.keep to false (`fade plan` says more)",
        )  # fmt: skip
    elif free < LOW_DISK:
        yield warning(
            "store", f"only {room} at {place}: see `fade plan` for what a run needs, free some, or "
            "set features.store to another disk",
        )  # fmt: skip


def feature_bytes(params: Params, counts: ImageCounts) -> int:
    """How much the features of all images take in the store, none of them being there."""
    of_clip, network = patch_and_widths(params), loaded_network(params)
    value = 2 if params.features.dtype == "float16" else 4

    def one(feature: Feature) -> int:
        if of_vision(feature) and params.vision.encoder is not None:
            return prod(network.shape(feature)) * value if network else 0
        patch, width, of_block = of_clip or (feature.size, 0, 0)
        width = of_block if of_vision(feature) else width
        return width * value * ((feature.size // patch) ** 2 if feature.token == "patch" else 1)

    def size(features: list[Feature]) -> int:
        return sum(map(one, features))

    calibration = sum(
        min(count, params.threshold.images) for count in counts.training.values()
    )  # fmt: skip
    shots = params.max_shots if params.needs_vision else 0
    references = sum(
        min(count, shots * len(params.vision.seeds)) for count in counts.training.values()
    )
    scored = counts.tests + calibration if params.features.keep else 0
    return scored * size(params.test_features()) + references * size(params.reference_features())


def _held(store: Store) -> str:
    """What a store has, in words."""
    from cache.maintenance import describe

    spaces = describe(store)
    size, rows = (sum(getattr(space, name) for space in spaces) for name in ("bytes", "rows"))
    return f"{store.root}: {counted(len(spaces), 'space')}, {counted(rows, 'row')}, {size:,} bytes"


def _store_url(url: str) -> Iterator[Finding]:
    from cache.store import Store

    store = Store(url)
    yield ok("store", _held(store))
    if refusal := store.write_error():
        yield _only_read(url, f" ({refusal})")


def _only_read(store: str, why: str = "") -> Finding:
    """A store may serve although nobody can write to it, as long as it lacks nothing."""
    return warning(
        "store", f"{store} cannot be written to{why}: a run that lacks rows stops; set "
        "features.store to a store of your own",
    )  # fmt: skip
