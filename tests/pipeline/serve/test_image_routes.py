"""Routes of a run's images answer of the trial, the threshold and the images that are asked for."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from starlette.testclient import TestClient

from fade.types import Trial
from pipeline.inference.prediction import NormalPatch, Region
from pipeline.serve.access import Access
from pipeline.serve.app import create_app
from pipeline.serve.models import RunModels
from pipeline.serve.site import RunSite

SHOTS = pytest.mark.parametrize("shots", [1, 2])


@pytest.fixture(scope="module")
def folder(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy whose labels may be changed."""
    return Path(shutil.copytree(finished, tmp_path_factory.mktemp("routes") / "line3"))


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunSite, "load", lambda site: None)
        app = create_app(RunSite(folder), Access("127.0.0.1"))
        with TestClient(app, "http://127.0.0.1:8080") as found:
            yield found


def rows_of(folder: Path, shots: int) -> pd.DataFrame:
    """Test images of a trial with the thresholds that the run has for them, by their number."""
    found = json.loads((folder / "results" / "thresholds.json").read_text())["thresholds"]
    scores = pd.read_parquet(folder / "results" / "scores.parquet")
    own = scores[scores["shots"] == shots].reset_index(drop=True)
    for kind in ("image", "pixel"):
        limits = {one["category"]: one[kind] for one in found if one["shots"] == shots}
        own[kind] = [limits[name] for name in own["category"]]
    return own.assign(bad=own["is_anomaly"].astype(bool))


def counted(rows: pd.DataFrame, limit: float) -> dict[str, int]:
    above, bad = rows["score"] > limit, rows["bad"]
    return {
        "images": len(rows), "called": int(above.sum()), "unlabelled": 0,
        "good": int((~bad).sum()), "false_alarms": int((above & ~bad).sum()),
        "anomalous": int(bad.sum()), "missed": int((~above & bad).sum()),
    }  # fmt: skip


def f1(rows: pd.DataFrame, limit: float) -> float:
    found = counted(rows, limit)
    hits = found["anomalous"] - found["missed"]
    return 2 * hits / (found["anomalous"] + found["called"])


@SHOTS
def test_counts_are_those_of_the_trial(client: TestClient, folder: Path, shots: int) -> None:
    rows = rows_of(folder, shots)
    lines = client.get(f"/categories?shots={shots}").json()
    for line, (name, own) in zip(lines, rows.groupby("category", sort=False), strict=True):
        limit = float(own["image"].iloc[0])
        expected = {"category": name, "threshold": limit, **counted(own, limit)}
        assert {key: line[key] for key in expected} == expected
        found = client.get("/counts", params={"category": str(name), "shots": shots}).json()
        expected["chosen"] = limit
        assert {key: found[key] for key in expected} == expected
        good, bad = (own["score"][own["bad"] == side].to_numpy() for side in (False, True))
        pairs = (bad[:, None] > good) + 0.5 * (bad[:, None] == good)
        assert found["image_auroc"] == pytest.approx(pairs.mean())
        bars = found["histogram"]
        assert (bars["low"], bars["high"]) == (own["score"].min(), own["score"].max())
        assert f1(own, found["best"]) == max(f1(own, limit) for limit in own["score"])


def test_a_category_of_which_no_image_has_a_score_keeps_its_number_of_images(
    client: TestClient, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "line3"))
    scores = copy / "results" / "scores.parquet"
    pd.read_parquet(scores).assign(score=np.nan).to_parquet(scores)
    monkeypatch.setattr(RunSite, "load", lambda site: None)
    app = create_app(RunSite(copy), Access("127.0.0.1"))
    with TestClient(app, "http://127.0.0.1:8080") as other:
        lines = other.get("/categories").json()
        images = other.get("/images").json()["images"]
    assert [(line["images"], line["called"], line["good"]) for line in lines] == [(12, 0, 0)] * 2
    assert {(image["score"], image["decision"]) for image in images} == {(None, None)}


@SHOTS
def test_an_image_is_that_of_the_trial(client: TestClient, folder: Path, shots: int) -> None:
    rows = rows_of(folder, shots)
    for id in (0, 5, len(rows) - 1):
        row = rows.iloc[id]
        for limit in (row["image"], row["score"] - 1e-6, row["score"]):
            asked: dict[str, float] = {"shots": shots}
            if limit != row["image"]:
                asked["threshold"] = float(limit)
            found = client.get(f"/images/{id}", params=asked).json()
            decision = "anomalous" if row["score"] > limit else "normal"
            assert (found["path"], found["score"]) == (row["path"], row["score"])
            assert (found["threshold"], found["decision"]) == (limit, decision)
            assert found["pixel_threshold"] == row["pixel"]
    assert client.get(f"/images/{len(rows)}").status_code == 404


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"defect": "hole"}, "defect == 'hole'"),
        ({"category": "plate", "label": "good"}, "category == 'plate' and not bad"),
        ({"decision": "normal", "text": "/hole/"}, "score <= image and defect == 'hole'"),
        ({"disagreement": True}, "(score > image) != bad"),
        ({"category": "weave", "threshold": 0.0, "decision": "anomalous"}, "category == 'weave'"),
    ],
)  # fmt: skip
def test_filters_reach_the_images(
    client: TestClient, folder: Path, asked: dict[str, Any], expected: str
) -> None:
    rows = rows_of(folder, 1)
    wanted = rows.query(expected).index.tolist()
    assert 0 < len(wanted) < len(rows)
    found: list[int] = []
    while len(found) < len(wanted):
        query: dict[str, Any] = asked | {
            "sort": "order",
            "shots": 1,
            "limit": 3,
            "offset": len(found),
        }
        page = client.get("/images", params=query).json()
        assert (page["total"], len(page["images"])) == (
            len(wanted),
            min(3, len(wanted) - len(found)),
        )
        found += [image["id"] for image in page["images"]]
    assert found == wanted


@SHOTS
def test_a_map_is_that_of_the_trial_and_the_level(
    client: TestClient, folder: Path, shots: int
) -> None:
    def drawn(**asked: Any) -> np.ndarray:
        answer = client.get("/maps/7.png", params={"size": "image", "shots": shots, **asked})
        return np.asarray(Image.open(io.BytesIO(answer.content)))

    snapshot = RunSite(folder).snapshot()
    grey = drawn()
    np.testing.assert_array_equal(grey, snapshot.prediction(7, Trial(shots, 0)).shades())
    other = snapshot.prediction(7, Trial(3 - shots, 0)).shades()
    assert other is not None
    assert (grey != other).any()
    level = int(np.median(grey))
    np.testing.assert_array_equal(drawn(style="mask", level=level), 255 * (grey > level))
    # the overlay marks what is above that level
    assert (drawn(style="overlay", level=level) != drawn(style="overlay", level=255)).any()


def test_a_reason_is_asked_of_the_trial_and_the_level(
    client: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = RunSite(folder).snapshot()
    near = NormalPatch(known.references("plate")[1], 0, 1, 0.5)
    region = Region((0, 0, 9, 9), 4, 99, 0, 0, near, (), ())

    def predictor(models: RunModels, trial: Trial) -> Any:
        def explain(picture: Image.Image, category: str, *, level: int | None) -> Any:
            assert (trial, category, level) == (Trial(1, 0), "plate", 77)
            found = known.prediction(image, trial)
            assert found.levels is not None
            return replace(found, levels=found.levels[:2]), [region]

        return SimpleNamespace(explain=explain)

    monkeypatch.setattr(RunModels, "predictor", predictor)
    rows = rows_of(folder, 1)
    image = int(rows.index[rows["category"] == "plate"][0])
    found = client.get(f"/images/{image}/explanation?shots=1&level=77").json()
    assert found["grid"][0] == 2 < found["grid"][1]
    assert found["score"] == rows["score"][image]
    assert found["regions"][0]["nearest"]["number"] == 1


def test_the_patch_of_a_reference_lies_on_its_grid(client: TestClient) -> None:
    place = "/references/weave/0.webp?rows=4&columns=2"
    assert client.get(f"{place}&row=3&column=1").status_code == 200
    for outside in ("row=4&column=0", "row=0&column=2", "row=1&column=3"):
        assert client.get(f"{place}&{outside}").status_code == 422
    assert client.get(f"{place}&row=3&column=1").content != client.get(place).content


def test_a_browser_keeps_pictures_of_a_named_run_alone(client: TestClient, folder: Path) -> None:
    run = client.get("/run").json()["run"]
    for place in ("/thumbnails/0.webp", "/pictures/0.webp"):
        kept = client.get(place, params={"run": run}).headers["cache-control"]
        assert kept == "private, max-age=3600"
        assert client.get(place).headers["cache-control"] == "no-store"
    for place in ("/maps/0.png", "/images"):
        assert client.get(place).headers["cache-control"] == "no-store"


def test_the_label_that_an_image_has_is_no_correction(client: TestClient, folder: Path) -> None:
    rows = rows_of(folder, 1)
    body = {"run": client.get("/run").json()["run"]}
    for row, label in (
        (rows.index[rows["bad"]][0], "anomalous"),
        (rows.index[~rows["bad"]][0], "good"),
    ):
        found = client.post("/labels", json=body | {"id": int(row), "label": label}).json()
        assert (found["label"], found["corrected"]) == (label, False)
    assert (folder / "labels.csv").read_text() == "path,label\n"
    past = client.post("/labels", json=body | {"id": len(rows), "label": "good"})
    assert past.status_code == 404
