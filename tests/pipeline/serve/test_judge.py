"""One decision at a time; others wait, as many as there is room for."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial
from queue import SimpleQueue

import pytest
from starlette.requests import ClientDisconnect

from fade.errors import FadeError
from pipeline.serve.guard import as_refusal
from pipeline.serve.judge import Busy, Judge, Turn
from pipeline.serve.limits import Limits


def test_requests_wait_as_far_as_there_is_room_for_their_bytes() -> None:
    judge = Judge(Limits(held_bytes=10, waiting=3))
    # nobody waits: a large one has its turn, too
    with judge.place(50), pytest.raises(Busy, match="1 requests wait"), judge.place(1):
        pass
    with judge.place(8), judge.place(2), judge.place(0):
        assert judge.waiting == 3
        with pytest.raises(Busy, match="3 requests wait"), judge.place(0):
            pass
    assert judge.waiting == 0


def test_work_is_done_one_by_one() -> None:
    judge, begun, at_once = Judge(Limits()), list[int](), [0]

    def work(number: int, turn: Turn) -> int:
        begun.append(number)
        at_once.append(at_once[-1] + 1)
        time.sleep(0.02)
        at_once.append(at_once[-1] - 1)
        return number

    async def ask() -> list[int]:
        return await asyncio.gather(*(judge.run(partial(work, number)) for number in range(3)))

    assert asyncio.run(ask()) == [0, 1, 2]
    assert (begun, max(at_once)) == ([0, 1, 2], 1)
    judge.close()


def test_work_that_nobody_waits_for_is_not_begun() -> None:
    judge, begun, answered = Judge(Limits(answer_seconds=1)), list[int](), threading.Event()

    def work(number: int, turn: Turn) -> None:
        begun.append(number)
        answered.wait(60)

    async def ask() -> list[BaseException | None]:
        asked = (judge.run(partial(work, number)) for number in range(2))
        return await asyncio.gather(*asked, return_exceptions=True)

    late = asyncio.run(ask())
    assert all(isinstance(one, Busy) and one.retry_after == 5 for one in late)
    answered.set()
    behind = threading.Event()
    judge.start(behind.set, print)
    assert behind.wait(60)
    assert begun == [0]
    with pytest.raises(Busy):
        Turn(time.monotonic() - 1).check()
    judge.close()


def test_a_package_that_lacks_is_said_and_not_unexpected() -> None:
    """Else the model is called loading for ever, and who asks hears of no way out."""
    judge, said = Judge(Limits()), SimpleQueue[FadeError]()
    lacking = ModuleNotFoundError("no", name="torch")

    def load() -> None:
        raise lacking

    judge.start(load, said.put)
    for error in (said.get(timeout=60), refused := as_refusal(lacking)):
        assert "`pip install 'fade-pipeline[cpu]'`" in str(error)
    assert refused.status == 422
    judge.close()


def test_who_hangs_up_gives_the_place_free_and_has_no_turn() -> None:
    """Else clients that are less patient than the line is long would all be answered too late."""
    judge, begun, answered = Judge(Limits()), list[int](), threading.Event()

    def work(number: int, turn: Turn) -> int:
        begun.append(number)
        answered.wait(60)
        return number

    async def leaves() -> None:
        await asyncio.sleep(0)

    async def stays() -> None:
        await asyncio.Event().wait()

    async def ask() -> list[int | BaseException]:
        first = asyncio.ensure_future(judge.run(partial(work, 0), stays))
        gone = await asyncio.gather(
            *(judge.run(partial(work, number), leaves) for number in (1, 2)), return_exceptions=True
        )
        answered.set()
        return [*gone, await first, await judge.run(partial(work, 3), stays)]

    *gone, first, last = asyncio.run(ask())
    assert all(isinstance(one, ClientDisconnect) for one in gone)
    assert (first, last, begun) == (0, 3, [0, 3])
    judge.close()
