"""Every artefact of the pipeline: where it lies, which stage makes it, and what a row of it is."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cache.location import located, refuse_half_url
from fade.errors import FadeError, ParameterError


@dataclass(frozen=True, slots=True)
class Artefact:
    """One output of a stage.

    Attributes:
        path: relative to the project folder.
        stage: its producer.
        row: what one row, file or array of it stands for.
        key: the columns or names that tell rows apart.
        receipt: whether it only vouches for rows of the store; DVC then keeps no copy, so that a
            receipt whose rows are gone is made anew instead of being brought back.
    """

    path: Path
    stage: str
    row: str
    key: str
    receipt: bool = False


CHANGED = "changed since the run began"
AGAIN = "run `fade run` again"
"""Texts of errors about files that are not those of the manifest: the fault, and the remedy."""
_A, _R = Path("artefacts"), Path("results")

MANIFEST = Artefact(_A / "manifest.parquet", "manifest", "image", "path")
CATEGORIES = Artefact(_A / "categories.json", "manifest", "category", "name")
SKIPPED = Artefact(_A / "skipped.json", "manifest", "image left out", "path")
SELECTION = Artefact(_A / "selection.parquet", "select", "reference", "category, seed, rank")
CALIBRATION = Artefact(_A / "calibration.parquet", "select", "image", "category, hash")
REFERENCES = Artefact(
    _A / "receipts" / "references.parquet", "extract", "feature of an image", "space, key", True
)
TEST = Artefact(
    _A / "receipts" / "test.parquet", "extract", "feature of an image", "space, key", True
)
TEXT = Artefact(_A / "text", "text", "classifier", "use, category")
BANKS = Artefact(_A / "banks", "bank", "index over reference patches", "category, size")
STREAMED = Artefact(
    _A / "receipts" / "streamed.parquet", "stream", "map or score", "space, key", True
)
LANGUAGE = Artefact(
    _A / "receipts" / "language.parquet", "score_language", "map or score", "space, key", True
)
VISION = Artefact(_A / "receipts" / "vision.parquet", "score_vision", "map", "space, key", True)
METRICS = Artefact(_R / "metrics.csv", "evaluate", "category and trial", "category, shots, seed")
SUMMARY = Artefact(_R / "summary.csv", "evaluate", "category and shots", "category, shots")
DEFECTS = Artefact(
    _R / "defects.csv", "evaluate", "defect kind and trial", "category, defect, shots, seed"
)
METRICS_JSON = Artefact(_R / "metrics.json", "evaluate", "mean of a metric", "shots, metric")
EVALUATION = Artefact(_R / "evaluation.json", "evaluate", "remark on the metrics", "-")
THRESHOLDS = Artefact(_R / "thresholds.json", "evaluate", "threshold", "category, shots, seed")
SCORES = Artefact(_R / "scores.parquet", "evaluate", "image and trial", "image, shots, seed")
PIXELS = Artefact(
    _R / "pixels.parquet",
    "evaluate",
    "level of a category and trial",
    "category, shots, seed, level",
)
PIMO = Artefact(_R / "aupimo.parquet", "evaluate", "anomalous image and trial", "path, shots, seed")
REPLICATES = Artefact(
    _R / "replicates.parquet",
    "evaluate",
    "bootstrap replicate of a category and trial",
    "category, shots, seed, replicate",
)
MAPS = Artefact(_R / "maps.zarr", "evaluate", "trial", "shots, seed")
RUN = Artefact(_R / "run.json", "report", "what the results come from", "-")
REPORT = Artefact(_R / "report", "report", "page", "-")
TABLES = Artefact(_R / "tables", "report", "table of a metric", "metric")
PLOTS = Artefact(_R / "plots", "report", "plot", "-")

ARTEFACTS = (
    MANIFEST, CATEGORIES, SKIPPED, SELECTION, CALIBRATION, REFERENCES, TEST, TEXT, BANKS,
    STREAMED, LANGUAGE, VISION,
    METRICS, SUMMARY, DEFECTS, METRICS_JSON, EVALUATION, THRESHOLDS, SCORES, PIXELS, PIMO,
    REPLICATES, MAPS,
    RUN, REPORT, TABLES, PLOTS,
)  # fmt: skip
RECORDS = tuple(
    Artefact(_A / "parameters" / f"{stage}.json", stage, "parameter that the stage used", "name")
    for stage in dict.fromkeys(artefact.stage for artefact in ARTEFACTS)
)
"""A further output of each stage that DVC runs, see :mod:`pipeline.artefacts.parameters`."""


NAME_LENGTH = 200
"""Bytes of a file's name, without suffixes: file systems take 255 in all."""


def safe_name(category: str) -> str:
    """A category's name as a file name, the same on every system, one to one.

    Of names that would be too long, as quoting makes of 255 bytes outside ASCII, the end is replaced
    by a hash; quoting never gives the ``%-`` before it.

    Examples:
        >>> safe_name("metal_nut"), safe_name("../etc/passwd")
        ('metal_nut', '%2E%2E%2Fetc%2Fpasswd')
        >>> len(safe_name("long" * 100)) <= NAME_LENGTH
        True
    """
    name = quote(category, safe=" ()[]+,=@").replace(".", "%2E") or "%"
    if len(name) <= NAME_LENGTH:
        return name
    digest = hashlib.blake2b(category.encode(), digest_size=20).hexdigest()
    return f"{name[: NAME_LENGTH - len(digest) - 2]}%-{digest}"


def fitting_name(name: str, room: int = 0) -> str:
    """A file's name as it is, cut as by :func:`safe_name` if file systems take no name so long.

    Args:
        name: that no file system refuses for its characters.
        room: bytes that are to follow.

    Examples:
        >>> fitting_name("000.png"), len(fitting_name("long" * 100)) <= 255
        ('000.png', True)
    """
    return name if len(name.encode()) + room <= 255 else safe_name(name)


def project_root(start: Path | None = None) -> Path:
    """The repository or project that a folder belongs to.

    ``dvc exp run --temp`` and ``--queue`` run in a workspace of their own below the repository's
    ``.dvc/tmp/exps``: the repository above it is the project, so that experiments find its store.
    """
    here = (start or Path.cwd()).resolve()
    parts = here.parts
    for i in range(len(parts) - 2):
        if parts[i : i + 3] == (".dvc", "tmp", "exps"):
            return Path(*parts[:i])
    for folder in (here, *here.parents):
        if (folder / ".dvc").is_dir():
            return folder
    return here


def store_root(configured: str | None, start: Path | None = None) -> Path | str:
    """Where features are kept: ``features.store``, or ``.fade/store`` in the project.

    The project is that of the folder ``start``, or of this one. A URL of a folder comes back as its path.

    Raises:
        ParameterError: an empty name, a URL that lacks a slash, or one that no run can use.

    Examples:
        >>> store_root("s3://bucket/store")
        's3://bucket/store'
    """
    if configured is None:
        return project_root(start) / ".fade" / "store"
    if not configured.strip():
        raise ParameterError("features.store is empty: name a folder, or null for the project's")
    if configured.strip().lower().startswith("memory://"):
        raise ParameterError(
            f"features.store is {configured}: a store in memory ends with its process, and each stage is "
            "a process of its own: name a folder or a bucket, or null for the project's"
        )
    if "://" in configured:
        return located(configured.strip())
    refuse_half_url(configured)
    path = Path(os.path.expanduser(configured))
    return path if path.is_absolute() else project_root(start) / path


def folder_above(root: Path, refusal: type[FadeError] = ParameterError) -> Path:
    """The store's folder, or the nearest one above it that exists.

    Raises:
        FadeError: it is a file; of the kind ``refusal``.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     folder_above(Path(place, "not", "there")) == Path(place)
        True
    """
    place = root
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise refusal(
            f"{place} is a file, and features.store {root} would lie in it: move it away, or set "
            "features.store to another folder"
        )
    return place


def prepare_folder(folder: Path) -> None:
    """Make a folder to write into, if it is not there.

    Raises:
        ParameterError: it cannot be made or written.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     prepare_folder(Path(place, "results", "maps"))
        ...     Path(place, "results", "maps").is_dir()
        True
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(
            f"{folder} cannot become a folder ({error.strerror}): name another place"
        ) from None
    if not os.access(folder, os.W_OK):
        raise ParameterError(
            f"{folder} cannot be written: name another place, or change its rights"
        )
