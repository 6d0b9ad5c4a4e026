"""Parameters of one run alone: params.yaml comes back whatever happens."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml
from dvc.utils.serialize import parse_yaml

from fade.errors import ParameterError
from pipeline.config.load import load_params
from pipeline.config.originals import original
from pipeline.process.dvc_watchdog import named
from pipeline.project import overrides
from pipeline.project.doctor import diagnose
from pipeline.project.overrides import KEPT, overridden, restore, stands_in
from tests.clock import set_clock
from tests.projects import ROOT

ORIGINAL = original("params.yaml") + "# my own remark\n"
LIMIT = {"dataset.limit": 2}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    path = tmp_path / "params.yaml"
    path.write_text(ORIGINAL, encoding="utf-8")
    return path


def killed(code: str) -> None:
    """Run code in a process that ends without a chance to tidy up."""
    program = (
        "from pipeline.project.overrides import *\nimport os\n"
        f"with overridden({LIMIT!r}) as read_by:\n    {code}"
    )
    subprocess.run(
        [sys.executable, "-c", program + "\n    os._exit(9)"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip


def test_a_name_that_yaml_breaks_lines_at_ends_no_remark(file: Path) -> None:
    """U+2028 and U+0085 end YAML's comments, and a category's folder may have them in its name."""
    for name in ("a\u2028dataset: {}", "b\x85c", "d\ne"):
        with overridden({"dataset.categories": [name]}):
            assert load_params().dataset.categories == [name]
            assert parse_yaml(file.read_text("utf-8"), file)["dataset"]["categories"] == [name]


def test_others_hold_inside_and_the_file_comes_back(file: Path) -> None:
    with overridden({**LIMIT, "dataset.categories": ["Größe", "tile"]}):
        params = load_params()
        assert (params.dataset.limit, params.dataset.categories) == (2, ["Größe", "tile"])
        plain = yaml.safe_load(ORIGINAL)
        plain["dataset"] |= {"limit": 2, "categories": ["Größe", "tile"]}
        assert yaml.safe_load(file.read_text(encoding="utf-8")) == plain
        assert file.read_text(encoding="utf-8").startswith("# For one `fade run` alone")
    assert file.read_text(encoding="utf-8") == ORIGINAL
    assert not KEPT.exists()
    assert restore() == ""


def test_names_that_look_like_something_else_stay_names(file: Path) -> None:
    names = ["1e3", "no", "010", "1:30", "null", "true"]
    with overridden({"dataset.categories": names}):
        assert load_params().dataset.categories == names
        assert parse_yaml(file.read_text(encoding="utf-8"), file)["dataset"]["categories"] == names


def test_numbers_stay_what_they_are(file: Path) -> None:
    """PyYAML by itself reads 1e-5 as text and 010 as eight."""
    text = ORIGINAL.replace("vision_multiplier: 3.5", "vision_multiplier: 1e-5")
    file.write_text(text.replace("batch_size: 8", "batch_size: 010"), encoding="utf-8")
    with overridden(LIMIT):
        params = load_params()
        assert (params.fusion.vision_multiplier, params.runtime.batch_size) == (1e-5, 10)


def test_it_comes_back_after_an_error(file: Path) -> None:
    with pytest.raises(KeyboardInterrupt), overridden(LIMIT):
        raise KeyboardInterrupt
    assert file.read_text(encoding="utf-8") == ORIGINAL


def test_nothing_to_replace_touches_nothing(file: Path) -> None:
    before = file.stat().st_mtime_ns
    with overridden({}):
        assert not KEPT.exists()
    assert file.stat().st_mtime_ns == before


def test_refused_values_touch_nothing(file: Path) -> None:
    with (
        pytest.raises(ParameterError, match=r"dataset\.limit 0: dataset\.limit: .*not 0"),
        overridden({"dataset.limit": 0}),
    ):
        pass
    assert file.read_text(encoding="utf-8") == ORIGINAL
    assert not KEPT.exists()


def test_the_next_run_puts_it_back_after_a_kill(file: Path) -> None:
    killed("pass")
    assert "dataset.limit 2" in file.read_text(encoding="utf-8")
    assert restore() == "params.yaml is back as it was before a run that did not end"
    assert file.read_text(encoding="utf-8") == ORIGINAL
    assert restore() == ""


def test_a_file_that_was_written_meanwhile_stays(file: Path) -> None:
    killed(f"open('params.yaml', 'w').write({'# new' + ORIGINAL!r})")
    assert "it stays as it is" in restore()
    assert file.read_text(encoding="utf-8") == "# new" + ORIGINAL
    assert not KEPT.exists()


def test_another_run_waits_for_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with overridden(LIMIT):
        text = file.read_text(encoding="utf-8")
        other = psutil.Process(os.getppid())
        own, theirs = (named(one).replace(" ", " of ") for one in (psutil.Process(), other))
        assert f"process {own}:" in text
        file.write_text(text.replace(own, theirs), encoding="utf-8")
        with pytest.raises(ParameterError, match=f"process {other.pid}"):
            restore()
        with monkeypatch.context() as clock:
            set_clock(clock, -3600)
            with pytest.raises(ParameterError, match=f"process {other.pid}"):
                restore()
        # a process of that number that started at another time is another one
        file.write_text(text.replace(own, f"{other.pid} of 12.5"), encoding="utf-8")
        assert "is back" in restore()
    assert file.read_text(encoding="utf-8") == ORIGINAL


def test_whoever_reads_it_keeps_it_after_a_kill(file: Path) -> None:
    """A `fade run` is killed, and its DVC goes on."""
    reader = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    killed(f"pass\n    read_by({reader.pid})")
    with pytest.raises(ParameterError, match=rf"process {reader.pid}\): wait"):
        restore()
    assert load_params().dataset.limit == 2
    reader.communicate(b"\n")
    assert "is back" in restore()
    assert file.read_text(encoding="utf-8") == ORIGINAL


def test_a_link_stays_a_link(file: Path) -> None:
    file.rename("elsewhere.yaml")
    file.symlink_to("elsewhere.yaml")
    with overridden(LIMIT):
        assert load_params().dataset.limit == 2
    assert file.is_symlink()
    assert Path("elsewhere.yaml").read_text(encoding="utf-8") == ORIGINAL


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(overrides).failed == 0


def test_doctor_tells_of_a_file_that_stands_in(file: Path) -> None:
    assert not stands_in()
    with overridden(LIMIT):
        assert stands_in()
        found = {finding.topic: finding for finding in diagnose()}
        assert found["parameters"].level == "warning"
        assert "puts your own back" in found["parameters"].text
    assert not stands_in()
