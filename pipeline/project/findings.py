"""What `fade doctor` says of one thing that it looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fade.errors import FadeError

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: ``problem`` where a run would fail.
        text: what was found, and for warnings and problems what to do.
        code: a problem's exit code, that of the run it would end.
    """

    topic: str
    level: Level
    text: str
    code: int = 0


def ok(topic: str, text: str) -> Finding:
    """All is well."""
    return Finding(topic, "ok", text)


def warning(topic: str, text: str) -> Finding:
    """A run would go on."""
    return Finding(topic, "warning", text)


def problem(topic: str, error: FadeError) -> Finding:
    """A run would end."""
    return Finding(topic, "problem", str(error), error.exit_code)
