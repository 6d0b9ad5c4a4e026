"""Errors that reach people: one line that names the culprit, the limit and the way out."""

import errno
import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class FadeError(Exception):
    """A problem its reader can solve. The message is shown as it is, without a traceback."""

    exit_code = 1


class ParameterError(FadeError):
    """A parameter is unknown, ill-typed or contradicts another one."""

    exit_code = 2


class DataError(FadeError):
    """A data set, image, mask or prompt file cannot be used."""

    exit_code = 3


class ModelError(FadeError):
    """A model or its weights cannot be used."""

    exit_code = 4


class StoreError(FadeError):
    """The feature store or an artefact is damaged, incomplete or of another schema version."""

    exit_code = 5


_REFUSALS = {
    errno.ENOSPC: "no space is left",
    errno.EDQUOT: "your quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
}


def refusal(error: OSError) -> str | None:
    """Why the operating system refused a file, if that is for a person to mend; else None."""
    return _REFUSALS.get(error.errno or 0)


def printable(text: str) -> str:
    """Text as one line that steers no terminal.

    Names of files and categories may hold line breaks and other control characters, those that turn
    the direction of text included: they are written as escapes.
    """
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def summarise(problems: list[str]) -> str:
    """One line for any number of problems: the first five, and how many more there are."""
    shown = "; ".join(problems[:5])
    return shown if len(problems) <= 5 else f"{shown}; and {len(problems) - 5} more"
