"""``labels.csv``: labels of test images that a person corrected, by path in the data set."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from fade.errors import DataError
from fade.files import read_plain, write_file
from pipeline.artefacts.csv_text import Rows, marked, unmarked

Label = Literal["good", "anomalous"]
LABELS_FILE = Path("labels.csv")
COLUMNS = ("path", "label")


def read_labels(path: Path) -> dict[str, bool]:
    """Whether each image of a file of labels is anomalous, by its path; nothing where there is no file.

    Raises:
        DataError: naming the line that cannot be used.
    """
    return {image: cells[0] == "anomalous" for image, cells in _read_rows(path)[1].items()}


def write_labels(labels: Mapping[str, bool], path: Path) -> None:
    """Write what :func:`read_labels` reads, whole or not at all.

    Further columns, such as notes that a person made, stay with their images.

    Raises:
        DataError: the file that is there cannot be used.
        OSError: that names the file.
    """
    further, rows = _read_rows(path)
    text = io.StringIO(newline="")
    writer = csv.writer(Rows(text))
    writer.writerow([*COLUMNS, *further])
    for image, is_anomaly in labels.items():
        label = "anomalous" if is_anomaly else "good"
        writer.writerow([marked(image), label, *rows.get(image, [])[1:]])
    write_file(path, text.getvalue())


def _read_rows(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Names of further columns, and by image the cells behind its path: its label, then further ones."""
    try:
        text = read_plain(path).decode("utf-8-sig")
    except FileNotFoundError:
        return [], {}
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8: save it as such") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    further: list[str] = []
    found: dict[str, list[str]] = {}
    try:
        for number, row in enumerate(reader):
            if number == 0:
                if row[: len(COLUMNS)] != list(COLUMNS):
                    commas = "" if len(row) > 1 else ", separated by commas"
                    raise DataError(f"{path}: its first line must be {','.join(COLUMNS)}{commas}")
                further = row[len(COLUMNS) :]
                continue
            if not any(row):  # as spreadsheets leave rows that were emptied
                continue
            if len(row) < len(COLUMNS) or row[1] not in get_args(Label):
                raise DataError(
                    f"{path}, line {reader.line_num}: a line is a path in the data set and "
                    f"{' or '.join(get_args(Label))}, not {','.join(row[1:2] or row)[:80]!r}"
                )
            if not row[0]:
                raise DataError(
                    f"{path}, line {reader.line_num}: it names no image; fix or remove it"
                )
            image = unmarked(row[0])
            if image in found:
                raise DataError(f"{path}, line {reader.line_num}: {image} has a label already")
            found[image] = row[1:]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}; fix or remove it") from None
    return further, found
