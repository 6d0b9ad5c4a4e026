"""The shipped ensembles, users' own files, and how prompts become sentences."""

import json
import re
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fade.errors import DataError, ParameterError
from fade.prompts import (
    DEFAULT_TEMPLATE,
    SHIPPED,
    Ensemble,
    ensemble_digest,
    fill,
    load_ensemble,
    manual,
    winclip,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
DESCRIPTIONS = tuple(f"descriptions_{number}" for number in range(1, 6))
# Stems of the objects in MVTec-AD and VisA, and of others that a description could slip into.
OBJECTS = re.compile(
    r"\b(bottle|cable|capsule|carpet|grid|hazelnut|leather|nut|pill|screw|tile|toothbrush"
    r"|transistor|wood|zipper|candle|cashew|gum|fryum|macaroni|pcb|pipe|board|box|bag|tube|wire"
    r"|cloth|fabric|glass|chain|thread|shell|wheel|fruit|food|plate|weave|metal)",
    re.IGNORECASE,
)


def write(path: Path, normal: object, abnormal: object) -> Path:
    document = {"normal": {"prompts": normal}, "abnormal": {"prompts": abnormal}}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_winclip_is_every_state_in_every_template() -> None:
    ensemble = winclip()
    assert (len(ensemble.normal), len(ensemble.abnormal)) == (154, 88)
    assert ensemble.normal[:8] == (
        "a cropped photo of the {classname}",
        "a cropped photo of the flawless {classname}",
        "a cropped photo of the perfect {classname}",
        "a cropped photo of the unblemished {classname}",
        "a cropped photo of the {classname} without flaw",
        "a cropped photo of the {classname} without defect",
        "a cropped photo of the {classname} without damage",
        "a cropped photo of a {classname}",
    )
    assert ensemble.abnormal[-4:] == (
        "a photo of a damaged {classname} for anomaly detection",
        "a photo of a {classname} with flaw for anomaly detection",
        "a photo of a {classname} with defect for anomaly detection",
        "a photo of a {classname} with damage for anomaly detection",
    )


@pytest.mark.parametrize(
    ("name", "abnormal", "repeats"),
    [
        ("winclip", 88, 0),
        # "a photo of a small" "damaged {c}" equals "a photo of a" "small damaged {c}".
        ("winclip_sizes", 704, 4),
        ("winclip_places", 1056, 0),
        ("winclip_sizes_places", 8448, 4 * 12),
    ],
)
def test_winclip_variants_nest(name: str, abnormal: int, repeats: int) -> None:
    ensemble = load_ensemble(name)
    assert ensemble.name == name
    assert (len(ensemble.normal), len(ensemble.abnormal)) == (154, abnormal)
    prompts = ensemble.normal + ensemble.abnormal
    assert len(set(prompts)) == len(prompts) - repeats
    assert set(winclip().abnormal) <= set(ensemble.abnormal)
    for prompt in prompts:
        assert prompt.count("{classname}") == 1
        assert prompt == " ".join(prompt.split())
        assert re.fullmatch(r"[a-z {}-]+", prompt)


def test_winclip_puts_sizes_before_and_places_after() -> None:
    assert "a photo of a severe damaged {classname}" in winclip(sizes=True).abnormal
    assert "a photo of a {classname} with defect on the top left" in winclip(places=True).abnormal
    both = winclip(sizes=True, places=True).abnormal
    assert "a photo of the {classname} with tiny flaw everywhere for visual inspection" in both


def test_shipped_names_load_and_are_described() -> None:
    assert set(DESCRIPTIONS) < set(SHIPPED)
    for name, line in SHIPPED.items():
        assert load_ensemble(name).name == name
        assert 20 < len(line) < 100
        assert "\n" not in line


def test_descriptions_are_many_distinct_and_name_no_object() -> None:
    seen: set[str] = set()
    for name in DESCRIPTIONS:
        ensemble = load_ensemble(name)
        for side in (ensemble.normal, ensemble.abnormal):
            assert 90 <= len(side) <= 110
        for prompt in chain(ensemble.normal, ensemble.abnormal):
            assert not OBJECTS.search(prompt), prompt
            assert "{" not in prompt
            assert re.fullmatch(r"[A-Za-z][A-Za-z ,:;'-]+[a-z]", prompt), prompt  # no full stop
            assert len(prompt.split()) <= 15, prompt  # far below CLIP's 77 tokens
            key = " ".join(re.findall(r"[a-z]+", prompt.lower()))
            assert key not in seen, prompt
            seen.add(key)


def test_every_shipped_json_has_a_name() -> None:
    folder = Path(__file__).resolve().parents[2] / "fade" / "ensembles"
    assert sorted(file.stem for file in folder.glob("*.json")) == sorted(DESCRIPTIONS)


def test_official_files_load_as_they_are() -> None:
    loaded = load_ensemble("chatgpt3.5_prompt1.json", base=GOLDEN / "prompts")
    assert loaded.normal[0] == "An intact surface."
    assert len(loaded.abnormal) == 4
    absolute = load_ensemble(str(GOLDEN / "prompts" / "chatgpt3.5_prompt1.json"))
    assert ensemble_digest([absolute]) == ensemble_digest([loaded])


def test_golden_labels_follow_from_the_order() -> None:
    files = ["winclip_prompt", *(f"chatgpt3.5_prompt{number}" for number in range(1, 6))]
    ensembles = [load_ensemble(f"{file}.json", base=GOLDEN / "prompts") for file in files]
    golden = np.load(GOLDEN / "text_embeddings.npz")
    for use, used in (("classification|weave", ensembles[:1]), ("segmentation|object", ensembles)):
        sentences, labels = fill(used, use.split("|")[1], DEFAULT_TEMPLATE)
        np.testing.assert_array_equal(labels, golden[f"{use}|y"])
        assert len(sentences) == len(golden[f"{use}|x"])


def test_fill_keeps_the_official_order() -> None:
    first = Ensemble("first", ("good {classname}", "fine"), ("bad {classname} {classname}",))
    second = Ensemble("second", ("ok",), ("broken {classname}",))
    sentences, labels = fill([first, second], "metal_nut", "a photo of a {prompt}.")
    assert sentences == [
        "a photo of a good metal nut.",
        "a photo of a fine.",
        "a photo of a bad metal nut metal nut.",
        "a photo of a ok.",
        "a photo of a broken metal nut.",
    ]
    assert labels.dtype == np.int8
    assert labels.tolist() == [0, 0, 1, 0, 1]
    reverse, _ = fill([second, first], "metal_nut", "{prompt}")
    assert reverse[:2] == ["ok", "broken metal nut"]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(word=st.text(min_size=1).filter(lambda word: word.replace("_", " ").strip()))
def test_fill_puts_any_word_in_as_it_is(word: str) -> None:
    sentences, _ = fill([manual(["{classname}"], ["not"])], word, "<{prompt}>")
    assert sentences == [f"<{word.replace('_', ' ').strip()}>", "<not>"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a photo", r"lacks \{prompt\}"),
        ("", r"lacks \{prompt\}"),
        ("a photo of {classname}: {prompt}", r"contains '\{classname\}'"),
        ("{} {prompt}", r"contains '\{\}'"),
        ("{prompt", r"contains '\{'"),
        ("{{prompt}}", r"contains '\{'"),
        ("{prompt}}", r"contains '\}'"),
    ],
)
def test_fill_refuses_bad_templates(template: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        fill([winclip()], "object", template)


def test_fill_refuses_nothing_to_fill() -> None:
    with pytest.raises(ParameterError, match="no ensemble"):
        fill([], "object", DEFAULT_TEMPLATE)
    for word in ("", " ", "__"):
        with pytest.raises(ParameterError, match="give a name"):
            fill([winclip()], word, DEFAULT_TEMPLATE)


def test_missing_file_lists_the_shipped_names(tmp_path: Path) -> None:
    for name in ("winclop", "", "."):
        with pytest.raises(DataError, match=r"neither a shipped ensemble .*winclip_sizes.*nor"):
            load_ensemble(name, base=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"", "not JSON"),
        (b"[1]", 'lacks "normal"'),
        (b'{"normal": ["a"], "abnormal": ["b"]}', 'lacks "normal"'),
        (b'{"normal": {"prompts": ["a"]}}', 'lacks "abnormal"'),
        (b'{"normal": {"prompt": ["a"]}, "abnormal": {"prompts": ["b"]}}', 'lacks "normal"'),
        (b'{"normal": {"prompts": "a"}, "abnormal": {"prompts": ["b"]}}', "are a str"),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "own.json").write_bytes(content)
    with pytest.raises(DataError, match=rf"own\.json.*{message}"):
        load_ensemble("own.json", base=tmp_path)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "no abnormal prompts"),
        (["a", 3], "abnormal prompt 2 is 3: give a string"),
        (["a", None], "abnormal prompt 2 is null"),
        (["a", "b", "  "], "abnormal prompt 3 is empty"),
        (["a {class}"], r"abnormal prompt 1 contains '\{class\}'"),
        (["a {}"], r"contains '\{\}'"),
        (["a {classname"], r"contains '\{'"),
        (["a }"], r"contains '\}'"),
        (["{{classname}}"], r"contains '\{'"),
    ],
)
def test_bad_prompts_are_refused(tmp_path: Path, prompts: list[str], message: str) -> None:
    write(tmp_path / "own.json", ["fine {classname}"], prompts)
    with pytest.raises(DataError, match=rf"own\.json: .*{message}"):
        load_ensemble("own.json", base=tmp_path)
    with pytest.raises(ParameterError, match=f"manual prompts: .*{message}"):
        manual(["fine {classname}"], prompts)


def test_a_single_string_is_no_list_of_prompts() -> None:
    with pytest.raises(ParameterError, match="normal prompts are a str"):
        manual("good", ["bad"])


def test_other_keys_byte_order_mark_and_repeats_are_accepted(tmp_path: Path) -> None:
    document = {
        "note": 1,
        "normal": {"instruction": "write", "prompts": ["é", "é"]},
        "abnormal": {"prompts": ["b"]},
    }
    (tmp_path / "own.json").write_text(json.dumps(document, ensure_ascii=False), "utf-8-sig")
    loaded = load_ensemble("own.json", base=tmp_path)
    assert loaded == Ensemble("own.json", ("é", "é"), ("b",))


def test_relative_paths_start_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "winclip", ["own"], ["bad"])
    monkeypatch.chdir(tmp_path)
    assert load_ensemble("./winclip").normal == ("own",)
    assert load_ensemble("winclip") == winclip()


def test_digest_sees_prompts_sides_and_order_but_not_names() -> None:
    base = Ensemble("a", ("x", "y"), ("z",))
    others = [
        [Ensemble("a", ("y", "x"), ("z",))],
        [Ensemble("a", ("x",), ("y", "z"))],
        [Ensemble("a", ("x", "y"), ("z ",))],
        [Ensemble("a", ('x","y',), ("z",))],
        [base, base],
        [],
    ]
    digests = {ensemble_digest(ensembles) for ensembles in [[base], *others]}
    assert len(digests) == 1 + len(others)
    assert ensemble_digest([base]) == ensemble_digest([Ensemble("b", ("x", "y"), ("z",))])
    assert re.fullmatch("[0-9a-f]{64}", ensemble_digest([base]))
