"""Files that parameters name: weights, model configs, prompts and corrected labels, by their content.

DVC notes the names alone. A file that is replaced under its own name would leave the results of the old
one "up to date". Each stage that reads such files therefore writes hashes of them into its record, see
:mod:`pipeline.artefacts.parameters`, and whoever comes next holds them against the files. Hashes are
kept beside size, times and inode, so that a large file is read again only when these differ.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from cache.layout import content_key
from fade.files import open_plain, write_file
from pipeline.artefacts.catalogue import project_root
from pipeline.artefacts.parameters import read_record
from pipeline.config.schema import Params

READERS = ("extract", "text", "stream", "evaluate")
"""Stages that read such files."""
HASHES = Path(".fade") / "hashes.json"
"""File of a project: by absolute path, what a file's stamp and hash were."""
_FOLDER = "local-dir:"
_OF_MODEL = {".json", ".safetensors", ".bin", ".pt", ".pth", ".txt", ".model"}
"""Suffixes of the files in a model's folder that count."""

_Hashes = dict[str, tuple[list[int], str]]


def file_hashes(stage: str, params: Params, *, keep: bool = True) -> dict[str, str]:
    """Hashes of the files on this machine that a stage reads by their names in params.yaml.

    Args:
        params: that name the files. What a hub or open_clip knows by name is no file here.
        keep: whether hashes of large files may be kept in the project for the next time.

    Returns:
        By name as params.yaml writes it, a hash of the content; a model's folder has one.
    """
    return hashes_of({name: partial(_files, name) for name in _names(stage, params)}, keep=keep)


def hashes_of(
    names: Mapping[str, Callable[[], Sequence[Path]]], *, keep: bool = True
) -> dict[str, str]:
    """A hash of the content of each name's files; none of a name without files.

    Args:
        names: give their files; an error of the system means that there are none.
        keep: see :func:`file_hashes`.
    """
    if not names:
        return {}
    known = _kept()
    kept: _Hashes = {}
    found: dict[str, str] = {}
    for name, files in names.items():
        with suppress(OSError, ValueError):  # a stage that reads it says what is wrong
            parts = [(file.name, _hash(file, known, kept)) for file in files()]
            if parts:
                found[name] = content_key(json.dumps(parts).encode())
    if keep and any(known.get(path) != entry for path, entry in kept.items()):
        with suppress(OSError):  # they are made again next time
            write_file(project_root() / HASHES, json.dumps(known | kept))
    return found


def replaced(stages: Collection[str], params: Params, *, keep: bool = True) -> dict[str, list[str]]:
    """Stages whose files of now are not those that they read, and which files.

    A stage without a record, files that are gone and files that it did not read are passed over.

    Args:
        params: of now, that name the files.
        keep: see :func:`file_hashes`.
    """
    found = {}
    for stage in READERS:
        read = read_record(stage, "files") if stage in stages else None
        if read:
            now = file_hashes(stage, params, keep=keep)
            if wrong := sorted(name for name in now if read.get(name, now[name]) != now[name]):
                found[stage] = wrong
    return found


def in_words(found: Mapping[str, Sequence[str]]) -> str:
    """The files that were replaced, in words.

    >>> in_words({"extract": ["a.pt"], "text": ["a.pt", "own.json"]})
    'a.pt, own.json'
    """
    return ", ".join(dict.fromkeys(name for names in found.values() for name in names))


def _names(stage: str, params: Params) -> list[str]:
    """What may be names of files that a stage reads."""
    if stage == "evaluate":
        return [name for name in (params.evaluate.labels,) if name]
    model, vision = params.model, params.vision
    network = vision.encoder is not None and params.needs_vision
    names: list[Any] = []
    if params.needs_language or (stage != "text" and not network):
        names += [model.name, model.pretrained]
    if stage != "text" and network:
        names += [vision.encoder, vision.encoder_weights]
    if stage == "text" and params.needs_language:
        names += [prompts for _, prompts in params.text.named_prompts()]
    return [name for name in dict.fromkeys(names) if isinstance(name, str) and name]


def _files(name: str) -> list[Path]:
    """The files of a name; none where it is no file or folder here."""
    if name.startswith(_FOLDER):
        inside = Path(name.removeprefix(_FOLDER)).iterdir()
        return sorted(file for file in inside if file.suffix in _OF_MODEL and file.is_file())
    return [Path(name)] if Path(name).is_file() else []


def _hash(file: Path, known: _Hashes, kept: _Hashes) -> str:
    """A file's hash: the one that was kept if size, times and inode are those of then."""
    path = str(file.absolute())
    with open_plain(file) as content:
        stat = os.fstat(content.fileno())
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        if path in known and known[path][0] == stamp:
            return known[path][1]
        digest = hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=20)).hexdigest()
    kept[path] = (stamp, digest)
    return digest


def _kept() -> _Hashes:
    """The hashes that a project keeps; none where they cannot be read."""
    try:
        content = json.loads((project_root() / HASHES).read_text(encoding="utf-8"))
        return {path: (list(stamp), str(digest)) for path, (stamp, digest) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
