"""Looks at what a run would meet: machine, packages, project, data, weights, store."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from fade.errors import DataError, FadeError, ModelError, ParameterError, StoreError
from pipeline.config.load import load_params
from pipeline.config.schema import PARAMS_FILE, Params
from pipeline.project.overrides import stands_in

Level = Literal["ok", "warning", "problem"]

PACKAGES = (
    "torch", "torchvision", "open_clip_torch", "numpy", "pillow", "opencv-python-headless",
    "zarr", "google-crc32c", "dask", "pandas", "pyarrow", "scikit-learn", "pydantic", "dvc", "typer",
)  # fmt: skip
LOW_DISK = 2 << 30
"""Bytes below which a disk is called nearly full."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: what it is about.
        level: ``problem`` where a run would fail.
        text: what was found, and for warnings and problems what to do.
        code: a problem's exit code, that of the run it would end.
    """

    topic: str
    level: Level
    text: str
    code: int = 0


def ok(topic: str, text: str) -> Finding:
    """All is well."""
    return Finding(topic, "ok", text)


def warning(topic: str, text: str) -> Finding:
    """A run would go on."""
    return Finding(topic, "warning", text)


def problem(topic: str, error: FadeError) -> Finding:
    """A run would end."""
    return Finding(topic, "problem", str(error), error.exit_code)


def diagnose() -> list[Finding]:
    """Look at this machine and at the project in the working directory.

    Nothing is loaded, downloaded or written.
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
        findings.append(ok("parameters", f"{PARAMS_FILE} is in order"))
    checks: tuple[tuple[str, Callable[[Params], Iterator[Finding]]], ...] = (
        ("device", _device), ("threads", _threads), ("project", _project), ("data", _data),
        ("prompts", _prompts), ("model", _model), ("store", _store),
    )  # fmt: skip
    for topic, check in checks:
        try:
            findings += check(params)
        except FadeError as error:
            findings.append(problem(topic, error))
        except Exception as error:  # what is broken may break in any way
            text = " ".join(f"{type(error).__name__}: {error}".split())
            findings.append(problem(topic, FadeError(f"cannot be looked at ({text})")))
    return findings


def exit_code(findings: list[Finding]) -> int:
    """0, or the code of the first problem."""
    return next((finding.code for finding in findings if finding.level == "problem"), 0)


def _packages() -> Iterator[Finding]:
    found, missing = [f"python {platform.python_version()}"], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    yield ok("packages", ", ".join(found))
    if missing:
        text = f"{', '.join(missing)} not installed: run `pip install fade-pipeline[cpu]` again"
        yield problem("packages", FadeError(text))
    for text in _unfit():
        yield warning("packages", text)


def _unfit() -> Iterator[str]:
    """Installed packages whose versions this program does not allow."""
    from packaging.requirements import Requirement

    try:
        listed = [Requirement(line) for line in requires("fade-pipeline") or ()]
    except PackageNotFoundError:  # run from its source
        return
    for requirement in listed:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
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
        text = "not installed: run `pip install fade-pipeline[cpu]`, or [gpu] with CUDA"
        yield problem("faiss", FadeError(text))
        return
    build = "gpu" if hasattr(faiss, "StandardGpuResources") else "cpu"
    yield ok("faiss", f"{faiss.__version__}, {build} build")


def _device(params: Params) -> Iterator[Finding]:
    import torch

    from fade.device import choose_device

    device = choose_device(params.runtime.device)
    name = f" ({torch.cuda.get_device_name()})" if device == "cuda" else ""
    yield ok("device", f"{device}{name}, torch {torch.__version__}")
    precision = params.model.precision
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    try:
        tokens = torch.ones(1, 1, 8, 8, device=device, dtype=dtype)
        torch.nn.functional.scaled_dot_product_attention(tokens @ tokens, tokens, tokens)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        text = f"model.precision {precision} does not work on {device} ({reason}): use fp32"
        yield problem("precision", ParameterError(text))
        return
    slow = (precision == "fp16" and device == "cpu") or (
        precision == "bf16" and device == "cuda" and not torch.cuda.is_bf16_supported(False)
    )
    if slow:
        yield warning("precision", f"{precision} is slower than fp32 on this {device}: use fp32")
    else:
        yield ok("precision", precision)


def _threads(params: Params) -> Iterator[Finding]:
    cores = _cores()
    cluster = params.cluster
    if cluster.distributed:
        yield ok("threads", f"{cores} cores here; cluster {cluster.kind}: workers compute")
        return
    one = cluster.kind == "synchronous"
    wanted = (1 if one else cluster.workers) * cluster.threads_per_worker
    text = (
        f"{cores} cores; runtime.loader_workers {params.runtime.loader_workers}, cluster "
        f"{cluster.kind}, {wanted} scoring threads"
    )
    if max(wanted, params.runtime.loader_workers) > cores:
        yield warning("threads", f"{text}: more threads than cores only cost time and memory")
    else:
        yield ok("threads", text)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _project(params: Params) -> Iterator[Finding]:
    from pipeline.artefacts.catalogue import project_root
    from pipeline.process.dvc_files import cut_short
    from pipeline.project.code import CODE_FILE
    from pipeline.project.dvc import check_stages
    from pipeline.project.scaffold import DVC_FILE, project_dvc_yaml

    check_stages(())
    root = project_root()
    if not (root / ".dvc").is_dir():
        text = f"{root} is no DVC project: run `fade new .`, or `dvc init` (--no-scm without git)"
        yield problem("project", ParameterError(text))
        return
    for file in cut_short():
        text = f"{file} is cut short, as a killed run leaves it: the next `fade run` repairs it"
        yield warning("project", text)
    in_git = (
        shutil.which("git") is not None
        and subprocess.run(["git", "rev-parse"], capture_output=True).returncode == 0
    )
    no_scm = "no_scm" in _text(root / ".dvc" / "config")
    if not in_git and not no_scm:
        text = f"{root} is no git repository, and DVC needs one: run `git init` there"
        yield problem("project", ParameterError(text))
    else:
        yield ok("project", f"{root}" + ("" if in_git else ", without git: no experiments"))
    if CODE_FILE.is_file() and _text(DVC_FILE) != project_dvc_yaml():
        yield warning(
            "project",
            f"{DVC_FILE} is not the one that this version writes: unless you changed it yourself, "
            "renew it with `fade new . --force` (params.yaml is kept)",
        )


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""


def _data(params: Params) -> Iterator[Finding]:
    from cache.place import open_path
    from fade.datasets.leftovers import Account
    from fade.datasets.read import iterate_dataset
    from pipeline.dataset.accounting import unused_files, unused_summary, unused_warnings
    from pipeline.project.watched import made_by_a_stage

    dataset = params.dataset
    found: Counter[tuple[str, str]] = Counter()
    account = Account()
    try:
        for record in iterate_dataset(
            dataset.format, open_path(dataset.path), dataset.categories, dataset.limit, account.note
        ):
            found[record.category, record.split] += 1
            account.use(record)
    except DataError:
        if made_by_a_stage(dataset.path):
            yield warning("data", f"{dataset.path} is not there yet: `fade run` makes it")
            return
        raise
    categories = {category for category, _ in found}
    tests = sum(count for (_, split), count in found.items() if split == "test")
    yield ok(
        "data",
        f"{dataset.path}: {len(categories)} categories, {found.total() - tests} training and {tests} "
        "test images (not opened)",
    )
    unused = unused_files(dataset, account)
    if unused:
        yield ok("data", unused_summary(unused))
    for line in unused_warnings(dataset, unused):
        yield warning("data", line)


def _prompts(params: Params) -> Iterator[Finding]:
    from pipeline.scoring.texts import ensembles, uses

    found = uses(params)
    for use in found:
        for category in ("", *params.text.overrides):
            ensembles(params, use, category)
    yield ok("prompts", f"for {' and '.join(found)}" if found else "not needed")


def _model(params: Params) -> Iterator[Finding]:
    """Whether name and weights can be found, without reading them."""
    from fade.encoder import SEEDED
    from pipeline.features.hub import check_remotes, remotes
    from pipeline.features.models import DEMO_MODEL, config_of

    name, weights = params.model.name, params.model.pretrained
    config = config_of(params.model)
    if config.endswith(".json") and not Path(config).is_file():
        raise ModelError(f"model.name: no config file at {config}")
    found = remotes(params.model, config)
    check_remotes(params.model, found)
    missing = {remote.repository: None for remote in found if remote.file is None}
    fetched = [remote for remote in found if remote.leaf == "model.pretrained"]
    if missing:
        yield warning("model", f"{name}: the first run downloads {', '.join(missing)}")
    elif fetched:
        yield ok("model", f"{name} with {fetched[0].what} ({fetched[0].file})")
    elif weights == SEEDED:
        yield warning("model", f"{name} with seeded weights: scores mean nothing, name real ones")
    elif weights == DEMO_MODEL:
        yield warning("model", f"{name} with the demo's weights: trained on drawn pictures alone")
    elif config.startswith("local-dir:") and weights in ("", name):
        yield ok("model", f"{name} with its own weights")
    elif Path(weights).is_file():
        size = Path(weights).stat().st_size
        if not size:
            raise ModelError(f"model.pretrained: {weights} is empty: copy the weights again")
        yield ok("model", f"{name} with {weights} ({size:,} bytes, not read)")
    else:
        raise ModelError(
            f"model.pretrained: {weights!r} is no file here and no tag of {name}: give a "
            "checkpoint's path, hf-hub:ORG/REPO, or a tag"
        )


def _store(params: Params) -> Iterator[Finding]:
    from cache.maintenance import describe
    from pipeline.artefacts.catalogue import store_root

    root = store_root(params.features.store)
    if isinstance(root, str):
        yield from _store_url(root)
        return
    place = root
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise StoreError(
            f"{place} is a file, and features.store {root} would lie in it: move it away, or set "
            "features.store to another folder"
        )
    if not os.access(place, os.W_OK):
        raise StoreError(f"{place} cannot be written to: set features.store to another folder")
    free = shutil.disk_usage(place).free
    room = f"{free:,} bytes free"
    if (root / "store.json").is_file():
        from cache.store import Store

        spaces = describe(Store(root))
        size = sum(space.bytes for space in spaces)
        rows = sum(space.rows for space in spaces)
        yield ok("store", f"{root}: {len(spaces)} spaces, {rows:,} rows, {size:,} bytes; {room}")
    else:
        yield ok("store", f"{root} is made by the first run; {room}")
    if free < LOW_DISK:
        yield warning(
            "store", f"only {room} at {place}: see `fade plan` for what a run needs, free some, or "
            "set features.store to another disk",
        )  # fmt: skip


def _store_url(url: str) -> Iterator[Finding]:
    from cache.maintenance import describe
    from cache.store import Store

    store = Store(url)
    spaces = describe(store)
    size = sum(space.bytes for space in spaces)
    rows = sum(space.rows for space in spaces)
    yield ok("store", f"{url}: {len(spaces)} spaces, {rows:,} rows, {size:,} bytes")
    if refusal := store.write_error():
        yield warning(
            "store", f"{url} cannot be written to ({refusal}): a run that lacks rows stops; set "
            "features.store to a store of your own",
        )  # fmt: skip
