"""What a scheduler is given to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")
Job = tuple[str, Callable[[], R]]
"""The key of a task, which is what the dashboard and errors say of it, and the call that does it."""
