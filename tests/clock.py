"""The system's clock, set for psutil alone: nobody else's moves."""

from __future__ import annotations

import psutil
import pytest


def set_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Set the clock on by so many seconds, as Linux tells it: the time of the boot moves with it."""
    if not psutil.LINUX:
        pytest.skip("elsewhere the time of a process's start stays")
    told = psutil._psplatform.boot_time
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: told() + seconds)
