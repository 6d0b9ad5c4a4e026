"""The error of rows that were published and cannot be read back."""

from __future__ import annotations

from cache.layout import Space
from fade.errors import StoreError


class DamagedSegmentError(StoreError):
    """Rows that were published cannot be read back.

    Attributes:
        space, segment: whose they are, as long as the segment is in the index; else None.
        fault, advice: the two halves of the message.
    """

    def __init__(
        self, fault: str, advice: str, space: Space | None = None, segment: str | None = None
    ) -> None:
        super().__init__(fault, advice, space, segment)  # another process makes it from these
        self.fault, self.advice = fault, advice
        self.space, self.segment = space, segment

    def __str__(self) -> str:
        return f"{self.fault}: {self.advice}"
