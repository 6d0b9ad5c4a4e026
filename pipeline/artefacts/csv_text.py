"""Names in CSV files: what a spreadsheet would take for a formula is marked as text.

Spreadsheets compute cells that begin with certain characters. As OWASP advises (CSV injection), a
name that begins with one gets an apostrophe before it. Numbers are no names: they stay as they are.
"""

from __future__ import annotations

from typing import Protocol

_STARTS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""Characters that begin a formula in a spreadsheet; the last four are full-width forms of the first."""
_MARK = "'"


def marked(text: str) -> str:
    """A name as a cell of a CSV file.

    A name that would be read back as another one is marked, too: :func:`unmarked` gives back all names.

    >>> marked("=1+1"), marked("cable"), marked("'=1"), marked("'tis")
    ("'=1+1", 'cable', "''=1", "'tis")
    """
    return _MARK + text if text.lstrip(_MARK).startswith(_STARTS) else text


def unmarked(cell: str) -> str:
    """The name that :func:`marked` made a cell of.

    >>> unmarked("'=1+1"), unmarked("''=1"), unmarked("'tis")
    ('=1+1', "'=1", "'tis")
    """
    is_marked = cell.startswith(_MARK) and cell.lstrip(_MARK).startswith(_STARTS)
    return cell[1:] if is_marked else cell


class Text(Protocol):
    """Takes text, as files do."""

    def write(self, text: str, /) -> object:
        """Take some."""


class Rows:
    """Takes the rows of a CSV writer and ends each with a line feed.

    The writer itself must end them with both characters: else it puts a name with a carriage return
    between no quotes.
    """

    def __init__(self, file: Text) -> None:
        self._file = file

    def write(self, row: str) -> None:
        """Write a row."""
        self._file.write(row.removesuffix("\r\n") + "\n")
