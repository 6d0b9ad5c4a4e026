"""Which parameters each stage ran with: a small file beside its other outputs.

DVC reads params.yaml when a stage has ended. A file that is saved in between would be noted in dvc.lock
for results of the values before. Each stage therefore writes the values that it used, as an output of
its own. DVC notes the hash of that record together with its own reading of params.yaml, so that a wrong
note shows by itself, to whoever comes next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fade.errors import StoreError
from fade.files import open_plain, read_text
from pipeline.artefacts.catalogue import RECORDS, Artefact
from pipeline.artefacts.tables import read_json, write_json
from pipeline.config.values import PARAMS_FILE
from pipeline.config.yaml12 import differing, leaf, load_yaml

LOCK_FILE = Path("dvc.lock")
DVC_FILE = Path("dvc.yaml")


def write_record(
    stage: str, used: Mapping[str, Any], files: Mapping[str, str] | None = None
) -> None:
    """Write the values of params.yaml that a stage used, and hashes of the files that they name.

    Args:
        stage: its name; nothing is written for one without a record.
        used: values by dotted name; those of other files, which hold a colon, are left out.
        files: see :mod:`pipeline.artefacts.named_files`.
    """
    for artefact in _records([stage]):
        own = {name: value for name, value in sorted(used.items()) if ":" not in name}
        write_json({"parameters": own, **({"files": files} if files else {})}, artefact.path)


def misnoted(folder: Path = Path()) -> dict[str, list[str]]:
    """Stages for which dvc.lock notes other parameters than they ran with, and which ones.

    A record that dvc.lock does not name is passed over: DVC runs its stage again by itself.
    """
    noted = stages_of(folder / LOCK_FILE)
    found: dict[str, list[str]] = {}
    for artefact in RECORDS:
        entry = noted.get(artefact.stage)
        if (record := _noted_record(folder, artefact, entry)) is None:
            continue
        values = noted_parameters(entry)
        both = record.keys() & values.keys()
        if wrong := sorted(n for name in both for n in differing(record[name], values[name], name)):
            found[artefact.stage] = wrong
    return found


def noted_parameters(entry: Any) -> dict[str, Any]:
    """The values of params.yaml that a stage's entry in dvc.lock notes, by dotted name."""
    files = leaf(entry, "params")
    return (files.get(PARAMS_FILE.name) or {}) if isinstance(files, dict) else {}


def noted_hashes(entry: Any) -> dict[str, Any]:
    """Hashes of the outputs that a stage's entry in dvc.lock notes, by path."""
    outs = leaf(entry, "outs")
    whole = isinstance(outs, list) and all(isinstance(out, dict) for out in outs)
    return {str(out.get("path")): out.get("md5") for out in outs} if whole else {}


def named_parameters(entry: Mapping[str, Any]) -> dict[str, list[str]]:
    """The parameters that a stage's entry in dvc.yaml names, by file; none stand for all of a file.

    Examples:
        >>> named_parameters({"params": ["vision.shots", {"code.json": ["score"]}]})
        {'params.yaml': ['vision.shots'], 'code.json': ['score']}
    """
    found: dict[str, list[str]] = {}
    for one in entry.get("params") or ():
        for file, names in ({PARAMS_FILE.name: [one]} if isinstance(one, str) else one).items():
            found.setdefault(file, []).extend(names or ())
    return found


def outdated(stages: Collection[str], folder: Path = Path()) -> dict[str, list[str]]:
    """Those of some stages that ran with other parameters than params.yaml holds now, and which ones."""
    content = _yaml(folder / PARAMS_FILE)
    found = {}
    for artefact in _records(stages):
        record = _read(folder / artefact.path) or {}
        now = {name: leaf(content, name) for name in record}
        if wrong := sorted(n for name in now for n in differing(record[name], now[name], name)):
            found[artefact.stage] = wrong
    return found


def stages_before(stage: str, folder: Path = Path()) -> list[str]:
    """The stages of dvc.yaml whose outputs a stage needs, directly or not; none without a dvc.yaml."""
    stages = stages_of(folder / DVC_FILE)
    makers = {out: name for name, entry in stages.items() for out in outs_of(entry)}
    found: list[str] = []
    waiting = [stage]
    while waiting:
        entry = stages.get(waiting.pop()) or {}
        near = {makers[dep] for dep in entry.get("deps") or () if dep in makers}
        new = sorted(near.difference(found, [stage]))
        found += new
        waiting += new
    return found


def withdraw(stages: Collection[str], folder: Path = Path()) -> None:
    """Make DVC run stages again that it takes for up to date.

    The record goes, and so does what DVC could bring it back from: its copy in DVC's cache, and the
    entries of the run cache that vouch for it.

    Args:
        stages: their names.
        folder: of the project, which DVC does not lock meanwhile.
    """
    for artefact in _records(stages):
        path = folder / artefact.path
        with suppress(OSError):
            digest = dvc_hash(path)
            _forget(folder, digest)
            path.unlink()


def read_record(stage: str, part: str) -> dict[str, Any]:
    """A part of a stage's record: ``parameters`` or ``files``; empty where there is none."""
    return next((_read(artefact.path, part) or {} for artefact in _records([stage])), {})


def listed(found: Mapping[str, Sequence[str]], most: int = 5) -> str:
    """Stages and their parameters in words.

    >>> listed({"select": ["vision.shots"], "bank": ["vision.index", "vision.shots"]})
    'select: vision.shots; bank: vision.index, vision.shots'
    """
    return "; ".join(
        f"{stage}: {', '.join(names[:most])}" for stage, names in list(found.items())[:most]
    )


def _forget(folder: Path, digest: str) -> None:
    """Remove a file from DVC's cache, and the entries of its run cache that name it."""
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        cache, runs = repo.cache.local, Path(repo.stage_cache.cache_dir)
        Path(cache.oid_to_path(digest)).unlink(missing_ok=True)
        for entry in list(runs.glob("*/*/*")):  # folders go meanwhile
            with suppress(OSError, ValueError):
                if digest in entry.read_text(encoding="utf-8"):
                    entry.unlink()
                    entry.parent.rmdir()  # DVC fails at one without an entry


def _records(stages: Collection[str]) -> list[Artefact]:
    return [artefact for artefact in RECORDS if artefact.stage in stages]


def _noted_record(folder: Path, artefact: Artefact, entry: Any) -> dict[str, Any] | None:
    """The record of a stage, if it is the one that the stage's entry in dvc.lock names."""
    path = folder / artefact.path
    with suppress(OSError):
        if noted_hashes(entry).get(artefact.path.as_posix()) == dvc_hash(path):
            return _read(path)
    return None


def _read(path: Path, part: str = "parameters") -> dict[str, Any] | None:
    """The values of a record; None where there is none that can be read."""
    try:
        values = read_json(path)[part]
    except (StoreError, KeyError, TypeError):
        return None
    return values if isinstance(values, dict) else None


def dvc_hash(path: Path) -> str:
    """The MD5 of a file, as DVC notes it in dvc.lock."""
    with open_plain(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def stages_of(file: Path) -> dict[str, Any]:
    """The stages of a dvc.yaml or dvc.lock by name; none where it cannot be read."""
    found = leaf(_yaml(file), "stages")
    return found if isinstance(found, dict) else {}


def outs_of(entry: Mapping[str, Any]) -> list[str]:
    """Paths of what a stage of dvc.yaml makes."""
    listed = [*(entry.get("outs") or ()), *(entry.get("metrics") or ())]
    return [name for out in listed for name in ([out] if isinstance(out, str) else out)]


def _yaml(file: Path) -> Any:
    """The content of a YAML file; None where it cannot be read: others say why."""
    try:
        return load_yaml(read_text(file))
    except (OSError, ValueError, RecursionError):
        return None
