"""What the manifest says of an image, whether it is short or long."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import pipeline.artefacts.tables as tables
import pipeline.dataset.listed as listed
from fade.errors import StoreError
from pipeline.artefacts.catalogue import MANIFEST
from pipeline.artefacts.tables import write_table
from pipeline.dataset.listed import ListedImages

ROWS = pd.DataFrame(
    {
        "path": ["b.png", "a.png", "c/ä.png"],
        "hash": ["1", "2", "3"],
        "mask": [None, "m.png", None],
        "mask_hash": [None, "9", None],
        "width": [4, 5, 6],
        "height": [7, 8, 9],
    }
)


@pytest.mark.parametrize("group", [1 << 14, 2], ids=["short", "long"])
def test_images_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tables, "GROUP_ROWS", group)
    write_table(ROWS, MANIFEST.path)
    calls: list[object] = []
    ordinary = listed.table_parts

    def noted(*given: object, **equal: str) -> object:
        calls.append(equal)
        return ordinary(*given, **equal)  # type: ignore[arg-type]

    monkeypatch.setattr(listed, "table_parts", noted)
    found = ListedImages()
    for _ in range(2):
        assert found("a.png") == {
            "hash": "2", "mask": "m.png", "mask_hash": "9", "width": 5, "height": 8,
        }  # fmt: skip
        assert found("c/ä.png")["mask"] is None
    looked_up = [{"path": "a.png"}, {"path": "c/ä.png"}] if group == 2 else []
    assert calls == [{}, *looked_up]
    with pytest.raises(StoreError, match=r"does not list d\.png: run `fade run`"):
        found("d.png")


def test_a_missing_manifest_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="is missing: run `fade run`"):
        ListedImages()("a.png")
