"""The subset of photographs: which images, whole or not at all, with their licence."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.errors import DataError
from pipeline.demo import photos
from pipeline.demo.photos import main, subset, write
from pipeline.report.about import NOTICE_LENGTH, data_notice


def labels(each: int) -> str:
    """Good and defective cells of both kinds by turns, and some of which nobody is certain."""
    lines = []
    for number in range(12 * each):
        kind = ("mono", "poly")[number % 2]
        probability = (0.0, 0.0, 1.0, 1 / 3)[number // 2 % 4]
        lines.append(f"images/cell{number:04}.png  {probability}  {kind}")
    return "\n".join(lines)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of few photographs, whose code must not run."""
    folder = tmp_path / "lib" / "elpv_dataset"
    (folder / "data" / "images").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('run')")
    (folder / "data" / "labels.csv").write_text(labels(4))
    for number in range(48):
        (folder / "data" / "images" / f"cell{number:04}.png").write_bytes(bytes([number]))
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    return folder / "data"


def test_good_ones_and_certain_defects_of_all_modules() -> None:
    chosen = subset(labels(10), each=10)
    assert {place: len(paths) for place, paths in chosen.items()} == {
        f"{kind}/{place}": 10
        for kind in ("mono", "poly")
        for place in ("train/good", "test/good", "test/defect")
    }
    every = [path for paths in chosen.values() for path in paths]
    assert len(set(every)) == len(every)
    lines = {line.split()[0]: line.split() for line in labels(10).splitlines()}
    for place, paths in chosen.items():
        for path in paths:
            assert lines[path][2] == place.partition("/")[0]
            assert float(lines[path][1]) == place.endswith("defect")
        numbers = [int(path[-8:-4]) for path in paths]
        assert numbers == sorted(numbers)
        assert max(numbers) > 100 > 20 > min(numbers)  # from the first modules to the last


def test_what_is_no_list() -> None:
    with pytest.raises(DataError, match=r"line 1: 'images/a\.png 0\.0'"):
        subset("images/a.png 0.0")
    with pytest.raises(DataError, match="0 mono cells without a defect, 80 are needed"):
        subset("")


def test_written_whole_with_the_licence(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cells"
    write(out, each=4)
    files = [path for path in out.rglob("*") if path.suffix == ".png"]
    assert len(files) == 24
    assert all(path.read_bytes() == bytes([int(path.stem[4:])]) for path in files)
    (line,) = data_notice(out)
    assert "CC BY-NC-SA 4.0" in line
    (package / "images" / "cell0000.png").unlink()
    with pytest.raises(DataError, match=r"lists images/cell0000\.png, and there is no"):
        write(out, force=True, each=4)
    assert len(list(out.rglob("*.png"))) == 24
    assert main([str(tmp_path / "other")]) == DataError.exit_code
    assert "80 are needed" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_package_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(photos, "PACKAGE", "no_such_photographs")
    assert main([str(tmp_path / "out")]) == DataError.exit_code
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "pip install 'fade-pipeline[photos]'" in message


def test_a_notice_is_a_short_line(tmp_path: Path) -> None:
    assert data_notice(tmp_path) == []
    assert data_notice("s3://bucket") == []
    (tmp_path / "NOTICE.txt").write_bytes(b"free\n of\x1b[2J \xff" + b"x" * 5000)
    (line,) = data_notice(tmp_path)
    assert line.startswith("free of\\x1b[2J \ufffdx")
    assert len(line) == NOTICE_LENGTH
