"""Tables and JSON files of the pipeline, each with a schema version that readers check."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.aspect import AspectRatio, SmallerEdge
from fade.errors import StoreError, first_line
from fade.files import atomic_write, read_plain, read_text, write_file
from pipeline.artefacts.csv_text import Rows, marked, unmarked

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

TABLE_SCHEMA = 1
GROUP_ROWS = 1 << 14
"""Rows of a long table that are in memory at once while it is written or read in parts."""
_KEY = b"fade"
# arrow's own allocator keeps what it once had: 40 MB more of a manifest of 200,000 rows
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def write_table(frame: pd.DataFrame, path: Path, **extra: Any) -> None:
    """Write a parquet file with the schema version and JSON-like remarks in its metadata.

    Examples:
        >>> import pandas as pd
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     write_table(pd.DataFrame({"score": [0.5]}), Path(place, "a.parquet"), trials=1)
        ...     frame, remarks = read_table(Path(place, "a.parquet"))
        >>> frame["score"].tolist(), remarks["trials"]
        ([0.5], 1)
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    remarks = json.dumps({"schema": TABLE_SCHEMA, **extra}, sort_keys=True).encode()
    with atomic_write(path) as part:
        pq.write_table(
            table.replace_schema_metadata({**(table.schema.metadata or {}), _KEY: remarks}),
            part,
            write_page_checksum=True,
        )


def read_table(
    path: Path, columns: Sequence[str] | None = None, **equal: Any
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read what :func:`write_table` or :func:`table_writer` wrote: the rows and the remarks.

    Args:
        columns: those to read; None for all.
        equal: values that the rows must have in columns of these names.

    Raises:
        StoreError: missing, damaged, or of another schema version.

    Examples:
        >>> import pandas as pd
        >>> from tempfile import TemporaryDirectory
        >>> scores = pd.DataFrame({"category": ["nut", "bolt"], "score": [0.5, 0.75]})
        >>> with TemporaryDirectory() as place:
        ...     write_table(scores, Path(place, "a.parquet"))
        ...     frame, _ = read_table(Path(place, "a.parquet"), ["score"], category="bolt")
        >>> frame.to_dict("list")
        {'score': [0.75]}
    """
    import pyarrow.parquet as pq

    with _readable(path):
        wanted = [(name, "=", value) for name, value in equal.items()] or None
        table = pq.read_table(
            path,
            columns=None if columns is None else list(columns),
            filters=wanted,
            page_checksum_verification=True,
        )
        remarks = _remarks(table.schema)
        frame = table.to_pandas(split_blocks=True, self_destruct=True)
    check_schema(remarks, path)
    return frame, remarks


@contextmanager
def table_writer(
    path: Path, columns: Mapping[str, Any], **extra: Any
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Write a parquet file in parts, as :func:`write_table` does whole; it appears when complete.

    Args:
        columns: by name the arrow type of each, or the name of it.
        extra: JSON-like remarks.

    Yields:
        A function that takes the next rows: a sequence for each column, :data:`GROUP_ROWS` at most.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    remarks = json.dumps({"schema": TABLE_SCHEMA, **extra}, sort_keys=True).encode()
    schema = pa.schema(columns, {_KEY: remarks})
    with (
        atomic_write(path) as part,
        pq.ParquetWriter(part, schema, write_page_checksum=True) as writer,
    ):
        yield lambda rows: writer.write_table(pa.table(dict(rows), schema=schema))


def table_columns(path: Path) -> tuple[list[str], dict[str, Any]]:
    """The columns of a table and its remarks, without its rows.

    Raises:
        StoreError: missing, damaged, or of another schema version.

    Examples:
        >>> import pandas as pd
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     write_table(pd.DataFrame({"name": ["1.png"], "score": [0.5]}), Path(place, "a.parquet"))
        ...     table_columns(Path(place, "a.parquet"))[0]
        ['name', 'score']
    """
    import pyarrow.parquet as pq

    with _readable(path):
        schema = pq.read_schema(path)
        remarks = _remarks(schema)
    check_schema(remarks, path)
    return schema.names, remarks


def table_parts(path: Path, /, columns: Sequence[str], **equal: str) -> Iterator[dict[str, Any]]:
    """Some columns of a long table as arrow arrays, :data:`GROUP_ROWS` rows at a time.

    Args:
        equal: values that the rows must have in columns of these names.

    Raises:
        StoreError: missing or damaged.

    Examples:
        >>> import pandas as pd
        >>> from tempfile import TemporaryDirectory
        >>> table = pd.DataFrame({"split": ["train", "test"], "hash": ["a", "b"]})
        >>> with TemporaryDirectory() as place:
        ...     write_table(table, Path(place, "a.parquet"))
        ...     parts = list(table_parts(Path(place, "a.parquet"), ["hash"], split="test"))
        >>> [part["hash"].to_pylist() for part in parts]
        [['b']]
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with _readable(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        names = file.schema_arrow.names
        groups = []
        for number in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(number)
            known = {name: group.column(names.index(name)).statistics for name in equal}
            if all(
                seen is None or not seen.has_min_max or seen.min <= equal[name] <= seen.max
                for name, seen in known.items()
            ):
                groups.append(number)
        wanted = [*columns, *equal]
        for batch in file.iter_batches(GROUP_ROWS, row_groups=groups, columns=wanted):
            for name, value in equal.items():
                batch = batch.filter(pc.equal(batch.column(name), value))
            yield {name: batch.column(name) for name in columns}


def _remarks(schema: pa.Schema) -> dict[str, Any]:
    remarks = json.loads((schema.metadata or {}).get(_KEY, b"{}"))
    if not isinstance(remarks, dict):
        raise ValueError("its remarks are no object")
    return remarks


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise StoreError(f"{path} is missing: run `fade run` to make it") from None
    except Exception as error:
        import pyarrow as pa

        known = (OSError, KeyError, ValueError, TypeError, RecursionError, pa.ArrowException)
        if not isinstance(error, known):
            raise
        raise StoreError(
            f"{path} cannot be read ({first_line(error)}): delete it and run `fade run`"
        ) from None


def manifest_aspect(remarks: Mapping[str, Any]) -> AspectRatio | None:
    """The aspect ratio that a manifest's images keep, by its remarks; None: squashed to squares.

    Examples:
        >>> manifest_aspect({"aspect": [512, 256]}), manifest_aspect({})
        (AspectRatio(width=2, height=1), None)
    """
    found = remarks.get("aspect")
    if found is None:
        return None
    return SmallerEdge(*found) if remarks.get("crop") else AspectRatio(*found)


def write_json(content: Mapping[str, Any], path: Path) -> None:
    """Write a JSON object together with the schema version.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     write_json({"images": 40}, Path(place, "a.json"))
        ...     sorted(json.loads(Path(place, "a.json").read_text()))
        ['images', 'schema']
    """
    text = json.dumps(
        {"schema": TABLE_SCHEMA, **content}, indent=1, ensure_ascii=False, allow_nan=False
    )
    write_file(path, text + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read what :func:`write_json` wrote.

    Raises:
        StoreError: missing, damaged, or of another schema version.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     write_json({"images": 40}, Path(place, "a.json"))
        ...     read_json(Path(place, "a.json"))["images"]
        40
    """
    with _readable(path):
        content = json.loads(read_text(path))
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object")
    check_schema(content, path)
    return content


def write_csv(frame: pd.DataFrame, path: Path, later: Sequence[str] = ()) -> None:
    """Write a CSV file, the schema version as its last column; see :mod:`pipeline.artefacts.csv_text`.

    Args:
        later: columns that came to the file later, and lie behind the schema version.

    Examples:
        >>> import pandas as pd
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     write_csv(pd.DataFrame({"category": ["nut"], "auroc": [0.5]}), Path(place, "a.csv"))
        ...     Path(place, "a.csv").read_text().splitlines()[0]
        'category,auroc,schema'
    """
    if "category" in frame:
        frame = frame.assign(category=[marked(str(name)) for name in frame["category"]])
    with atomic_write(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        first = [name for name in frame.columns if name not in later]
        laid = frame.assign(schema=TABLE_SCHEMA)[[*first, "schema", *later]]
        rows: Any = Rows(file)  # pandas' types ask for more than it uses
        laid.to_csv(rows, index=False, lineterminator="\r\n")


def read_csv(path: Path) -> pd.DataFrame:
    """Read what :func:`write_csv` wrote, without the schema column.

    Raises:
        StoreError: missing, damaged, or of another schema version.

    Examples:
        >>> import pandas as pd
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as place:
        ...     write_csv(pd.DataFrame({"category": ["nut"], "auroc": [0.5]}), Path(place, "a.csv"))
        ...     read_csv(Path(place, "a.csv")).to_dict("list")
        {'category': ['nut'], 'auroc': [0.5]}
    """
    import pandas as pd

    with _readable(path):
        frame = pd.read_csv(
            BytesIO(read_plain(path)),
            dtype={"category": str},
            keep_default_na=False,
            na_values=[""],
            float_precision="round_trip",
        )
    found = frame["schema"].unique().tolist() if "schema" in frame else [None]
    if found:  # a table without rows holds no version
        check_schema({"schema": found[0] if len(found) == 1 else found}, path)
    if "category" in frame:
        names = frame["category"]
        frame["category"] = names.map(unmarked, na_action="ignore").astype(names.dtype)
    return frame.drop(columns="schema", errors="ignore")


def check_schema(remarks: Mapping[str, Any], path: Path) -> None:
    """Refuse another schema version than this program's.

    Raises:
        StoreError: naming both versions.
    """
    if remarks.get("schema") != TABLE_SCHEMA:
        raise StoreError(
            f"{path} has schema version {remarks.get('schema')}, this program reads {TABLE_SCHEMA}: "
            "run `fade run` with this version, or install the one that wrote it"
        )
