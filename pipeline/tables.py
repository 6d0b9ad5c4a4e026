"""Tables and JSON files of the pipeline, each with a schema version that readers check."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.aspect import Aspect
from fade.errors import StoreError

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
_KEY = b"fade"


def write_table(frame: pd.DataFrame, path: Path, **extra: Any) -> None:
    """Write a parquet file with the schema version and JSON-like remarks in its metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    remarks = json.dumps({"schema": SCHEMA, **extra}, sort_keys=True).encode()
    pq.write_table(
        table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: remarks}),
        path,
        write_page_checksum=True,
    )


def read_table(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read what :func:`write_table` wrote: the rows and the remarks.

    Raises:
        StoreError: missing, damaged, or of another schema version.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, page_checksum_verification=True)
        remarks = json.loads((table.schema.metadata or {}).get(_KEY, b"{}"))
        frame = table.to_pandas()
    except FileNotFoundError:
        raise StoreError(f"{path} is missing: run `dvc repro` to make it") from None
    except (OSError, KeyError, ValueError, TypeError, pa.ArrowException) as error:
        reason = str(error) or type(error).__name__
        raise StoreError(
            f"{path} cannot be read ({reason.splitlines()[0]}): delete it and run `dvc repro`"
        ) from None
    check_schema(remarks, path)
    return frame, remarks


def manifest_aspect(remarks: Mapping[str, Any]) -> Aspect | None:
    """The aspect ratio that a manifest's images keep, by its remarks; None: squashed to squares."""
    found = remarks.get("aspect")
    return None if found is None else Aspect(*found)


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write a JSON object together with the schema version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"schema": SCHEMA, **content}, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read what :func:`write_json` wrote.

    Raises:
        StoreError: missing, damaged, or of another schema version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{path} is missing: run `dvc repro` to make it") from None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}): delete it and run `dvc repro`"
        ) from None
    if not isinstance(content, dict):
        raise StoreError(f"{path} holds no JSON object: delete it and run `dvc repro`")
    check_schema(content, path)
    return content


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a CSV file, the schema version as its last column."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.assign(schema=SCHEMA).to_csv(path, index=False, lineterminator="\n")


def read_csv(path: Path) -> pd.DataFrame:
    """Read what :func:`write_csv` wrote, without the schema column.

    Raises:
        StoreError: missing, damaged, or of another schema version.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(
            path,
            dtype={"category": str},
            keep_default_na=False,
            na_values=[""],
            float_precision="round_trip",
        )
    except FileNotFoundError:
        raise StoreError(f"{path} is missing: run `dvc repro` to make it") from None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}): delete it and run `dvc repro`"
        ) from None
    found = frame["schema"].unique().tolist() if "schema" in frame else [None]
    if found:  # a table without rows holds no version
        check_schema({"schema": found[0] if len(found) == 1 else found}, path)
    return frame.drop(columns="schema", errors="ignore")


def check_schema(remarks: Mapping[str, Any], path: Path) -> None:
    """Refuse another schema version than this program's.

    Raises:
        StoreError: naming both versions.
    """
    if remarks.get("schema") != SCHEMA:
        raise StoreError(
            f"{path} has schema version {remarks.get('schema')}, this program reads {SCHEMA}: "
            "run `dvc repro` with this version, or install the one that wrote it"
        )
