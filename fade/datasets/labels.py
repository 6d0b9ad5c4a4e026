"""What a label means, written in a table or as a folder's name: good, a defect, or a kind of defect."""

from typing import Literal

from fade.datasets.names import plain_name

Meaning = Literal["good", "defect", "unclear", "kind"]

ANOMALY = "anomaly"
"""The ``defect`` of an anomalous image whose data set does not name defects."""

GOOD_LABELS = frozenset(
    {
        *("good", "normal", "ok", "okay", "pass", "passed", "0"),
        *("no defect", "nodefect", "no defects", "defect free", "no anomaly", "anomaly free"),
    }
)
"""Labels that mean an image without a defect; in lower case, with spaces for ``-`` and ``_``."""

DEFECT_LABELS = frozenset(
    {
        *("anomaly", "anomalous", "anomalies", "abnormal", "bad", "defect", "defects", "defective"),
        *("ng", "nok", "ko", "not good", "no good", "not ok", "notok", "not normal"),
        *("fail", "failed", "faulty", "reject", "rejected", "1"),
    }
)
"""Labels that mean a defect without a name of its own, written as :data:`GOOD_LABELS`."""

UNCLEAR_LABELS = frozenset(
    {
        *("true", "false", "yes", "no", "t", "f", "y", "n", "positive", "negative", "pos", "neg"),
        *("unknown", "unlabeled", "unlabelled", "undefined", "none", "nan", "null", "na", "n/a"),
        *("?", "tbd", "todo"),
    }
)
"""Labels that one person takes for good and the next for a defect, or that say nothing."""


def meaning(label: str) -> Meaning:
    """Return what a label says: ``good``, ``defect``, ``unclear``, or ``kind`` for a defect's name.

    >>> [meaning(label) for label in ("OK", "0.0", "Defect-Free", "NG", "true", "scratch")]
    ['good', 'good', 'good', 'defect', 'unclear', 'kind']
    """
    word = " ".join(plain_name(label).replace("_", " ").replace("-", " ").split()) or "?"
    number = label_number(plain_name(label))
    if number is not None:
        word = {0.0: "0", 1.0: "1"}.get(number, word)
        if number < 0 or number % 1:  # a score, or a class that is left open
            return "unclear"
    if word in GOOD_LABELS:
        return "good"
    if word in DEFECT_LABELS:
        return "defect"
    return "unclear" if word in UNCLEAR_LABELS else "kind"


def label_number(word: str) -> float | None:
    """The number that a label is, as tables write it: ``1``, ``0.0`` or ``-1``, but not ``01``."""
    digits = word.removeprefix("-")
    if not digits.replace(".", "", 1).isdecimal() or not digits[0].isdecimal():
        return None
    return None if digits[0] == "0" and digits[1:2].isdecimal() else float(word)
