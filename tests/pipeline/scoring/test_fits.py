"""Subspaces as workers fit and store them, against those of all patches at once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cache.layout import Space
from cache.store import Store
from fade.rules.subspace import fit_subspace
from fade.types import Feature
from fade.views import View
from pipeline.config.load import parse_params
from pipeline.scoring.before import RowIndex
from pipeline.scoring.fits import Fit, FitStep, FitTask, fit_images, fit_space, open_fit
from pipeline.scoring.subspace import SubspacePlan
from pipeline.scoring.views import FeatureView, view_plan
from tests.stages.test_vision_encoder import vision_params

DIM, PATCHES = 6, 4
FEATURE = Feature(96, "vision", "patch", (0,))
VIEW = FeatureView(View(96, (0,), unit=False), (FEATURE,), "96")


def stored(store: Store, images: int, seed: int, *scales: float) -> tuple[Any, np.ndarray]:
    """Patches of images in the store, for each transform, and the patches of all of them."""
    drawn = np.random.default_rng(seed).standard_normal((len(scales), images, PATCHES, DIM))
    patches = (drawn * np.arange(1, DIM + 1) * np.reshape(scales, (-1, 1, 1, 1))).astype("float32")
    found = []
    for scale, rows in zip(scales, patches, strict=True):
        space = Space(FEATURE.label, {"of": [seed, scale]}, (PATCHES, DIM), "float32")
        store.register(space)
        keys = [f"{seed}-{number}" for number in range(images)]
        found.append(((space, store.write(space, keys, rows)),))
    return tuple(found), patches.reshape(-1, DIM)


@pytest.mark.parametrize(("components", "used"), [(2, 2), (None, 3), (9, 6)])
def test_all_images_and_transforms_have_a_part(
    components: int | None, used: int, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    references, first = stored(store, 11, 0, 1.0, 3.0)
    batch, second = stored(store, 9, 1, 0.5)
    output = Space("fit", {}, (DIM + 1, DIM), "float32")
    store.register(output)
    task = FitTask(store.root, output, "nut", VIEW, "digest", (references, batch), 0.85, components)
    assert fit_images(task) == 1
    found = open_fit(store.root, output, store.index(output)["digest"])
    share = 0.85 if components is None else None
    plain = fit_subspace([first, second], share=share, components=components)
    assert found.components.shape == plain.components.shape == (used, DIM)
    np.testing.assert_allclose(found.mean, plain.mean, atol=1e-5)
    np.testing.assert_allclose(found.residual(second), plain.residual(second), atol=1e-3)


def test_each_view_is_compared_with_its_own_subspaces(tmp_path: Path) -> None:
    """Points without a direction: residuals are squared distances to them."""
    store = Store(tmp_path)
    spaces = tuple(Space(f"fit{n}", {"n": n}, (2, 1), "float32") for n in (0, 1))
    for number, space in enumerate(spaces):
        store.register(space)
        points = np.array([[[n + 10 * number], [0]] for n in (0, 1, 2)], np.float32)
        store.write(space, ["a", "b", "c"], points)
    output, read = (
        Space(name, {"grid": [1, 2]}, shape, "float32")
        for name, shape in (("map", (1, 2)), (FEATURE.label, (2, 1)))
    )
    plan = SubspacePlan(output, (), (), (), "nut", (VIEW, VIEW), spaces, RowIndex(store))
    scorer = plan.scorer(("one", "two"), ("c", "a"))
    images = np.array([[[1], [4]], [[2], [-3]]], np.float32)
    found = scorer.rows(output, [read], [images])
    expected = [
        [[((x - point) ** 2 + (x - point - 10) ** 2) / 2 for x in image.ravel()]]
        for image in images
        for point in (2, 0)
    ]
    np.testing.assert_allclose(found, expected)


def address(stored: str = "one", **leaves: Any) -> Space:
    given = {f"vision__{name}": value for name, value in leaves.items()}
    params = parse_params(vision_params(vision__rule="subspace", vision__layers=[0], **given))
    (view,) = view_plan(params)
    space = Space(view.features[0].label, {"of": stored}, (16, 4), "float32")
    return fit_space(view, [space], params)


def test_what_changes_a_subspace_changes_its_address() -> None:
    """Rows of all of them have one shape, with a place for each component that there can be."""
    found = [
        address(), address("other"), address(variance=0.5), address(variance=1.0),
        address(components=2), address(components=3), address(pooling=[3]),
    ]  # fmt: skip
    assert {one.shape for one in found} == {(5, 4)}
    assert len({one.fingerprint for one in found}) == len(found)
    assert address(components=2, variance=0.5).fingerprint == found[4].fingerprint


def test_subspaces_with_more_directions_than_their_patches_have_lie_elsewhere() -> None:
    """An older version kept such ones where a number was asked for, or the whole variance."""
    assert "rank" not in address().description
    for leaves in ({"variance": 1.0}, {"components": 2}, {"components": 2, "variance": 1.0}):
        assert "rank" in address(**leaves).description


def test_a_task_for_each_subspace_that_is_lacking() -> None:
    params = parse_params(
        vision_params(
            vision__rule="subspace", vision__transforms="none", vision__layers=[0],
            vision__transform_overrides={"pin": "flips"}, vision__components=5,
        )
    )  # fmt: skip
    (view,) = view_plan(params)
    fits = {
        "nut": [Fit("d1", ("a", "b"), ()), Fit("d2", (), ("s",)), Fit("d1", ("a", "b"), ())],
        "pin": [Fit("d3", ("c",), ("t",)), Fit("d4", ("d",), ())],
    }

    def receipt(name: str, spaces: dict[str, Any]) -> Any:
        def located(store: Store, label: str) -> Any:
            found = SimpleNamespace(
                locations=lambda keys: SimpleNamespace(narrowed=lambda: (name, *keys))
            )
            found.check = lambda: found
            return found

        return SimpleNamespace(
            spaces=spaces, located=located,
            space=lambda label: Space(label, {"of": label}, (16, 4), "float32"),
        )  # fmt: skip

    spaces = (Space(view.features[0].label, {}, (16, 4), "float32"),)
    lacking = (frozenset({"d1", "d2", "d3"}),)
    step = FitStep(
        params, (view,), spaces, fits, lacking, receipt("reference", {"x": 1}), receipt("test", {})
    )
    store: Any = SimpleNamespace(root="root")
    found = [
        (task.name, task.digest, [[of[0][1] for of in part] for part in task.images])
        for task in step.tasks(store)
    ]
    assert found == [
        ("nut", "d1", [[("reference", "a", "b")]]),
        ("nut", "d2", [[("test", "s")]]),
        ("pin", "d3", [[("reference", "c")] * 3, [("test", "t")]]),
    ]
    copies = [of[0][0].label for task in step.tasks(store) for of in task.images[0]]
    assert len(set(copies[2:])) == 3  # each from features of its own
    assert {(task.variance, task.components) for task in step.tasks(store)} == {
        (params.vision.variance, 5)
    }
    assert list(step.counts().values()) == [3]
    (kept,) = step.kept().values()
    assert list(kept) == ["d1", "d2", "d3", "d4"]
