"""The pinned versions are those of pyproject.toml's packages, and nothing but names and versions."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from tests.projects import ROOT


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pinned() -> dict[str, str]:
    text = (ROOT / "requirements" / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == sorted(lines, key=lambda line: line.partition("==")[0])
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][A-Za-z0-9.!]*", line), line
    return dict(line.split("==") for line in lines)


def test_what_we_ask_for_is_pinned_to_a_version_that_fits() -> None:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = content["optional-dependencies"]
    pins, canonical = pinned(), script("constraints").canonical
    chosen = [*extras["cpu"], *extras["dev"], *extras["pipeline"], *extras["edge"]]
    for one in map(Requirement, [*content["dependencies"], *chosen]):
        if one.name == script("constraints").OWN or (one.marker and not one.marker.evaluate()):
            continue
        version = pins.get(canonical(one.name))
        assert version is not None, f"{one.name}: run `make constraints`"
        assert version in one.specifier, f"{one.name}: run `make constraints`"


def test_pins_follow_what_is_needed_in_turn() -> None:
    found = script("constraints").pins([Requirement("pytest"), Requirement("no-such-package")])
    assert {"pytest", "pluggy", "iniconfig"} <= set(found)
    assert "no-such-package" not in found


@pytest.mark.parametrize(
    ("answer", "says", "code"),
    [
        ("", "nothing was checked", 0),
        ('{"dependencies": [{"name": "a", "skip_reason": "unknown"}]}', "nothing was checked", 0),
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', "0 of them", 0),
        (
            '{"dependencies": [{"name": "a", "version": "1", "vulns": '
            '[{"id": "X-1", "fix_versions": []}]}]}',
            "a 1: X-1, fixed in no version yet", 1,
        ),
    ],
)  # fmt: skip
def test_an_audit_says_what_it_looked_up(
    answer: str,
    says: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    audit = script("audit")
    (tmp_path / "answer").write_text(answer)
    read = f"print(open({str(tmp_path / 'answer')!r}).read())"
    monkeypatch.setattr(audit, "COMMAND", ("-c", read))
    assert audit.main() == code
    assert says in capsys.readouterr().out
