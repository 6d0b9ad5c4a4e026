"""What is served while the project runs again beside the server."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fade.errors import StoreError
from pipeline.artefacts.catalogue import SCORES
from pipeline.serve import site as sites
from pipeline.serve.site import RunSite


@pytest.fixture
def site(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunSite:
    monkeypatch.setattr(sites, "LOOK_SECONDS", -1.0)
    return RunSite(Path(shutil.copytree(finished, tmp_path / "line3")))


def touch(site: RunSite) -> None:
    """Make the results those of another run, as far as anybody can tell."""
    os.utime(site.folder / SCORES.path, (1, 1))


def test_a_new_run_has_the_labels_and_models_of_its_own(site: RunSite) -> None:
    before, models = site.snapshot(), site.models()
    site.set_label(before, 3, bool(before.index.given[3] == 0))
    assert site.snapshot() is before
    touch(site)
    after = site.snapshot()
    assert after.key != before.key
    assert np.flatnonzero(after.index.labels != after.index.given).tolist() == [3]
    assert site.models() is not models


def test_results_that_could_not_be_opened_are_looked_at_again(site: RunSite) -> None:
    """They need not change meanwhile: the parameters may be those of the run again."""
    params = site.folder / "params.yaml"
    text = params.read_text()
    params.write_text("dataset: [")
    touch(site)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"not whole yet: .*params\.yaml"):
            site.snapshot()
    params.write_text(text)
    assert len(site.snapshot().index) == 24


@pytest.mark.parametrize(
    ("named", "used"),
    [(None, False), ("labels.csv", True), ("./labels.csv", True), ("a.csv", False)],
)
def test_runs_use_the_labels_of_the_file_that_they_name(named: str | None, used: bool) -> None:
    run: Any = SimpleNamespace(params=SimpleNamespace(evaluate=SimpleNamespace(labels=named)))
    assert RunSite.uses_labels(run) is used
