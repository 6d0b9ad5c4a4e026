"""Fixtures: project folders in which the real stages run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.objectstore import Bucket, open_bucket, s3_server
from tests.projects import GOLDEN, golden_weights

os.environ.setdefault("OMP_NUM_THREADS", "1")
# the same examples each time: a test that fails today must not pass tomorrow
settings.register_profile("fade", derandomize=True, deadline=None)
settings.load_profile("fade")


@pytest.fixture(scope="session")
def golden_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the golden model, as a checkpoint file."""
    return golden_weights(tmp_path_factory.mktemp("weights") / "golden.pt")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Data outside the repository; the test is skipped where there are none."""
    folder = Path(os.environ.get("FADE_TEST_DATA", GOLDEN.parent.parent.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no data at FADE_TEST_DATA ({folder})")
    return folder


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server on loopback."""
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket behind a proxy that can fail; the environment leads there."""
    with open_bucket(s3_endpoint, monkeypatch) as opened:
        yield opened
