"""Errors that reach people: one line that names the culprit, the limit and the way out."""

import errno
import re

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, those that turn the direction of text and bytes that are no UTF-8 included."""


class FadeError(Exception):
    """A problem its reader can solve. The message is shown as it is, without a traceback.

    Examples:
        >>> str(FadeError("no image in data/: add some")), FadeError.exit_code
        ('no image in data/: add some', 1)
    """

    exit_code = 1


class ParameterError(FadeError):
    """A parameter is unknown, ill-typed or contradicts another one.

    Examples:
        >>> raise ParameterError("image size 230 is no multiple of 14: use 224 or 238")
        Traceback (most recent call last):
            ...
        fade.errors.ParameterError: image size 230 is no multiple of 14: use 224 or 238
    """

    exit_code = 2


class DataError(FadeError):
    """A data set, image, mask or prompt file cannot be used.

    Examples:
        >>> raise DataError("test/good/3.png is empty: restore or remove it")
        Traceback (most recent call last):
            ...
        fade.errors.DataError: test/good/3.png is empty: restore or remove it
    """

    exit_code = 3


class ModelError(FadeError):
    """A model or its weights cannot be used.

    Examples:
        >>> raise ModelError("model.pretrained: weights.pt is cut short: copy the weights again")
        Traceback (most recent call last):
            ...
        fade.errors.ModelError: model.pretrained: weights.pt is cut short: copy the weights again
    """

    exit_code = 4


class StoreError(FadeError):
    """The feature store or an artefact is damaged, incomplete or of another schema version.

    Examples:
        >>> raise StoreError("there is no store at cache: make one with `fade run`, or name it")
        Traceback (most recent call last):
            ...
        fade.errors.StoreError: there is no store at cache: make one with `fade run`, or name it
    """

    exit_code = 5


_REFUSALS = {
    errno.ENOSPC: "no space is left",
    errno.EDQUOT: "your quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EISDIR: "it is a folder",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EEXIST: "a file is where a folder must be",  # a name that may be taken is not asked for
    errno.ENOTDIR: "a part of its path is no folder",
    errno.ELOOP: "it is a link that leads back to itself",
    errno.ENXIO: "it is no plain file",  # what opening a pipe to write says, and fade/files.py
}


def refusal(error: OSError) -> str | None:
    """Why the operating system refused a file, if a person can fix that; else None.

    Examples:
        >>> import errno
        >>> refusal(PermissionError(errno.EACCES, "denied"))
        'permission denied'
        >>> refusal(FileNotFoundError(errno.ENOENT, "no file")) is None
        True
    """
    return _REFUSALS.get(error.errno or 0)


SHOWN = 5
"""Problems that a line names."""


def summarise(problems: list[str], between: str = "; ", count: int | None = None) -> str:
    """One line for any number of problems: the first five, and how many more there are.

    Args:
        problems: the first five at least.
        count: how many there are, where these are not all.

    Examples:
        >>> summarise([f"{n}.png is empty" for n in range(7)])
        '0.png is empty; 1.png is empty; 2.png is empty; 3.png is empty; 4.png is empty; and 2 more'
    """
    count = len(problems) if count is None else count
    shown = between.join(problems[:SHOWN])
    return shown if count <= SHOWN else f"{shown}{between}and {count - SHOWN} more"


_OF_MANY = {" is": " are", " has": " have"}


def counted(number: int, noun: str, verb: str = "") -> str:
    """A number, its noun and, if one is given, the verb that follows.

    Args:
        number: of things.
        noun: of one of them.
        verb: in the third person, such as ``has``.

    >>> counted(1, "image"), counted(2, "category"), counted(0, "index"), counted(3, "patch")
    ('1 image', '2 categories', '0 indexes', '3 patches')
    >>> counted(1, "mask", "has"), counted(2, "mask", "has"), counted(2, "row", "ends")
    ('1 mask has', '2 masks have', '2 rows end')
    """
    after = f" {verb}" if verb else ""
    if number == 1:
        return f"1 {noun}{after}"
    if noun.endswith("y"):
        many = f"{noun[:-1]}ies"
    else:
        many = f"{noun}{'es' if noun.endswith(('ch', 'x')) else 's'}"
    return f"{number:,} {many}{_OF_MANY.get(after, after.removesuffix('s'))}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type's name where it has none.

    Examples:
        >>> first_line(ValueError("no header\\nin this file")), first_line(KeyboardInterrupt())
        ('no header', 'KeyboardInterrupt')
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def plain(text: str) -> str:
    """Text as one line that steers no terminal: names may hold line breaks and other control
    characters, which are written as escapes.

    >>> print(plain("a\\nb\\x1b[2J.png"))
    a\\nb\\x1b[2J.png
    """
    return CONTROL.sub(lambda found: repr(found[0])[1:-1], text)
