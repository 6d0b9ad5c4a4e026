"""The site's pages: generated references are complete, links lead somewhere, each page is in the menu."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
import yaml

from docs.site.commands import commands
from docs.site.docstrings import readable
from docs.site.pages import ROOT, broken_links, headings, pages, relinked, sources
from docs.site.parameters import UNITS, UNWATCHED, Leaf, leaves, questions
from fade.metrics import METRIC_NAMES
from pipeline.artefacts.catalogue import ARTEFACTS
from pipeline.artefacts.pixel_histograms import COUNTS
from pipeline.config.originals import TEMPLATE
from pipeline.evaluation.thresholds import Threshold
from pipeline.inference.output import COLUMNS


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return pages()


@pytest.fixture(scope="module")
def reference() -> dict[str, Leaf]:
    return {leaf.name: leaf for leaf in leaves()}


def _flat(content: Any, path: str = "") -> Iterator[str]:
    for name, value in content.items():
        full = f"{path}{name}"
        by_shots = isinstance(value, dict) and {"zero_shot", "few_shot"} == value.keys()
        if isinstance(value, dict) and value and not by_shots:
            yield from _flat(value, full + ".")
        else:
            yield full


def test_every_leaf_has_a_row(reference: dict[str, Leaf], texts: dict[str, str]) -> None:
    names = list(_flat(yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))))
    assert sorted(reference) == sorted(names)
    page = texts["parameters.md"]
    for name in names:
        (part,) = re.findall(rf"^### {re.escape(name)} (?s:.*?)(?=^##|\Z)", page, re.M)
        for row in ("Type", "Default", "Demo", "Runs again"):
            assert f"\n| {row} | " in part, f"{name} has no row {row}"


def test_a_row_says_type_default_unit_and_stages(reference: dict[str, Leaf]) -> None:
    weight = reference["fusion.vision_weight"]
    assert weight.type == "number at least 0 and at most 1 or `{zero_shot:, few_shot:}`"
    assert (weight.default, weight.demo, weight.unit) == ("0.85", "0.85", "share")
    assert weight.stages == ("evaluate", "report")
    size = reference["features.classification_size"]
    assert size.type == "whole number at least 8 and at most 8,192"
    assert reference["cluster.walltime"].default == '"01:00:00"'
    assert reference["dataset.format"].demo == "mvtec"
    assert (size.default, size.demo, size.unit) == (None, "128", "pixels a side")
    assert {"extract", "stream", "score_language"} <= set(size.stages)
    assert "bank" not in size.stages
    kinds = reference["cluster.kind"].type
    assert kinds.split(" or ")[:2] == ["`synchronous`", "`threads`"]
    assert reference["vision.seeds"].type == "list of whole number at least 0 and below 2^63"


def test_every_leaf_has_a_question(reference: dict[str, Leaf]) -> None:
    for leaf in reference.values():
        assert leaf.question, f"params.yaml asks nothing above {leaf.name}"
    for name in ("prompts", "feature"):
        asked = reference[f"text.segmentation.{name}"].question
        assert asked == reference[f"text.classification.{name}"].question
    assert reference["cluster.queue"].question == reference["cluster.walltime"].question


def test_a_comment_belongs_to_the_leaf_below_it() -> None:
    text = (
        "# About the file.\n\na:\n  # How many? Or\n  # none.\n  b: 1\n  c: 2\n  # Which?\n  d: x\n"
    )
    many = "How many? Or none."
    assert questions(text) == {"a.b": many, "a.c": many, "a.d": "Which?"}


def test_every_number_has_a_unit(reference: dict[str, Leaf]) -> None:
    for leaf in reference.values():
        if "number" in leaf.type:
            assert leaf.unit, f"{leaf.name} has no unit: add it to UNITS of docs/site/parameters.py"
    assert not UNITS.keys() - reference.keys()


def test_stages_name_what_changes_results(reference: dict[str, Leaf]) -> None:
    for leaf in reference.values():
        assert bool(leaf.stages) == (leaf.name.split(".")[0] not in UNWATCHED), leaf.name


def test_every_command_has_a_section(texts: dict[str, str]) -> None:
    from pipeline.cli.commands import app

    registered = [(one.name or one.callback.__name__) for one in app.registered_commands]  # type: ignore[union-attr]
    for group in app.registered_groups:
        inner = group.typer_instance.registered_commands  # type: ignore[union-attr]
        registered += [f"{group.name} {one.name or one.callback.__name__}" for one in inner]  # type: ignore[union-attr]
    found = {one.name: one for one in commands()}
    assert sorted(found) == sorted(f"fade {name}" for name in registered)
    assert "cache verify" in registered
    for name in found:
        assert f"\n## {name}\n" in texts["commands.md"]
    assert "--pictures / --no-pictures" in found["fade predict"].help
    assert max(map(len, found["fade predict"].help.splitlines())) <= 80


def test_links_lead_somewhere(texts: dict[str, str]) -> None:
    assert broken_links(texts) == []
    assert len(texts) > 25


def test_a_broken_link_is_named() -> None:
    text = "# One two\n\n[a](b.md) [b](#one-two) [c](#three) ![d](images/no.png)\n\n```\n[e](f.md)\n```\n"
    assert broken_links({"a.md": text}) == ["a.md: b.md", "a.md: #three", "a.md: images/no.png"]


def test_links_of_the_repository_become_links_of_the_site() -> None:
    text = (
        "[a](../benchmarks/notes.md#kills) [b](data.md) [c](https://example.com/x.md) `[d](e.md)`"
    )
    expected = "[a](measurements.md#kills) [b](data.md) [c](https://example.com/x.md) `[d](e.md)`"
    assert relinked(text, "docs/scale.md") == expected
    assert relinked("[a](docs/data.md#masks)", "CONTRIBUTING.md") == "[a](data.md#masks)"


def test_headings_become_anchors_as_on_github() -> None:
    text = "# What `keep` does\n## The demo's model: `fade-demo`\n## A\n## A\n### x {#a.b}\n"
    assert headings(text) == {"what-keep-does", "the-demos-model-fade-demo", "a", "a_1", "a.b"}


def test_each_page_is_in_the_menu_once() -> None:
    menu = (ROOT / "docs/site/mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^ *- [^:]+: ([\w-]+\.md)$", menu, re.M)
    assert sorted(listed) == sorted(sources())


def test_names_of_pages_in_code_and_errors_are_pages() -> None:
    files = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "params.yaml", "dvc.yaml")]
    for folder in ("fade", "cache", "pipeline", "stages", "benchmarks", "tests"):
        files += (ROOT / folder).rglob("*.py")
    for file in files:
        for name in re.findall(r"\bdocs/[\w-]+\.md", file.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{file.relative_to(ROOT)} names {name}"


def test_the_page_of_files_names_every_file_column_and_key(texts: dict[str, str]) -> None:
    page = texts["formats.md"]
    names = [*METRIC_NAMES, *COLUMNS, *COUNTS, *(one.name for one in fields(Threshold))]
    assert not [name for name in names if f"`{name}`" not in page]
    for artefact in ARTEFACTS:
        assert f"| `{artefact.path.as_posix()}` | `{artefact.stage}` |" in page


def test_guides_hold_phrases_in_tables(texts: dict[str, str]) -> None:
    for name in (
        "cli.md",
        "demo.md",
        "formats.md",
        "performance.md",
        "scale.md",
        "index.md",
        "store.md",
        "cluster.md",
    ):
        for line in texts[name].splitlines():
            if line.startswith("|"):
                longest = max(len(cell.split()) for cell in line.split("|"))
                assert longest <= 20, f"{name}: {line}"


def test_docstrings_lose_roles_and_shared_entries() -> None:
    text = "See :meth:`a.b`.\n\nArgs:\n    x, y: where,\n        in ``px``.\n    z: depth.\n"
    expected = (
        "See `a.b`.\n\nArgs:\n    x: where,\n        in `px`.\n    y: where,\n        in `px`.\n"
        "    z: depth.\n"
    )
    assert readable(text) == expected
    assert readable("One, two: words.\n") == "One, two: words.\n"
