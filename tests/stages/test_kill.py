"""Stages killed with SIGKILL in the middle of their work: a plain re-run ends as an undisturbed one.

Half of the kills come at random moments of the work, half right before a random write: a file opened
to be written, renamed or removed, a folder made or removed. Moments and writes are seeded. Three
kills in a row, then the re-run; afterwards the stage's outputs and the store's rows are the bytes of
the undisturbed run, no row was stored twice, and no more was computed twice than was in flight. The
undisturbed run is one in a project of `fade new`, so its bytes are those of a clone, too.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.forks import End, Forks, Run
from tests.projects import KINDS, STAGES, lay_pipeline
from tests.stages.undisturbed import BLOCK, STREAMING, THREADS, Undisturbed, files, rows

KILLS = int(os.environ.get("FADE_KILLS", "3"))
"""Kills of each stage; `make test-kill` asks for more."""
IN_A_ROW = 3
KILLED = [*STAGES, STREAMING]
"""Their kills take turns between a clone and a project of `fade new`."""
IN_FLIGHT = {
    "extract": 2, "text": 1, STREAMING: 1, "score_language": THREADS, "score_vision": THREADS,
}  # fmt: skip
"""Tasks that one kill can lose: in extract the one that is encoded and the one that is written."""


def killed(forks: Forks, run: Run, whole: End, dice: random.Random, *, at_write: bool) -> End:
    """A run that was killed for certain: a kill that came too late is aimed earlier.

    The earlier kills of a row leave less to do, so that a stage may be over sooner than before.
    """
    share = dice.random()
    for _ in range(12):
        if at_write:
            end = forks.run(replace(run, kill_at=1 + int(share * whole.writes)))
        else:
            end = forks.run(replace(run, kill_after=share * whole.seconds))
        if end.code == -signal.SIGKILL:
            return end
        assert end.code == 0, end.stderr
        share /= 2
    raise AssertionError(f"{run.stage} always ended before it could be killed")


@pytest.mark.parametrize("stage", KILLED)
def test_killed_and_run_again(
    stage: str, undisturbed: dict[str, Undisturbed], forks: Forks, tmp_path: Path
) -> None:
    plain = undisturbed[stage]
    expected, stored = files(plain.after), sorted(rows(plain.after))
    dice = random.Random(f"20260923 {stage}")
    run = Run(stage.partition(" ")[0], str(tmp_path / "now"), small=BLOCK)
    task = max(plain.end.work, default=0)  # the largest one: its rows, or its prompts
    if stage == "extract":  # whose tasks are encoded batch by batch: a row for each feature
        task = BLOCK * len({space for space, *_ in stored})
    elif stage == STREAMING:  # so is this one; each image once
        new = set(stored) - set(rows(plain.before))
        images = {key.partition(":")[0] for _, key, _ in new}
        task = BLOCK * sum(plain.end.work) // len(images)
    how: Counter[str] = Counter()
    caught: list[int] = []
    most_repeated = 0
    for first in range(0, KILLS, IN_A_ROW):
        shutil.rmtree(tmp_path / "now", ignore_errors=True)
        folder = shutil.copytree(plain.before, tmp_path / "now")
        kind = KINDS[(first // IN_A_ROW + KILLED.index(stage)) % len(KINDS)]
        lay_pipeline(folder, kind)
        computed: list[int] = []
        kills = range(first, min(first + IN_A_ROW, KILLS))
        for number in kills:
            at_write = bool(number % 2)
            end = killed(forks, run, plain.end, dice, at_write=at_write)
            how["at a write" if at_write else "at a moment"] += 1
            how[f"in a project of kind {kind}"] += 1
            computed += end.work
            caught.append(len(set(rows(folder))) - len(set(rows(plain.before))))
        again = forks.run(run)
        assert again.code == 0, again.stderr
        found = files(folder)
        assert sorted(found) == sorted(expected)
        assert [name for name in expected if found[name] != expected[name]] == []
        published = sorted(rows(folder))
        assert published == stored, "rows are missing, differ, or were stored twice"
        repeated = sum(computed) + sum(again.work) - sum(plain.end.work)
        assert repeated <= len(kills) * IN_FLIGHT.get(stage, 0) * task
        most_repeated = max(most_repeated, repeated)
    assert sum(how.values()) == 2 * KILLS
    print(
        f"{stage}: killed {dict(how)}; rows stored at the kill {min(caught)} to {max(caught)} of "
        f"{len(stored) - len(set(rows(plain.before)))}; computed {sum(plain.end.work)}, at most "
        f"{most_repeated} more in {IN_A_ROW} kills; every re-run equal in {len(expected)} files"
    )
