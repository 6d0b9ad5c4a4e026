"""One decision at a time; others wait, as many as there is room for."""

from __future__ import annotations

import asyncio
import time

import pytest

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


def test_work_is_done_one_by_one_and_not_begun_when_nobody_waits() -> None:
    judge, begun, at_once = Judge(Limits(answer_seconds=0.2)), list[int](), [0]

    def work(number: int, seconds: float) -> int:
        begun.append(number)
        at_once.append(at_once[-1] + 1)
        time.sleep(seconds)
        at_once.append(at_once[-1] - 1)
        return number

    async def ask(*lengths: float) -> list[int | BaseException]:
        def piece(number: int, seconds: float) -> asyncio.Task[int]:
            return asyncio.create_task(judge.run(lambda turn: work(number, seconds)))

        return await asyncio.gather(*map(piece, range(9), lengths), return_exceptions=True)

    assert asyncio.run(ask(0.02, 0.02, 0.02)) == [0, 1, 2]
    assert (begun, max(at_once)) == ([0, 1, 2], 1)
    begun.clear()
    late = asyncio.run(ask(0.4, 0.0))
    assert all(isinstance(one, Busy) and one.retry_after == 5 for one in late)
    time.sleep(0.4)
    assert begun == [0]
    with pytest.raises(Busy):
        Turn(time.monotonic() - 1).check()
    judge.close()
