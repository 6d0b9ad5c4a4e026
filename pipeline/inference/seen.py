"""What a command that runs for weeks remembers of all that it has seen, in little memory."""

from __future__ import annotations

from hashlib import blake2b

from pipeline.artefacts.catalogue import fitting_name

DIGEST = 16
"""Bytes of a text that are kept: of a billion texts two have the same in one case of 10²⁰."""
PARTS = 1 << 14
"""Pieces in one of which a digest is looked for: a kilobyte each where a million texts were seen."""
SUFFIX = ".png"
FEW = 8
"""Up to so many pictures of one name are counted anew each time."""


class Seen:
    """Texts that were seen, of which only digests are kept: some 18 bytes each, however long they are.

    Examples:
        >>> seen = Seen()
        >>> seen.add("a.png")
        >>> "a.png" in seen, "b.png" in seen, len(seen)
        (True, False, 1)
    """

    def __init__(self) -> None:
        self._parts: list[bytearray | None] = [None] * PARTS  # digests, one after the other
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, text: str) -> bool:
        return self._holds(_digest(text))

    def add(self, text: str) -> None:
        """Remember a text."""
        digest = _digest(text)
        if self._holds(digest):
            return
        place = _part(digest)
        part = self._parts[place]
        if part is None:
            part = self._parts[place] = bytearray()
        part += digest
        self._count += 1

    def _holds(self, digest: bytes) -> bool:
        part = self._parts[_part(digest)]
        at = -1 if part is None else part.find(digest)
        while part is not None and at > 0 and at % DIGEST:  # the end of one and what follows it
            at = part.find(digest, at + 1)
        return at >= 0


class PictureNames:
    """Names of pictures that are taken, on any file system: capitals tell none apart.

    Examples:
        >>> names = PictureNames()
        >>> names.take("live"), names.take("LIVE"), names.take("live")
        ('live.png', 'LIVE-2.png', 'live-3.png')
    """

    def __init__(self) -> None:
        self._taken = Seen()
        self._numbers: dict[str, int] = {}

    def add(self, name: str) -> None:
        """Take a name, given without its suffix."""
        self._taken.add(name.lower())

    def take(self, stem: str) -> str:
        """The first name of a PNG file that is free; a number tells equal ones apart."""
        number = self._numbers.get(stem.lower(), 0) + 1
        while (name := _numbered(stem, number)).lower() in self._taken:
            number += 1
        self._taken.add(name.lower())
        if number > FEW:  # one that is replaced again and again: not counted from the first again
            self._numbers[stem.lower()] = number
        return name + SUFFIX


def _numbered(stem: str, number: int) -> str:
    """A stem with its number, as file systems take it."""
    return fitting_name(stem if number == 1 else f"{stem}-{number}", len(SUFFIX))


def _part(digest: bytes) -> int:
    return int.from_bytes(digest[:2], "big") % PARTS


def _digest(text: str) -> bytes:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=DIGEST).digest()
