"""Parameters of one run alone: params.yaml holds them while it runs, and is put back afterwards.

DVC reads parameters from params.yaml, so that a run with others needs another file in its place. The
original is kept beside DVC's own temporary files, and whoever runs next puts it back should the
process that was to do so have been killed.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from fade.errors import ParameterError, plain
from fade.files import atomic_write
from pipeline.config.load import load_params, parse_params
from pipeline.config.schema import Params
from pipeline.config.values import PARAMS_FILE
from pipeline.config.yaml12 import dump_yaml, load_yaml
from pipeline.process.dvc_watchdog import is_alive, named

KEPT = Path(".dvc") / "tmp" / "fade-params.yaml"
"""File that holds the original meanwhile."""
_MARK = "# For one `fade run` alone, process "
_STARTED = " of "


def described(values: Mapping[str, Any]) -> str:
    """Overrides in words.

    >>> described({"dataset.limit": 3, "dataset.categories": ["a", "b"]})
    'dataset.limit 3, dataset.categories a, b'
    """
    texts = (
        f"{name} {', '.join(value) if isinstance(value, list) else value}"
        for name, value in values.items()
    )
    return ", ".join(texts)


def applied(values: Mapping[str, Any], file: Path = PARAMS_FILE) -> tuple[dict[str, Any], Params]:
    """A parameter file with some values replaced: its content, and the same checked.

    Args:
        values: by dotted name.

    Raises:
        ParameterError: the file or the values are refused.
    """
    params = load_params(file)
    content = load_yaml(file.read_bytes().decode())
    for name, value in values.items():
        *sections, leaf = name.split(".")
        place = content
        for section in sections:
            place = place[section]
        place[leaf] = value
    if values:
        params = parse_params(content, f"{PARAMS_FILE} with {described(values)}")
    return content, params


@contextlib.contextmanager
def overridden(values: Mapping[str, Any], folder: Path = Path()) -> Iterator[Callable[[int], None]]:
    """Run with some parameters replaced.

    Args:
        values: by dotted name.

    Yields:
        A function that is told of the process that reads the parameters: should this one be killed,
        the file stays as it is for as long as that one runs.

    Raises:
        ParameterError: the values are refused, or params.yaml cannot be replaced.
    """
    if not values:
        yield lambda process: None
        return
    file, kept = folder / PARAMS_FILE, folder / KEPT
    original = file.read_bytes()
    content, _ = applied(values, file)
    said = plain(described(values))  # on one line, which a name may end
    text = (
        f"# Your own file is {KEPT.as_posix()}; it comes back when the run ends, or with the next one.\n"
        + dump_yaml(content)
    )

    def write(process: int) -> None:
        who = named(psutil.Process(process)).replace(" ", _STARTED)
        _replace(file, f"{_MARK}{who}: {said}.\n{text}".encode())

    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        _replace(kept, original)
        write(os.getpid())
    except OSError as error:
        raise ParameterError(f"{file} cannot be replaced for this run: {error.strerror}") from None
    try:
        yield write
    finally:
        restore(folder)


def restore(folder: Path = Path()) -> str:
    """Put the original back where an overridden run left another; in words what was done, or "".

    A file that someone has written meanwhile stays.

    Raises:
        ParameterError: a run with overrides is still going on.
    """
    file, kept = folder / PARAMS_FILE, folder / KEPT
    if not kept.exists():
        return ""
    first = _first_line(file)
    if not first.startswith(_MARK):
        kept.unlink()
        return f"{file} was written while it stood in for another: it stays as it is"
    if reader := _reader(first):
        raise ParameterError(
            f"a `fade run` with parameters of its own is going on here (process {reader}): wait for it"
        )
    _replace(file, kept.read_bytes())
    kept.unlink()
    return f"{file} is back as it was before a run that did not end"


def stands_in(folder: Path = Path()) -> bool:
    """Whether params.yaml is that of a run with parameters of its own."""
    return (folder / KEPT).exists() and _first_line(folder / PARAMS_FILE).startswith(_MARK)


def _first_line(file: Path) -> str:
    """Of a text; empty where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8").split("\n", 1)[0]
    except (OSError, ValueError):
        return ""


def _reader(first: str) -> int | None:
    """The process that the first line of a file of ours names, if it is another one and lives."""
    found = re.match(rf"{_MARK}(\d+){_STARTED}(\S+):", first)
    if found is None or int(found[1]) == os.getpid():
        return None
    try:
        process = psutil.Process(int(found[1]))
        # another one may have its number by now
        same = named(process) == f"{found[1]} {found[2]}"
    except psutil.Error:
        return None
    return process.pid if same and is_alive(process) else None


def _replace(file: Path, data: bytes) -> None:
    """Write a file in one step, through a link if it is one."""
    target = file.resolve()
    with atomic_write(target) as part:
        part.write_bytes(data)
        if target.exists():
            part.chmod(target.stat().st_mode)
