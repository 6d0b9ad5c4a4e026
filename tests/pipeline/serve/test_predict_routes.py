"""What is said of new images, by a predictor of a few lines."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from fastapi import Request
from PIL import Image
from starlette.testclient import TestClient

from fade.errors import DataError
from pipeline.inference.pictures import open_picture
from pipeline.inference.prediction import Prediction
from pipeline.serve.access import Access
from pipeline.serve.app import create_app
from pipeline.serve.limits import Limits
from pipeline.serve.predict_routes import _length, region_answers
from pipeline.serve.site import Site

LEVELS = np.array([[0, 9, 0, 0], [0, 0, 0, 7]], np.uint8)
FOUND = Prediction("", "nut", 0.4, 0.5, "normal", LEVELS, 5, "given", 0, "", (40, 20))


class Stub(Site):
    """Calls all images normal, or fails with what is given."""

    name = "stub"

    def __init__(self, error: str = "", wait: Callable[[], object] = bool) -> None:
        self.asked: list[tuple[int, int]] = []

        def predict(pictures: list[Image.Image], category: str) -> list[Prediction]:
            _, picture = open_picture(pictures[0], 0, exif_rotation=True)
            self.asked.append(picture.size)
            wait()
            if error:
                raise DataError(error)
            return [replace(FOUND, size=picture.size)]

        threshold, mode = SimpleNamespace(pixel=5), SimpleNamespace(segmentation_mode="both")
        params = SimpleNamespace(dataset=SimpleNamespace(exif_rotation=True), fusion=mode)
        self.predictor = SimpleNamespace(
            params=params, thresholds={"nut": threshold}, categories=("nut",), predict=predict
        )

    def models(self) -> Any:
        return SimpleNamespace(predictor=lambda trial=None: self.predictor)


def client(site: Stub, **limits: Any) -> TestClient:
    return TestClient(
        create_app(site, Access("127.0.0.1"), Limits(**limits)), "http://127.0.0.1:8080"
    )


def photo(turned: int = 1) -> bytes:
    """A JPEG of 40 x 20 pixels, to be turned as EXIF says."""
    about, data = Image.Exif(), io.BytesIO()
    about[0x0112] = turned
    Image.new("RGB", (40, 20)).save(data, "JPEG", exif=about)
    return data.getvalue()


def test_regions_have_the_patches_and_the_level_of_their_own() -> None:
    found = [(one.patches, one.level, one.box) for one in region_answers(FOUND)]
    assert found == [(1, 9, (10, 0, 20, 10)), (1, 7, (30, 10, 40, 20))]
    assert region_answers(replace(FOUND, pixel_threshold=None)) == []


def test_answers_are_counted_by_what_they_say() -> None:
    with client(Stub()) as asked:
        sent = [("images", (name, photo())) for name in "ab"] + [("images", ("c", b"none"))]
        first, _, broken = asked.post("/predict", files=sent).json()["predictions"]
        text = asked.get("/metrics").text
    assert (first["width"], first["height"], first["picture"]) == (40, 20, None)
    assert "not a readable image" in broken["error"]
    assert 'fade_predictions_total{category="nut",decision="normal"} 2' in text
    assert 'fade_predictions_total{category="nut",decision="error"} 1' in text
    assert 'fade_predict_seconds_bucket{le="30.0"} 1' in text
    assert "fade_predict_seconds_count 1" in text
    (seconds,) = (line for line in text.splitlines() if "seconds_sum" in line)
    assert 0 < float(seconds.split()[1]) < 30


def test_a_photo_is_turned_as_the_run_turns_them() -> None:
    site = Stub()
    with client(site) as asked:
        (found,) = asked.post("/predict", files=[("images", ("a.jpg", photo(6)))]).json()[
            "predictions"
        ]
    assert (found["width"], found["height"], site.asked) == (20, 40, [(20, 40)])


def test_an_error_names_the_file_and_not_its_number() -> None:
    with client(Stub(error="image 0 has another aspect ratio")) as asked:
        answer = asked.post("/predict", files=[("images", ("a.jpg", photo()))]).json()
    assert answer["predictions"][0]["error"] == "a.jpg has another aspect ratio"


def test_images_that_nobody_waits_for_are_not_judged() -> None:
    answered = threading.Event()
    site = Stub(wait=lambda: answered.wait(60))
    with client(site, answer_seconds=1) as asked:
        sent = [("images", (name, photo())) for name in "abcdef"]
        assert asked.post("/predict", files=sent).status_code == 503
        answered.set()
        time.sleep(0.2)  # for those that should not be judged
    assert len(site.asked) == 1


@pytest.mark.parametrize(("given", "bytes_"), [("12", 12), ("", 99), ("-1", 99)])
def test_a_request_without_a_length_may_be_of_the_largest(given: str, bytes_: int) -> None:
    request = cast(Request, SimpleNamespace(headers={"content-length": given}))
    assert _length(request, Limits(body_bytes=99)) == bytes_
