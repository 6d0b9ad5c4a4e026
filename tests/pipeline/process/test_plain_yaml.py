"""Plain YAML by libyaml: the values of DVC's own parser, or nothing."""

from __future__ import annotations

import random
from collections import OrderedDict
from contextlib import suppress

import pytest
from ruamel.yaml import YAML

from pipeline.process.plain_yaml import NotPlain, dump, load
from tests.projects import ROOT

WORDS = """
0 -0 +1 017 0o17 0x1F 0b11 1_000 1e5 1. 1.5 -.5 .5 1e-5 1E+5 1:30 2001-01-01 yes No on Null NULL null ~
True TRUE true FALSE .inf .nan << = 12345678e1234567890123456789 e3b 5f3a 0e1 00 1e --1 1.2.3 !!str !x
'1' "true" &a - + . .. é 0. -1 1.e5 @x `a %a 0O7 1e400 -0.0 _1 +.5 # : ? [ { a#b a:b
"""


def agree(text: str) -> bool:
    """Whether a text is plain; what is taken is what DVC's parser takes."""
    try:
        found = load(text)
    except NotPlain:
        return False
    assert repr(found) == repr(YAML(typ="safe").load(text)), text
    return True


def test_words_mean_what_they_mean_to_dvc() -> None:
    taken = [word for word in WORDS.split() if agree(f"a: {word}\n")]
    assert {"yes", "1e-5", "~", "5f3a", "-1", "TRUE"} - set(taken) == {
        "TRUE"
    }  # left to DVC's parser
    assert not {"0o17", "2001-01-01", "!!str", "!x", "<<", ".inf"} & set(taken)
    draw = random.Random(1)
    for _ in range(400):
        word = "".join(draw.choices("0123456789.eE+-_:ox ayn~tN<=#'\"abf", k=draw.randint(1, 7)))
        agree(f"a: {word}\n")
        agree(f"[{word}]\n")
        with suppress(NotPlain):
            assert YAML(typ="safe").load(dump({word: word})) == {word: word}


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2\n",
        "a: &b [1]\nc: *b\n",
        "%YAML 1.1\n---\na: no\n",
        "1: a\n",
        "a: [\n",
        "a: !!str 1",
    ],
)
def test_what_is_not_plain_is_left_alone(text: str) -> None:
    with pytest.raises(NotPlain):
        load(text)


def test_files_of_the_project() -> None:
    for name in ("params.yaml", "dvc.yaml"):
        assert agree((ROOT / name).read_text(encoding="utf-8"))
    assert load("") is None
    assert dump({"a": OrderedDict(b=None), "c": []}) == "a:\n  b:\nc: []\n"
