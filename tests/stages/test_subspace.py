"""Subspaces through the stages; numbers of the official code are in the golden tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cache.store import Store
from fade.rules.subspace import fit_subspace
from pipeline.artefacts.catalogue import REFERENCES, TEST, VISION
from pipeline.artefacts.receipts import Receipt, read_receipt
from pipeline.config.load import parse_params
from pipeline.inference.predictor import Predictor
from pipeline.scoring.components import component_key
from pipeline.scoring.views import view_plan
from tests.projects import GOLDEN, STAGES, run_stages
from tests.stages.test_vision_encoder import vision_params


def test_a_held_out_reference_is_compared_with_a_subspace_of_the_others(tmp_path: Path) -> None:
    leaves = vision_params(
        vision__rule="subspace", vision__components=5, vision__transforms="none",
        vision__unit=False, vision__shots=[8], threshold__images=2,
    )  # fmt: skip
    run_stages(tmp_path, leaves, *STAGES[:9])
    params = parse_params(leaves, "test")
    (view,) = view_plan(params)
    store = Store(tmp_path / ".fade" / "store")
    tests, vision = read_receipt(TEST, tmp_path), read_receipt(VISION, tmp_path)
    references = read_receipt(REFERENCES, tmp_path)
    held_out = vision.compared_with["held-out"]["plate"]["shots8_seed0"]
    selection = pd.read_parquet(tmp_path / "artefacts/selection.parquet")
    taken = selection[selection["category"] == "plate"]["hash"].tolist()
    assert len(held_out) == 2
    assert set(held_out) < set(taken)

    def patches(receipt: Receipt, keys: list[str]) -> np.ndarray:
        spaces = [receipt.space(feature.label) for feature in params.vision_features()]
        places = [receipt.locate(store, space.label, keys) for space in spaces]
        rows = [
            store.read(space, list(found.values()))
            for space, found in zip(spaces, places, strict=True)
        ]
        return view.vectors(spaces, rows)

    for key, digest in held_out.items():
        others = patches(references, sorted(other for other in taken if other != key))
        plain = fit_subspace(list(others), components=5).residual(patches(tests, [key])[0])
        (place,) = vision.locate(store, "vision-map", [component_key(key, digest)]).values()
        found = store.read(vision.space("vision-map"), [place])[0].reshape(-1)
        np.testing.assert_allclose(found, plain, rtol=1e-4)
    label = f"subspace-{view.label}"
    assert len(vision.rows[label]) == 2 * (1 + 2)  # what new images need is in the receipt

    manifest = pd.read_parquet(tmp_path / "artefacts/manifest.parquet").query("category == 'plate'")
    image = manifest[manifest["split"] == "test"].iloc[0]
    predictor = Predictor.from_run(tmp_path)
    told = predictor.explain(GOLDEN / "images" / image["path"], "plate", level=0)[1][0].compared
    whole = fit_subspace(list(patches(references, sorted(taken))), components=5)
    residuals = whole.residual(patches(tests, [image["hash"]])[0])
    assert told is not None
    assert told.measure.startswith("residual")
    assert np.isclose(residuals, told.distance, rtol=1e-4).any()
