"""What is asked of whoever begins: three presets first, and the images that lie in the folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pipeline.config.presets.catalogue import FIRST, PRESETS
from pipeline.config.presets.questions import ask, data_sets


def asked(
    answers: str, home: Path, *, unreachable: str | None = None, everything: bool = False
) -> tuple[str, str]:
    """What a person sees who types these answers, and what comes of them."""

    app = typer.Typer()

    @app.command()
    def command() -> None:
        typer.echo(f"taken: {ask(unreachable, everything=everything, home=home)}")

    done = CliRunner().invoke(app, input=answers)
    assert done.exit_code == 0, done.output
    seen, _, taken = done.output.rpartition("taken: ")
    return seen, taken.strip()


def images(folder: Path) -> Path:
    (folder / "train" / "good").mkdir(parents=True)
    (folder / "train" / "good" / "0.png").write_bytes(b"")
    return folder


def test_three_presets_are_shown_and_all_if_one_asks(tmp_path: Path) -> None:
    seen, taken = asked("\n", tmp_path)
    assert [line.split()[0] for line in seen.splitlines()[:3]] == list(FIRST)
    assert f"({len(PRESETS) - 3} more" in seen
    assert "mvtec-" not in seen
    assert taken == "('demo', None, None)"
    assert all(f"  {name} " in asked("\n", tmp_path, everything=True)[0] for name in PRESETS)
    seen, taken = asked("?\nvisa-zeroshot-language\n\n\n", tmp_path)
    assert all(f"  {name} " in seen for name in PRESETS)
    assert "Error" not in seen
    assert taken == "('visa-zeroshot-language', 'data/visa', 'laion400m_e31')"


def test_who_breaks_off_is_not_told_of_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: object, **options: object) -> str:
        raise typer.Abort

    monkeypatch.setattr(typer, "prompt", broken)
    with pytest.raises(KeyboardInterrupt):  # which commands end with 130 for
        ask(None, everything=False, home=Path())


def test_images_that_are_here_are_offered(tmp_path: Path) -> None:
    images(tmp_path / "parts")
    images(tmp_path / "project" / "x")
    (tmp_path / "project" / "params.yaml").write_text("", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    place = str(tmp_path / "parts")
    assert data_sets(tmp_path) == {place: "folder"}
    seen, taken = asked("\n\n\n", tmp_path)
    assert "images found here" in seen
    assert taken == f"('own-fewshot', {place!r}, 'laion400m_e31')"
    _, taken = asked("\n\n\n", tmp_path, unreachable="no network")
    assert taken == f"('own-offline', {place!r}, None)"
    # a paper's data set has its own layout
    assert asked("visa-fewshot-both\n\n\n", tmp_path)[1].startswith(
        "('visa-fewshot-both', 'data/visa'"
    )
