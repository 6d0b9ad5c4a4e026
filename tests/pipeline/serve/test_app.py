"""The HTTP interface over a finished run, in this process: what it answers, and what it refuses."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from fastapi import FastAPI
from fastapi.routing import APIRoute
from PIL import Image
from starlette.testclient import TestClient

from fade.errors import StoreError
from fade.types import Trial
from pipeline.artefacts.labels import read_labels, write_labels
from pipeline.inference.bundle_writing import write_bundle
from pipeline.inference.predictor import Predictor
from pipeline.inference.run import FinishedRun
from pipeline.report.policy import content_policy, page_part, script_digest
from pipeline.serve import site as sites
from pipeline.serve.access import Access
from pipeline.serve.app import create_app
from pipeline.serve.limits import Limits
from pipeline.serve.site import BundleSite, RunSite
from tests.projects import GOLDEN, changed, run_stages

HERE = "http://127.0.0.1:8080"
LIMITS = Limits(body_bytes=200_000, held_bytes=400_000, images=4, pixels=1_000_000, waiting=4)
GOOD = GOLDEN / "images" / "weave" / "test" / "good" / "000.png"
TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def folder(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy whose labels may be changed."""
    copy = tmp_path_factory.mktemp("app") / "line3"
    shutil.copytree(finished, copy)
    return copy


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    with TestClient(create_app(RunSite(folder), Access("127.0.0.1"), LIMITS), HERE) as found:
        yield found


@pytest.fixture(scope="module")
def scores(folder: Path) -> pd.DataFrame:
    table = pd.read_parquet(folder / "results" / "scores.parquet")
    return table[table["shots"] == 2].reset_index(drop=True)


def png(width: int, height: int) -> bytes:
    """The head of a PNG that says to have so many pixels, and next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def files(*contents: bytes | Path) -> list[tuple[str, tuple[str, bytes]]]:
    return [
        ("images", (f"{n}.png", content.read_bytes() if isinstance(content, Path) else content))
        for n, content in enumerate(contents)
    ]


def test_lists_are_those_of_the_scores(client: TestClient, scores: pd.DataFrame) -> None:
    about = client.get("/run").json()
    assert (about["name"], about["images"], about["trial"]) == (
        "line3",
        len(scores),
        {"shots": 2, "seed": 0},
    )
    assert about["categories"] == ["weave", "plate"]
    page = client.get("/images", params={"limit": 3, "offset": 2}).json()
    expected = scores.sort_values("score", ascending=False, kind="stable").iloc[2:5]
    assert page["total"] == len(scores)
    assert [image["path"] for image in page["images"]] == expected["path"].tolist()
    assert [image["score"] for image in page["images"]] == expected["score"].tolist()
    one = client.get(f"/images/{page['images'][0]['id']}", params={"run": page["run"]}).json()
    assert (one["width"], one["height"], one["has_map"]) == (128, 128, True)
    first = client.get("/images", params={"shots": 1, "sort": "order"}).json()["images"][0]
    assert first["path"] == scores["path"][0]
    assert first["score"] != scores["score"][0]


def test_a_threshold_judges_again(client: TestClient, scores: pd.DataFrame) -> None:
    own = scores[scores["category"] == "weave"]
    middle = float(own["score"].median())
    asked: dict[str, str | float] = {"category": "weave", "threshold": middle}
    found = client.get("/counts", params=asked).json()
    bad = own["is_anomaly"]
    assert found["called"] == (own["score"] > middle).sum()
    assert found["missed"] == (own["score"][bad] <= middle).sum()
    page = client.get("/images", params=asked | {"decision": "anomalous"}).json()
    assert page["total"] == found["called"]
    assert {image["decision"] for image in page["images"]} == {"anomalous"}
    lines = client.get("/categories").json()
    assert [line["category"] for line in lines] == ["weave", "plate"]
    assert (
        lines[0]["threshold"]
        == client.get("/counts", params={"category": "weave"}).json()["threshold"]
    )


def test_pictures_and_maps(client: TestClient, folder: Path, scores: pd.DataFrame) -> None:
    import zarr

    row = int(scores["score"].to_numpy().argmax())
    about = client.get(f"/images/{row}").json()
    size = about["width"], about["height"]
    small = Image.open(io.BytesIO(client.get(f"/thumbnails/{row}.webp").content))
    assert (small.format, small.size) == ("WEBP", size)
    grey = np.asarray(Image.open(io.BytesIO(client.get(f"/maps/{row}.png?size=image").content)))
    maps: Any = zarr.open_group(folder / "results" / "maps.zarr", mode="r")
    assert grey.shape == size[::-1]
    assert abs(int(grey.max()) - int(np.asarray(maps["shots2_seed0"][row]).max())) < 40
    drawn = client.get(f"/maps/{row}.png?style=mask&size=image")
    mask = np.asarray(Image.open(io.BytesIO(drawn.content)))
    assert ((mask > 0) == (grey > about["pixel_threshold"])).all()
    overlay = client.get(f"/maps/{row}.png?style=overlay")
    shown = Image.open(io.BytesIO(overlay.content))
    assert (shown.mode, max(shown.size)) == ("RGB", 640)
    assert client.get(f"/pictures/{row}.webp").headers["content-type"] == "image/webp"
    reference = client.get("/references/weave/0.webp?rows=4&columns=4&row=1&column=2")
    assert reference.headers["content-type"] == "image/webp"
    assert client.get("/references/weave/0.webp?row=9&column=9").status_code == 422
    assert client.get("/references/weave/99.webp").status_code == 422


def test_decisions_are_those_of_the_predictor(client: TestClient, folder: Path) -> None:
    (expected,) = Predictor.from_run(folder).predict([GOOD], "weave")
    answer = client.post(
        "/predict?category=weave&pictures=true", files=files(GOOD, b"no image", GOOD)
    )
    first, broken, _ = answer.json()["predictions"]
    assert first["image"] == "0.png"
    assert first["score"] == pytest.approx(expected.score, abs=1e-6)
    assert (first["decision"], first["threshold"]) == (expected.decision, expected.threshold)
    assert first["overlay"].startswith("data:image/webp;base64,")
    assert "not a readable image" in broken["error"]
    assert broken["decision"] is None
    explained = client.post(
        "/predict?category=weave&explain=true&shots=1", files=files(GOOD)
    ).json()
    assert explained["predictions"][0]["shots"] == 1


def test_an_explanation_names_a_reference(client: TestClient, scores: pd.DataFrame) -> None:
    row = int(scores["score"].to_numpy().argmax())
    found = client.get(f"/images/{row}/explanation").json()
    assert found["score"] == pytest.approx(scores["score"][row], abs=1e-5)
    near = found["regions"][0]["nearest"]
    category = scores["category"][row]
    assert near["reference"].startswith(f"{category}/train/good/")
    assert client.get(f"/references/{category}/{near['number']}.webp").status_code == 200
    assert found["regions"][0]["abnormal_prompts"]


def test_labels_are_kept_counted_and_taken_back(client: TestClient, folder: Path) -> None:
    page = client.get("/images", params={"category": "weave", "label": "good"}).json()
    image, run = page["images"][0], page["run"]
    before = client.get("/counts?category=weave").json()
    body = {"id": image["id"], "run": run, "label": "anomalous"}
    assert client.post("/labels", json=body).json() == {
        "id": image["id"],
        "label": "anomalous",
        "corrected": True,
    }
    assert read_labels(folder / "labels.csv") == {image["path"]: True}
    after = client.get("/counts?category=weave").json()
    assert (after["good"], after["anomalous"]) == (before["good"] - 1, before["anomalous"] + 1)
    assert client.get("/images?label=corrected").json()["total"] == 1
    (folder / "labels.csv").write_text("path,label\n")  # edited beside
    assert client.get("/images?label=corrected").json()["total"] == 0
    client.post("/labels", json=body)
    assert client.post("/labels", json=body | {"label": None}).json()["corrected"] is False
    assert read_labels(folder / "labels.csv") == {}
    assert client.post("/labels", json=body | {"run": "other"}).status_code == 409
    assert client.post("/labels", json=body | {"label": "odd"}).status_code == 422
    assert client.post("/labels", json=body | {"id": 10**9}).status_code == 404
    broken = client.post("/labels", content="{", headers={"Content-Type": "application/json"})
    assert broken.json()["error"].startswith("the request: is no JSON (")


@pytest.mark.parametrize("id", [-1, True, "0", 10**30])
def test_a_label_goes_to_no_image_that_was_not_named(
    client: TestClient, folder: Path, id: Any
) -> None:
    body = {"id": id, "run": client.get("/run").json()["run"], "label": "anomalous"}
    assert client.post("/labels", json=body).status_code in (404, 422)
    assert read_labels(folder / "labels.csv") == {}


def test_a_head_is_that_of_the_answer(client: TestClient) -> None:
    for path in ("/health", "/images", "/page/style.css", "/nothing"):
        whole, head = client.get(path), client.head(path)
        assert (head.status_code, dict(head.headers)) == (whole.status_code, dict(whole.headers))


def test_a_label_that_another_page_corrected_is_not_replaced_unseen(
    client: TestClient, folder: Path
) -> None:
    image = client.get("/images?category=weave&label=good").json()["images"][0]
    run = client.get("/run").json()["run"]
    body = {"id": image["id"], "run": run, "label": "anomalous", "shown": "good"}
    assert client.post("/labels", json=body).json()["corrected"]
    for label in ("good", "anomalous", None):
        refused = client.post("/labels", json=body | {"label": label})
        assert refused.status_code == 409
        assert refused.json()["error"].startswith("its label is anomalous now, by another page")
    assert read_labels(folder / "labels.csv") == {image["path"]: True}
    write_labels({}, folder / "labels.csv")  # another server takes it back
    assert client.post("/labels", json=body | {"shown": "anomalous"}).status_code == 409
    assert client.get(f"/images/{image['id']}").json()["label"] == "good"
    assert client.post("/labels", json=body).json()["corrected"]
    taken = client.post("/labels", json=body | {"label": None, "shown": "anomalous"}).json()
    assert taken["corrected"] is False


def test_labels_of_another_server_are_taken_in_beside_ones_own(folder: Path) -> None:
    """It writes after a request has looked at the file, and before its own label is kept."""
    first, second = RunSite(folder), RunSite(folder)
    seen, other = first.snapshot(), second.snapshot()
    second.set_label(other, 1, bool(other.index.given[1] == 0))
    first.set_label(seen, 0, bool(seen.index.given[0] == 0))
    for site in (first, second):
        index = site.snapshot().index
        assert np.flatnonzero(index.labels != index.given).tolist() == [0, 1]
    for row in (0, 1):
        first.set_label(first.snapshot(), row, None)
    assert read_labels(folder / "labels.csv") == {}


def test_numbers_of_another_run_are_refused(client: TestClient) -> None:
    for path in ("/categories", "/counts"):
        assert client.get(path, params={"category": "weave"}).status_code == 200
        refused = client.get(path, params={"category": "weave", "run": "other"})
        assert (refused.status_code, refused.json()["error"][:21]) == (409, "the project ran again")


def test_routes_are_prepared_before_the_first_request(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FastAPI puts off those of a router that is included, and the first page is late by that."""
    made: list[FastAPI] = []

    def noted(**about: Any) -> FastAPI:
        made.append(FastAPI(**about))
        return made[0]

    monkeypatch.setattr("pipeline.serve.app.FastAPI", noted)
    create_app(RunSite(folder), Access("127.0.0.1"))
    paths = {route.path for route in made[0].routes if isinstance(route, APIRoute)}
    assert {"/", "/run", "/images"} <= paths


def test_labels_that_the_run_used_can_be_taken_back(finished: Path, tmp_path: Path) -> None:
    """The scores have them then: what the data set says is looked up in the manifest."""
    folder = Path(shutil.copytree(finished, tmp_path / "line3"))
    params = yaml.safe_load((folder / "params.yaml").read_text())
    write_labels({"weave/test/good/000.png": True}, folder / "labels.csv")
    run_stages(folder, changed(params, evaluate__labels="labels.csv"), "evaluate")
    with TestClient(create_app(RunSite(folder), Access("127.0.0.1"), LIMITS), HERE) as client:
        about = client.get("/run").json()
        assert (about["labels_used"], about["corrected"]) == (True, 1)
        (image,) = client.get("/images?label=corrected").json()["images"]
        assert (image["label"], image["defect"]) == ("anomalous", "corrected")
        body = {"id": image["id"], "run": about["run"], "label": "anomalous"}
        assert client.post("/labels", json=body).json()["corrected"] is True
        assert read_labels(folder / "labels.csv") == {image["path"]: True}
        taken = client.post("/labels", json=body | {"label": None}).json()
        assert (taken["label"], taken["corrected"]) == ("good", False)


def test_health_counters_and_description(client: TestClient) -> None:
    assert client.get("/health").json()["status"] == "ok"
    lines = client.get("/metrics").text.splitlines()
    assert any(line.startswith('fade_requests_total{method="GET",route="/images') for line in lines)
    assert all(len(line.rsplit(" ", 1)) == 2 for line in lines if not line.startswith("#"))
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/predict", "/images", "/images/{id}", "/maps/{id}.png", "/health", "/metrics"} <= set(
        paths
    )
    for page in ("/", "/docs", "/page/app.js", "/page/style.css"):
        answer = client.get(page)
        assert answer.status_code == 200
        assert "://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "innerHTML" not in answer.text
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/../../etc/passwd", 404), ("/page/..%2f..%2fapp.py", 404), ("/page/%2e%2e/site.py", 404),
        ("/page/app.py", 404), ("/thumbnails/..%2f..%2fparams.yaml", 404), ("/thumbnails/-1.webp", 422),
        ("/maps/0.png?style=../x", 422), ("/maps/1e9.png", 422), ("/images/99999999999999999999999", 404),
        ("/images?limit=100000", 422), ("/images?offset=-1", 422),
        ("/images?threshold=nan&category=weave", 422),
        ("/images?category=/etc/passwd", 400), ("/counts?category=none", 400), ("/images?shots=7", 400),
        ("/references/..%2f..%2f/0.webp", 404), ("/references/nothing/0.webp", 422),
        ("/images?run=other", 409),
        ("/images?threshold=0.5", 400), ("/images?text=%00%ff", 200),
    ],
)  # fmt: skip
def test_odd_addresses_get_a_line(client: TestClient, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    if status != 200:
        assert list(answer.json()) == ["error"]
        assert "\n" not in answer.json()["error"]
        assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.test"}, 403), ({"host": "127.0.0.1.evil.test:8080"}, 403), ({"host": ""}, 403),
        ({"origin": "http://evil.test"}, 403), ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403), ({"origin": HERE}, 422), ({"host": "localhost:9"}, 422),
    ],
)  # fmt: skip
def test_other_servers_pages_are_kept_out(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    assert client.post("/labels", json={}, headers=headers).status_code == status


def test_uploads_are_bounded(client: TestClient) -> None:
    def judged(*contents: bytes) -> Any:
        return client.post("/predict?category=weave", files=files(*contents))

    assert judged(b"x" * 300_000).status_code == 413
    chunks = client.post(
        "/predict?category=weave", content=(b"x" * 50_000 for _ in range(10)),
        headers={"content-type": "multipart/form-data; boundary=b"},
    )  # fmt: skip
    assert chunks.status_code == 413
    assert judged(*[b"a"] * 5).status_code == 400  # too many files
    for bomb in (png(2000, 1000), png(60_000, 60_000)):
        (found,) = judged(bomb).json()["predictions"]
        assert "pixels" in found["error"]
    (empty,) = judged(b"").json()["predictions"]
    assert "empty" in empty["error"]
    assert client.post("/predict", content=b"x").status_code == 415
    odd = {"content-type": "multipart/form-data; boundary=b"}
    assert client.post("/predict", content=b"--b\r\nnothing", headers=odd).status_code == 400
    assert (
        client.post(
            "/predict", content=b"", headers={"content-type": "multipart/form-data"}
        ).status_code
        == 400
    )
    assert client.post("/predict", files=files(GOOD)).status_code == 400  # of which category?
    assert client.post("/predict?category=wood", files=files(GOOD)).status_code == 400
    assert client.delete("/run").status_code == 405


def test_a_name_leads_nowhere(client: TestClient) -> None:
    sent = [("images", ("../../etc/\x1b[2J<b>.png", GOOD.read_bytes()))]
    (found,) = client.post("/predict?category=weave", files=sent).json()["predictions"]
    assert "/" not in found["image"]
    assert "\x1b" not in found["image"]


def test_32_clients_at_once_get_a_decision_or_are_told_to_come_again(client: TestClient) -> None:
    def ask(number: int) -> tuple[int, Any]:
        answer = client.post("/predict?category=weave", files=files(GOOD))
        return answer.status_code, answer.headers.get("retry-after")

    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(ask, range(32)))
    assert {status for status, _ in found} <= {200, 503}
    assert any(status == 200 for status, _ in found)
    assert all(int(after) >= 1 for status, after in found if status == 503)
    assert client.post("/predict?category=weave", files=files(GOOD)).status_code == 200
    assert client.get("/metrics").text.count("fade_predict_waiting 0") == 1


def test_what_takes_too_long_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(RunSite, "load", lambda site: release.wait(20))
    app = create_app(RunSite(folder), Access("127.0.0.1"), Limits(answer_seconds=0.2))
    with TestClient(app, HERE) as slow:
        answer = slow.post("/predict?category=weave", files=files(GOOD))
        release.set()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_a_token_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunSite, "load", lambda site: None)
    with TestClient(create_app(RunSite(folder), Access("0.0.0.0", TOKEN)), HERE) as guarded:
        assert guarded.get("/health").status_code == 200
        assert guarded.get("/images").status_code == 401
        assert guarded.get("/metrics").status_code == 401
        assert (
            guarded.get("/images", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
        )
        to_login = guarded.get("/", headers={"accept": "text/html"}, follow_redirects=False)
        assert (to_login.status_code, to_login.headers["location"]) == (303, "/login")
        wrong = guarded.post("/login", data={"token": "x"}, follow_redirects=False)
        assert wrong.headers["location"] == "/login?wrong"
        assert guarded.get("/images").status_code == 401
        right = guarded.post("/login", data={"token": TOKEN}, follow_redirects=False)
        cookie = right.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert TOKEN not in cookie
        assert guarded.get("/images").status_code == 200


def test_what_is_unexpected_is_said_without_its_insides(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(site: RunSite) -> None:
        raise RuntimeError("secret\ninsides")

    monkeypatch.setattr(RunSite, "snapshot", fail)
    answer = client.get("/images")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "unexpected RuntimeError: secret insides" in caplog.text


def test_a_bundle_judges_and_has_no_images(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "line3.fade"
    write_bundle(FinishedRun(folder), path, with_weights=True)
    site = BundleSite(path)
    with TestClient(create_app(site, Access("127.0.0.1"), LIMITS), HERE) as client:
        about = client.get("/run").json()
        assert (about["has_images"], about["categories"]) == (False, ["weave", "plate"])
        assert client.get("/images").status_code == 404
        answer = client.post("/predict?category=weave", files=files(GOOD)).json()
        assert answer["predictions"][0]["score"] is not None
        for other in (
            "shots=1",
            "seed=7",
        ):  # it would be judged by another trial than was asked for
            refused = client.post(f"/predict?category=weave&{other}", files=files(GOOD))
            assert (refused.status_code, "one trial" in refused.json()["error"]) == (400, True)
        predictor = site.models().predictor()
        known = predictor.thresholds["weave"]
        predictor.thresholds["weave"] = replace(known, image=2.0, pixel=None)
        answer = client.post("/predict?category=weave&explain=true", files=files(GOOD)).json()
        (found,) = answer["predictions"]
        assert (found["error"], found["decision"], found["threshold"]) == (None, "normal", 2.0)


def test_a_run_that_goes_on_is_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Last: it changes the folder."""
    monkeypatch.setattr(sites, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(RunSite, "load", lambda site: None)
    scores, aside = folder / "results" / "scores.parquet", folder / "aside"
    with TestClient(create_app(RunSite(folder), Access("127.0.0.1")), HERE) as client:
        before = client.get("/run").json()["run"]
        os.rename(scores, aside)
        answer = client.get("/images")
        assert answer.status_code == 409
        assert "not whole yet" in answer.json()["error"]
        assert client.get("/health").status_code == 200
        shutil.copy(aside, scores)  # as another run would
        time.sleep(0.01)
        after = client.get("/run").json()["run"]
        assert after != before
        refused = client.get("/images", params={"run": before})
        assert (refused.status_code, "load the page again" in refused.text) == (409, True)
    assert json.loads((folder / "results" / "thresholds.json").read_text())["thresholds"]
    assert Trial(2, 0) in RunSite(folder).snapshot().index.scores


def test_originals_are_those_of_the_run_alone(client: TestClient, scores: pd.DataFrame) -> None:
    path = str(scores["path"][0])
    found = client.get("/originals.png", params={"path": path})
    served = Image.open(io.BytesIO(found.content))
    original = Image.open(GOLDEN / "images" / path).convert("RGB")
    assert served.format == "PNG"
    np.testing.assert_array_equal(np.asarray(served), np.asarray(original))
    reference = next((GOLDEN / "images").glob("*/train/good/*"))
    others = (f"../images/{path}", f"./{path}", str(GOLDEN / "images" / path), "/etc/passwd", "",
              reference.relative_to(GOLDEN / "images").as_posix(), path + "\0")  # fmt: skip
    assert {client.get("/originals.png", params={"path": p}).status_code for p in others} == {404}


def test_the_report_is_served_with_this_versions_script_alone(
    client: TestClient, folder: Path
) -> None:
    missing = client.get("/report")
    assert missing.status_code == 409
    assert missing.json()["error"].endswith("index.html is missing: run `fade run`")
    path, script = folder / "results/report/index.html", page_part("page/page.js")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<script>{script}</script><p>{script_digest(script)}</p>", encoding="utf-8")
    found = client.get("/report")
    assert found.content == path.read_bytes()
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    assert found.headers["content-security-policy"] == content_policy(script)
    assert found.headers["cache-control"] == "no-cache"
    other = script + "alert(1)"
    path.write_text(f"<script>{other}</script><p>{script_digest(other)}</p>", encoding="utf-8")
    assert client.get("/report").json()["error"].endswith("by another version: run `fade run`")


def test_no_trial_is_made_of_other_results_than_were_opened(finished: Path, tmp_path: Path) -> None:
    """A request may wait while the project runs again: its model may be another one by then."""
    shutil.copytree(finished, tmp_path / "line")
    models = RunSite(tmp_path / "line").models()
    opened = models.predictor(Trial(2, 0))
    os.utime(tmp_path / "line" / "results" / "scores.parquet", (1, 1))
    with pytest.raises(StoreError, match="send it again"):
        models.predictor(Trial(1, 0))
    assert models.predictor(Trial(2, 0)) is opened  # as it was
