"""The benchmarks run, and what they measure agrees: each asserts that both sides are equal."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from benchmarks.__main__ import NAMES, main
from benchmarks.table import Row, alternate, markdown, peak_megabytes
from tests.projects import changed, golden_params, run_stages


def test_quick_run_of_the_light_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "results.md"
    light = ("store", "neighbours", "sweep", "metrics")
    assert set(light) < set(NAMES)
    main(["--quick", "--output", str(file), *(f"--only={name}" for name in light)])
    text = file.read_text(encoding="utf-8")
    assert text.strip() == capsys.readouterr().out.strip()
    for stage in ("store, read", "nearest neighbours", "sweep, shots 1, 2, 4", "pixel metrics"):
        assert f"| {stage}" in text
    assert "GFLOP/s" in text
    assert "torch" in text


def test_medians_and_ratios() -> None:
    pair = alternate(lambda: "ours", lambda: "plain", 3)
    assert (pair.our_output, pair.plain_output) == ("ours", "plain")
    rows = [Row("a", 0.5, 2.0, "ratio 4", True, (0.5, "matmul")), Row("b", 1.0, None, "-", False)]
    assert rows[0].ratio == 4
    shown = markdown(rows).splitlines()
    assert shown[2] == "| a | 500 ms | 2 s | 4.00 | 50 % of matmul | ratio 4 | yes |"
    assert shown[3] == "| b | 1 s | - | - | - | - | no |"


def test_peak_is_of_the_code_alone() -> None:
    small, large = (peak_megabytes(f"x = bytearray({n} << 20)") for n in (1, 100))
    assert small < 60
    assert 80 < large - small < 120


def test_scale_of_light_stages(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from benchmarks.scale import main as measure

    stages = [f"--stage={name}" for name in ("scan", "manifest")]
    measure(["stages", "--images=60", "--factor=2", f"--place={tmp_path}", *stages])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["scan", "manifest"]
    assert all(line.endswith("| yes |") for line in lines[2:])


def test_scale_of_the_stores_care(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from benchmarks.scale import CARE
    from benchmarks.scale import main as measure

    measure(["store", "--images=300", "--factor=2", f"--place={tmp_path}"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == list(CARE)
    assert all(line.endswith("| yes |") for line in lines[2:])


def test_scale_of_the_served_index(golden_checkpoint: Path, tmp_path: Path) -> None:
    from benchmarks.scale_index import measure_serve

    params = changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        features__segmentation_sizes=[96], evaluate__size=64, dataset__limit=2,
    )  # fmt: skip
    folder = run_stages(tmp_path, params)
    lines = list(measure_serve(3000, lambda: nullcontext(folder)))
    assert [line[0] for line in lines[:3]] == ["open the run", "largest memory of it", "first page"]
    assert lines[-1][0] == "counts of a category"


def test_scale_of_the_stores_index(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from benchmarks.scale import main as measure

    measure(["rows", "--images=600", f"--place={tmp_path}"])
    lines = capsys.readouterr().out.splitlines()[2:]
    # twenty bytes of a key, twelve of its place
    assert "| index in memory, a row | 32 bytes | 40 bytes | yes |" in lines
