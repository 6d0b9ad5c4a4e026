"""Which runs judge new images, alone or together, and what they say of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.errors import ParameterError
from fade.types import Trial
from pipeline.config.load import parse_params
from pipeline.config.schema import Params
from pipeline.inference.judged import batch_line, check_batch, check_new_images
from tests.stages.test_mutual import mutual_params
from tests.stages.test_vision_encoder import vision_params

ALONE, TOGETHER = parse_params(vision_params()), parse_params(mutual_params(Path("here")))
LANGUAGE = parse_params(
    mutual_params(
        Path("here"), fusion__classification_mode="language", fusion__segmentation_mode="language"
    )
)


@pytest.mark.parametrize(
    ("params", "line"),
    [(ALONE, None), (LANGUAGE, None), (TOGETHER, "compared with test images of the run")],
)
def test_what_scores_depend_on_besides_their_image(params: Params, line: str | None) -> None:
    said = batch_line(params, Trial(0, 0), batch=False)
    assert said is None if line is None else line in (said or "")
    together = batch_line(params, Trial(0, 0), batch=True)
    assert "scored against the others that are named here" in (together or "")


def test_runs_that_do_not_score_images_against_each_other() -> None:
    check_batch(TOGETHER, 0)
    for params in (ALONE, LANGUAGE):
        with pytest.raises(ParameterError, match=r"--batch .* leave --batch out"):
            check_batch(params, 0)


def test_scores_of_a_test_set_alone_are_not_those_of_new_images() -> None:
    check_new_images(TOGETHER)
    smooth = parse_params(mutual_params(Path("here"), evaluate__smooth_similar=[1, 2]))
    with pytest.raises(ParameterError, match=r"smooth_similar .* set it to"):
        check_new_images(smooth)
