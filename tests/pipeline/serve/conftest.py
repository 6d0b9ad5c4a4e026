"""A finished run to serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.projects import changed, golden_params, run_stages


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory, golden_checkpoint: Path) -> Path:
    """The folder of a finished run: two categories, two trials."""
    params = changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        features__segmentation_sizes=[96],
        features__dtype="float16",
        vision__shots=[1, 2],
        threshold__images=2,
        evaluate__size=64,
        dataset__limit=4,
    )
    return run_stages(tmp_path_factory.mktemp("serve") / "line3", params)
