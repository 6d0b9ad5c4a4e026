"""Parameters: what is refused, how it is said, and what follows from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fade.errors import FadeError, ParameterError
from fade.types import Feature, Trial
from pipeline.config.load import load_params, parse_params
from pipeline.config.originals import TEMPLATE
from tests.projects import changed

DEFAULT: dict[str, Any] = yaml.safe_load(TEMPLATE.read_text())


def test_the_shipped_file_is_valid() -> None:
    params = load_params(TEMPLATE)
    assert params.dataset.path == params.dataset.watch


@pytest.mark.parametrize(
    ("leaves", "clues"),
    [
        ({"vision__shot": [1]}, ("unknown parameter vision.shot", "did you mean shots?")),
        ({"visoin": {}}, ("unknown parameter visoin", "did you mean vision?")),
        ({"model__gem__dept": 3}, ("unknown parameter model.gem.dept", "depth")),
        ({"dataset__zzzzz": 3}, ("unknown parameter dataset.zzzzz", "known: format, path")),
        ({"features__classification_size": "240"}, ("features.classification_size", "'240'")),
        ({"features__segmentation_sizes": []}, ("features.segmentation_sizes",)),
        (
            {"features__segmentation_sizes": [96, 96]},
            ("features.segmentation_sizes: 96 is given twice",),
        ),
        ({"features__dtype": "float64"}, ("features.dtype", "float16", "'float64'")),
        ({"dataset__categories": []}, ("dataset.categories is empty: name at least one",)),
        ({"vision__shots": []}, ("vision.shots is empty: name at least one",)),
        ({"vision__shots": [-1]}, ("vision.shots.0", "-1")),
        ({"vision__shots": 1}, ("vision.shots", "list")),
        ({"vision__seeds": [0, 1, 0]}, ("vision.seeds: 0 is given twice: take one out",)),
        ({"vision__shots": [True]}, ("vision.shots.0",)),
        ({"fusion__vision_weight": 1.5}, ("fusion.vision_weight", "1.5")),
        ({"fusion__vision_weight": {"zero_shot": 0.5}}, ("fusion.vision_weight.few_shot",)),
        ({"fusion__vision_weight": {"zero": 0.5}}, ("did you mean zero_shot?",)),
        ({"fusion__vision_weight": {"a": 0.5}}, ("a (known: zero_shot, few_shot)",)),
        ({"text__overrides": {"a": {"b": []}}}, ("known: classification, segmentation",)),
        ({"text__overrides": {"a": 1}}, ("must hold classification, segmentation",)),
        ({"fusion__vision_multiplier": 0}, ("fusion.vision_multiplier",)),
        ({"fusion__vision_multiplier": float("nan")}, ("fusion.vision_multiplier",)),
        ({"fusion__vision_multiplier": 1e308}, ("fusion.vision_multiplier", "1000000", "1e+308")),
        ({"model__gem__temperature": 1e300}, ("model.gem.temperature", "10000", "1e+300")),
        ({"features__keep": "yes"}, ("features.keep", "(true or false)", "'yes'")),
        ({"vision__query_in_bank": "no"}, ("vision.query_in_bank", "(true or false)", "'no'")),
        ({"dataset__path": "a/${x}"}, ("dataset.path is 'a/${x}'", "write the path out")),
        ({"dataset__watch": "a${dataset.format}b"}, ("dataset.watch", "write the path out")),
        ({"features__store": "${HOME}/store"}, ("features.store", "write the path out")),
        ({"dataset__path": "~/parts"}, ("dataset.path: ~ is not read", "write /home/me/parts")),
        ({"dataset__watch": "~/list.csv"}, ("dataset.watch", "write /home/me/list.csv")),
        ({"features__store": "~/store"}, ("features.store", "write /home/me/store")),
        ({"model__name": "~/m.json"}, ("model.name", "write /home/me/m.json")),
        ({"model__pretrained": "~/w.pt"}, ("model.pretrained", "write /home/me/w.pt")),
        (
            {"text__segmentation__prompts": ["~/p.json"]},
            ("text.segmentation.prompts", "/home/me/p.json"),
        ),
        (
            {"text__overrides": {"a": {"classification": ["~/p.json"]}}},
            ("text.overrides.a.classification", "/home/me/p.json"),
        ),
        ({"dataset__categories": [1]}, ("dataset.categories", '"01"')),
        ({"text__template": 1}, ("text.template", 'such as "01"')),
        ({"fusion__segmentation_mode": "all"}, ("fusion.segmentation_mode", "'all'")),
        (
            {"fusion__segmentation_mode": "none", "fusion__classification_mode": "none"},
            ("both none", "set one to"),
        ),
        ({"vision__query_in_bank": False}, ("vision.shots holds 0", "take 0 out")),
        *(
            (
                {
                    "vision__bank": "references_and_batch",
                    "vision__query_in_bank": False,
                    f"vision__{name}": value,
                },
                (
                    f"vision.{name} is {value} and vision.bank references_and_batch",
                    "at its default",
                ),
            )
            for name, value in (("radius", 0), ("radius", 1), ("radius", 2), ("neighbours", 2))
        ),
        ({"dataset__exif_rotation": True}, ("exif_rotation", "mvtec", "folder")),
        ({"dataset__format": "coco"}, ("dataset.format", "'coco'")),
        ({"dataset__path": ""}, ("dataset.path",)),
        ({"text__segmentation__classifier": "svm"}, ("text.segmentation.classifier", "average")),
        ({"text__classification__prompts": []}, ("text.classification.prompts",)),
        (
            {"text__classification__prompts": [{"normal": ["a"], "abnormal": []}]},
            ("text.classification.prompts.0", "abnormal"),
        ),
        ({"evaluate__pro_limit": 0.0}, ("evaluate.pro_limit",)),
        ({"evaluate__pro_limit": 1.5}, ("evaluate.pro_limit",)),
        (
            {"threshold__false_alarms": 0.05, "threshold__source": "labels"},
            ("threshold.false_alarms asks", "set source to normal"),
        ),
        (
            {"threshold__false_alarms": 0.05, "threshold__factor": 0.9},
            ("threshold.factor is 0.9", "set factor to 1"),
        ),
        ({"evaluate__intervals": 39}, ("evaluate.intervals", "39 are too few", "40 or more")),
        ({"cluster__kind": "slurmy"}, ("cluster.kind",)),
        ({"cluster__kind": "address"}, ("cluster.address is null", "tcp://")),
        ({"cluster__kind": "slurm"}, ("cluster.memory is null", "8GiB")),
        ({"cluster__memory": "8 gigs"}, ("cluster.memory", "such as 8GiB, not '8 gigs'")),
        ({"cluster__memory": 8}, ("cluster.memory",)),
        ({"cluster__prologue": ["module load x\nrm -r y"]}, ("cluster.prologue", "lines")),
        ({"cluster__queue": ""}, ("cluster.queue", "neither empty nor broken, not ''")),
        ({"cluster__gpus": 0}, ("cluster.gpus",)),
        ({"model": None}, ("model",)),
    ],
)
def test_refused(
    leaves: dict[str, Any], clues: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    with pytest.raises(ParameterError) as caught:
        parse_params(changed(DEFAULT, **leaves))
    message = str(caught.value)
    assert "\n" not in message
    for clue in clues:
        assert clue in message
    for inner in ("function-", "ByShots", "constrained", "list["):
        assert inner not in message


@pytest.mark.parametrize("written", ["1-00:00:00", '"00:30:00"', "12:30:05"])
def test_a_walltime_need_not_be_quoted(written: str, tmp_path: Path) -> None:
    """YAML 1.1 makes a number of 12:30:05."""
    text = TEMPLATE.read_text().replace('"01:00:00"', written)
    (tmp_path / "params.yaml").write_text(text)
    assert load_params(tmp_path / "params.yaml").cluster.walltime == written.strip('"')


def test_a_missing_section_is_named() -> None:
    content = {key: value for key, value in DEFAULT.items() if key != "fusion"}
    with pytest.raises(ParameterError, match="fusion is missing"):
        parse_params(content)


@pytest.mark.parametrize("text", ["a: [", "\x00", "- 1", "", "a: !!python/object:os.system {}"])
def test_broken_files(text: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParameterError) as caught:
        load_params(path)
    assert "params.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*DEFAULT, "path", "shots", "gem", "x"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    ),
    st.sampled_from(["", *DEFAULT]),
)
def test_anything_else_is_refused_in_a_line(content: Any, section: str) -> None:
    whole = {**DEFAULT, section: content} if section else content
    message = ""
    try:
        parse_params(whole)
    except FadeError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize("name", ["dataset__path", "features__store"])
@pytest.mark.parametrize(
    "url", ["s3://key:hidden@bucket/x", "az://c/x?sig=hidden", "s3://b/#hidden"]
)
def test_credentials_in_urls_are_refused_and_not_repeated(name: str, url: str) -> None:
    with pytest.raises(ParameterError, match="put credentials into the environment") as caught:
        parse_params(changed(DEFAULT, **{name: url}))
    assert "hidden" not in str(caught.value)


def test_dvc_cannot_watch_a_url() -> None:
    with pytest.raises(ParameterError, match=r"dataset\.watch is a URL"):
        parse_params(changed(DEFAULT, dataset__path="s3://b/x", dataset__watch="s3://b/x"))
    parse_params(changed(DEFAULT, dataset__path="s3://b/x", dataset__watch="listing.csv"))


def test_trials() -> None:
    params = parse_params(changed(DEFAULT, vision__shots=[2, 0, 1], vision__seeds=[5, 3]))
    assert params.trials() == [Trial(0, 0), Trial(1, 3), Trial(1, 5), Trial(2, 3), Trial(2, 5)]
    language = changed(
        DEFAULT, fusion__segmentation_mode="language", fusion__classification_mode="language"
    )
    assert parse_params(language).trials() == [Trial(0, 0)]


def test_values_by_shots() -> None:
    params = parse_params(
        changed(DEFAULT, fusion__vision_weight={"zero_shot": 0.5, "few_shot": 0.85})
    )
    assert params.vision_weight(Trial(0, 0)) == 0.5
    assert params.vision_weight(Trial(4, 1)) == 0.85
    assert params.query_in_bank(Trial(0, 0))
    assert not params.query_in_bank(Trial(1, 0))


def test_only_what_somebody_reads_is_extracted() -> None:
    sizes = (128, 192)
    clip = [Feature(size, "clip", "patch") for size in sizes]
    gem = [Feature(size, "gem", "patch") for size in sizes]
    cls = Feature(128, "clip", "cls")

    def of(classification: str, segmentation: str, shots: list[int]) -> tuple[list[Any], list[Any]]:
        params = parse_params(
            changed(
                DEFAULT,
                fusion__classification_mode=classification,
                fusion__segmentation_mode=segmentation,
                vision__shots=shots,
            )
        )
        return params.reference_features(), params.test_features()

    assert of("both", "both", [1]) == (clip, [cls, *gem, *clip])
    assert of("language", "language", [1]) == ([], [cls, *gem])
    assert of("none", "vision", [1]) == (clip, clip)
    assert of("vision", "language", [1]) == (clip, [*gem, *clip])
    assert of("both", "both", [0]) == ([], [cls, *gem, *clip])
    assert of("language", "none", [1]) == ([], [cls])
