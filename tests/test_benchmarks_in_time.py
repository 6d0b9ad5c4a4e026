"""Benchmarks end in time on slow machines, and say what a machine cannot do."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks import networks, peers, store
from benchmarks.machine import USUAL, Machine
from benchmarks.peer_images import Amount
from benchmarks.peer_methods import METHODS
from benchmarks.peer_process import OutOfTimeError, run
from benchmarks.rounds import rounds
from benchmarks.table import Row, alternate, in_turn

WITH = Machine(1e11, 4e11, 1e11, 1e10, 1e9)
WITHOUT = Machine(1e11, 3e8, 1e11, 1e10, 1e9)


def test_fewer_rounds_where_one_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 1000, 5))
    monkeypatch.setattr("benchmarks.rounds.time.perf_counter", lambda: next(now))
    assert list(rounds(9, enough=12)) == [0, 1, 2]
    assert list(rounds(1, enough=0)) == list(rounds(3, enough=0)) == [0]


def test_both_sides_are_run_equally_often() -> None:
    calls: list[str] = []

    def slow(name: str) -> None:
        calls.append(name)
        time.sleep(0.01)

    in_turn({name: partial(slow, name) for name in "ab"}, 50, enough=0.03)
    assert "".join(calls) == "ab" * (len(calls) // 2)
    assert 2 <= len(calls) < 20
    alternate(lambda: calls.clear(), lambda: calls.append("plain"), 3, enough=0)
    assert not calls


def test_numbers_follow_the_machine() -> None:
    fast = Machine(2 * USUAL, USUAL, USUAL, 1e10, 1e9)
    half = Machine(USUAL / 2, USUAL, USUAL, 1e10, 1e9)
    assert [one.fewer(8, 1) for one in (fast, half)] == [8, 4]
    assert half.fewer(3, 2) == 2
    assert Machine(1e9, 1, 1, 1, 1).fewer(8, 1) == 1


def test_a_product_of_bf16_that_takes_a_minute_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sides = []

    def instant(call: Any, repeats: int = 3) -> float:
        given = call.__closure__[0].cell_contents
        sides.append((str(getattr(given, "dtype", "")), getattr(given, "shape", (0,))[0]))
        return 100.0 if "bfloat16" in sides[-1][0] else 0.001

    monkeypatch.setattr("benchmarks.machine.SIDE", 256)
    monkeypatch.setattr("benchmarks.machine.BYTES", 1 << 10)
    monkeypatch.setattr("benchmarks.machine.seconds", instant)
    assert not Machine.measure().has_bf16
    assert [side for dtype, side in sides if "bfloat16" in dtype] == [32]


def test_a_machine_without_bf16_says_so_once() -> None:
    assert not any("No bf16" in line for line in WITH.describe())
    assert any("400 in bf16" in line for line in WITH.describe())
    lines = WITHOUT.describe()
    assert sum("No bf16: this processor does not multiply it" in line for line in lines) == 1
    assert not any(" 0 in bf16" in line for line in lines)


def test_rows_of_bf16_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "TRANSFORMERS", ("test_vit",))
    monkeypatch.setattr(networks, "levels", lambda quick: Row("levels", 1, None, "-", True))
    monkeypatch.setattr(networks, "alternate", lambda ours, plain, *_: alternate(ours, plain, 1))
    for machine, there in ((WITH, True), (WITHOUT, False)):
        for module in (networks, store):
            named = [row.stage for row in module.measure(machine, quick=True)]
            assert any("bf16" in name for name in named) == there, named
    assert (WITH.precision, WITHOUT.precision) == ("bf16", "fp32")


def test_a_command_is_ended_with_all_its_processes(tmp_path: Path) -> None:
    child = "import time; time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    start = time.monotonic()
    with pytest.raises(OutOfTimeError):
        run([sys.executable, "-c", code], tmp_path, 1, start + 1)
    assert time.monotonic() - start < 30
    with pytest.raises(OutOfTimeError):  # not even begun
        run(["nothing"], tmp_path, 1, start)
    assert run([sys.executable, "-c", "print(1)"], tmp_path, 1).output == "1\n"


def test_methods_of_peers_end_in_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def late(method: Any, *given: Any) -> Any:
        if method is methods[1]:
            raise OutOfTimeError
        return {"steps": {}}

    methods = [METHODS["musc"], METHODS["subspacead"]]
    monkeypatch.setattr(peers, "DATA", Path())
    monkeypatch.setattr(peers, "_round", late)
    monkeypatch.setattr(peers, "_rows", lambda method, done: [Row(method.name, 1, 1, "-", True)])
    found = list(peers.compare(methods, Amount(), 2))
    assert [row.stage for row in found] == [methods[0].name]
    assert f"{methods[1].name}: left out, no time" in capsys.readouterr().err


def test_rows_of_peers_are_there_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "peers.md"

    def cut(*given: Any) -> Iterator[Row]:
        yield Row("first", 1, 2, "-", True)
        assert "| first | 1 s | 2 s |" in capsys.readouterr().out
        raise KeyboardInterrupt

    monkeypatch.setattr(peers, "compare", cut)
    monkeypatch.setattr(Machine, "measure", classmethod(lambda cls: WITH))
    with pytest.raises(KeyboardInterrupt):
        peers.main([f"--output={file}"])
    text = file.read_text(encoding="utf-8")
    assert "| first | 1 s | 2 s |" in text
    assert all(f"- {of}: " in text for of in ("Machine", "Versions", "Peers"))
