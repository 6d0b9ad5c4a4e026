"""Settings that threads take and leave in any order."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from fade.overlapping import Overlapping


class Setting:
    """A value of the process, and a context that sets it."""

    value = "before"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        before, self.value = self.value, "held"
        try:
            yield
        finally:
            self.value = before


def test_the_last_one_puts_it_back() -> None:
    """The first to come is the first to go: alone, each would have put back what the other had set."""
    setting = Setting()
    context = Overlapping(setting.held)
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()
    seen: list[str] = []

    def first() -> None:
        with context():
            first_in.set()
            second_in.wait(10)
        first_out.set()

    def second() -> None:
        first_in.wait(10)
        with context():
            second_in.set()
            first_out.wait(10)
            seen.append(setting.value)

    threads = [threading.Thread(target=one) for one in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["held"]
    assert setting.value == "before"


def test_an_error_leaves_it_too() -> None:
    setting = Setting()
    context = Overlapping(setting.held)
    with pytest.raises(ZeroDivisionError), context(), context():
        setting.value = str(1 / 0)
    assert setting.value == "before"
    with context():
        assert setting.value == "held"
    assert setting.value == "before"
