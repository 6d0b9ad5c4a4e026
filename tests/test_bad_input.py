"""Bad input, case by case: a line that names the culprit, a warning, or taken as it is.

docs/bad-input.md holds the same table.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cache.layout import Space
from cache.store import Store
from fade.datasets import read_csv, read_dataset, read_mvtec
from fade.encoder import Encoder
from fade.errors import FadeError
from fade.gem import GemConfig
from fade.metrics import image_metrics
from fade.preprocess import decode_mask, decode_rgb
from pipeline.params import parse_params
from pipeline.paths import MANIFEST, SKIPPED
from pipeline.runner import one_line
from pipeline.tables import read_csv as read_result
from pipeline.tables import read_json, read_table
from tests.projects import GOLDEN, ROOT, changed, golden_params, run_stages

DOCS = ROOT / "docs" / "bad-input.md"
SPACE = Space("numbers", {"kind": "test"}, (2,), "float16")
TAKEN = "taken"
"""Answers: taken as it is, ``warning``, or the exit code of a refusal."""
WARNING = "warning"
REFUSED = {2: "refused, 2", 3: "refused, 3", 4: "refused, 4", 5: "refused, 5"}

Files = dict[str, bytes]


@dataclass(frozen=True)
class Case:
    """What comes in, what is answered, words of the answer, and what brings it about."""

    what: str
    answer: str
    words: str
    act: Callable[[Path], str | None]


def picture(
    value: int = 0, size: tuple[int, int] = (12, 12), form: str = "PNG", **how: Any
) -> bytes:
    data = io.BytesIO()
    mode = how.pop("mode", "RGB")
    image = Image.new(mode, size, value if mode in ("L", "1") else (value, 9, 9))
    image.save(data, form, **how)
    return data.getvalue()


def mask(value: int = 255, size: tuple[int, int] = (12, 12), mode: str = "L") -> bytes:
    return picture(value, size, mode=mode)


def whole() -> Files:
    """A data set in MVTec's layout without anything odd."""
    return {
        "a/train/good/0.png": picture(1),
        "a/train/good/1.png": picture(2),
        "a/test/good/0.png": picture(3),
        "a/test/hole/0.png": picture(4),
        "a/ground_truth/hole/0_mask.png": mask(),
    }


def lay(folder: Path, files: Files) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def manifest(
    folder: Path, files: Files, format: str = "mvtec", policy: str = "fail", path: str = ""
) -> str:
    """Run the manifest stage over files; its warnings, and what it left out."""
    root = lay(folder / "images", files)
    params = changed(
        golden_params("zeroshot_language", Path("none.pt")),
        dataset={
            "format": format, "path": str(root / path), "watch": str(root), "on_bad_image": policy,
        },
    )  # fmt: skip
    done = run_stages(folder / "project", params, "manifest")
    told = read_json(done / SKIPPED.path)
    names = set(read_table(done / MANIFEST.path)[0]["path"])
    assert not names & {item["path"] for item in told["skipped"]}
    return "; ".join([*(item["reason"] for item in told["skipped"]), *told["warnings"]])


def with_image(data: bytes, policy: str = "fail") -> Callable[[Path], str]:
    return lambda folder: manifest(folder, whole() | {"a/test/good/0.png": data}, policy=policy)


def with_files(files: Mapping[str, bytes | None]) -> Callable[[Path], str]:
    """The whole data set with files added, replaced or (None) taken away."""

    def act(folder: Path) -> str:
        chosen = whole() | {k: v for k, v in files.items() if v is not None}
        return manifest(folder, {k: v for k, v in chosen.items() if k not in gone})

    gone = {name for name, data in files.items() if data is None}
    return act


def named(name: str) -> Callable[[Path], str]:
    """An image of this name goes through the manifest and stands in it."""

    def act(folder: Path) -> str:
        told = manifest(folder, whole() | {f"a/test/good/{name}": picture(7)})
        paths = read_table(folder / "project" / MANIFEST.path)[0]["path"].tolist()
        assert f"a/test/good/{name}" in paths
        return told

    return act


def table(rows: str | bytes, **files: bytes) -> Callable[[Path], str]:
    def act(folder: Path) -> str:
        data = rows if isinstance(rows, bytes) else rows.encode()
        base = {"t/0.png": picture(1), "good/0.png": picture(2), "m.png": mask()}
        return manifest(folder, {"data.csv": data, **base, **files}, "csv", path="data.csv")

    return act


HEADER = "image,category,split,label,mask\n"


def loop(folder: Path) -> str | None:
    root = lay(folder / "images", whole())
    (root / "a/test/good/1.png").symlink_to("2.png")
    (root / "a/test/good/2.png").symlink_to("1.png")
    read_mvtec(root)
    return None


def dangling(folder: Path) -> str | None:
    root = lay(folder / "images", whole())
    (root / "a/test/good/1.png").symlink_to("nowhere.png")
    read_mvtec(root)
    return None


def folder_loop(folder: Path) -> str | None:
    root = lay(folder / "images", whole())
    (root / "a/test/good/again").symlink_to(root)
    assert len(read_mvtec(root)) == 4
    return None


def bomb() -> bytes:
    """A PNG header of 100,000 x 100,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def animated() -> bytes:
    frames = [Image.new("RGB", (12, 12), (value, 0, 0)) for value in (1, 200)]
    data = io.BytesIO()
    frames[0].save(data, "GIF", save_all=True, append_images=frames[1:])
    return data.getvalue()


def floating() -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.float32)).save(data, "TIFF")
    return data.getvalue()


def half_a_jpeg() -> bytes:
    data = picture(5, (64, 64), "JPEG")
    return data[: len(data) // 2]


def decoded(data: Callable[[], bytes]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        decode_rgb(data(), "image.png")

    return act


def red_mask(folder: Path) -> None:
    assert decode_mask(mask(255, mode="RGB"), "mask.png").all()


def grey_mask(folder: Path) -> None:
    assert decode_mask(mask(1), "mask.png").all()


def stored(value: float, dtype: str = "float32") -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        store = Store(folder / "store")
        store.register(SPACE)
        store.write(SPACE, ["image"], np.array([[1, value]], dtype))

    return act


def only(kind: bool) -> Callable[[Path], str]:
    def act(folder: Path) -> str:
        values, reasons = image_metrics(np.array([0.1, 0.2]), np.array([kind, kind]))
        assert all(np.isnan(values[name]) for name in reasons)
        return "; ".join(reasons.values())

    return act


def other_store(folder: Path) -> None:
    (folder / "store.json").write_text('{"schema": 99}')
    Store(folder)


def other_results(folder: Path) -> None:
    (folder / "summary.csv").write_text("category,shots,schema\nmean,1,99\n")
    read_result(folder / "summary.csv")


def cut_manifest(folder: Path) -> None:
    (folder / "manifest.parquet").write_bytes(b"PAR1 and no more")
    read_table(folder / "manifest.parquet")


def load(weights: Callable[[Path], Path]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        Encoder.load(str(GOLDEN / "fade-golden.json"), str(weights(folder)), gem=GemConfig(2))

    return act


def other_architecture(folder: Path) -> Path:
    import torch

    torch.save({"visual.proj": torch.ones(3, 3)}, folder / "other.pt")
    return folder / "other.pt"


def cut_weights(folder: Path) -> Path:
    import torch

    torch.save({"visual.proj": torch.ones(64, 64)}, folder / "whole.pt")
    data = (folder / "whole.pt").read_bytes()
    (folder / "cut.pt").write_bytes(data[: len(data) // 2])
    return folder / "cut.pt"


def parameters(**leaves: Any) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        parse_params(changed(golden_params("fewshot1_both_seed0", Path("none.pt")), **leaves))

    return act


def not_utf8(folder: Path) -> None:
    root = lay(folder / "images", whole())
    try:
        with open(os.fsencode(root) + b"/a/test/good/\xff.png", "wb"):
            pass
    except OSError:
        pytest.skip("this file system takes no such name")
    read_mvtec(root)


def no_data(folder: Path) -> None:
    read_dataset("mvtec", folder / "nowhere")


def bare_csv(folder: Path) -> None:
    read_csv(lay(folder, {"manifest.csv": b""}))


CASES = (
    # images
    Case("an image of 0 bytes", REFUSED[3], "is empty (0 bytes)", with_image(b"")),
    Case("text that is called .png", REFUSED[3], "is not a readable image", with_image(b"text")),
    Case("a JPEG cut in half", REFUSED[3], "cannot be decoded", decoded(half_a_jpeg)),
    Case(
        "a JPEG cut in half, `on_bad_image: skip`", WARNING, "cannot be decoded",
        with_image(half_a_jpeg(), "skip"),
    ),
    Case(
        "an image of 0 bytes, `on_bad_image: skip`", WARNING, "is empty (0 bytes)",
        with_image(b"", "skip"),
    ),
    Case(
        "no image that can be used, `on_bad_image: skip`", REFUSED[3], "not one image can be used",
        lambda folder: manifest(folder, dict.fromkeys(whole(), b""), policy="skip"),
    ),
    Case("a decompression bomb", REFUSED[3], "10,000,000,000 pixels", with_image(bomb())),
    Case("an animated GIF", REFUSED[3], "has several frames", with_image(animated())),
    Case("floating-point pixels", REFUSED[3], "floating-point pixels", with_image(floating())),
    Case("a JPEG that is called .png", TAKEN, "", with_image(picture(3, form="JPEG"))),
    Case(
        "a document among the images", TAKEN, "", with_files({"a/test/good/notes.txt": b"text"})
    ),
    Case("an image of 1 x 1 pixels", TAKEN, "", with_image(picture(3, (1, 1)))),
    # names
    Case("a name with spaces", TAKEN, "", named("my image.png")),
    Case("a name with quotes", TAKEN, "", named("'it' \"is\".png")),
    Case("a name with a line break", TAKEN, "", named("two\nlines.png")),
    Case("a name outside ASCII", TAKEN, "", named("Prüfling 検査.png")),
    Case("a name of 255 bytes", TAKEN, "", named("x" * 251 + ".png")),
    Case("a name that is not UTF-8", REFUSED[3], "is not UTF-8", not_utf8),
    Case(
        "two images that differ in suffix only", REFUSED[3], "differ only in suffix",
        with_files({"a/test/good/0.bmp": picture(8, form="BMP")}),
    ),
    Case("a category called mean", REFUSED[3], "the name of the averages", table(
        HEADER + "t/0.png,mean,test,good,\n"
    )),
    # links and folders
    Case("links in a circle", REFUSED[3], "leads back to itself", loop),
    Case("a link to nothing", REFUSED[3], "is a link to nothing", dangling),
    Case("a folder that links to its parent", TAKEN, "", folder_loop),
    Case("no data set at the path", REFUSED[3], "does not exist", no_data),
    Case(
        "an image in no defect's folder", REFUSED[3], "lies in no defect's folder",
        with_files({"a/test/0.png": picture(8)}),
    ),
    # masks
    Case(
        "a defect image without a mask", TAKEN, "",
        with_files({"a/ground_truth/hole/0_mask.png": None}),
    ),
    Case(
        "a mask without an image", WARNING, "masks belong to no image",
        with_files({"a/ground_truth/hole/7_mask.png": mask()}),
    ),
    Case(
        "a mask of another size", REFUSED[3], "must have the same size",
        with_files({"a/ground_truth/hole/0_mask.png": mask(size=(7, 9))}),
    ),
    Case(
        "two masks of one image", REFUSED[3], "masks of the same image",
        with_files({"a/ground_truth/hole/0_mask.bmp": mask()}),
    ),
    Case(
        "a mask that is no image", REFUSED[3], "is not a readable image",
        with_files({"a/ground_truth/hole/0_mask.png": b"text"}),
    ),
    Case(
        "an all-zero mask of a defect image", WARNING, "mask without a defect pixel",
        with_files({"a/ground_truth/hole/0_mask.png": mask(0)}),
    ),
    Case(
        "a mask with defects of a good image", WARNING, "good images have a mask with defect",
        with_files({"a/ground_truth/good/0_mask.png": mask()}),
    ),
    Case("a mask of grey levels, not only 0 and 255", TAKEN, "", grey_mask),
    Case("a mask in RGB", TAKEN, "", red_mask),
    # duplicates and labels
    Case(
        "a test image that is a training image", WARNING, "are training images too",
        with_image(picture(1)),
    ),
    Case(
        "an image in two categories", WARNING, "more than one category",
        with_files({"b/test/good/0.png": picture(3)}),
    ),
    Case(
        "an image that is good and defect", WARNING, "labelled both good and defect",
        with_files({"a/test/good/1.png": picture(4)}),
    ),
    Case(
        "a label that disagrees with the folder", WARNING, "disagree with the image's folder",
        table(HEADER + "good/0.png,a,test,scratch,m.png\n"),
    ),
    Case(
        "a training image labelled defect", REFUSED[3], "references must be good",
        table(HEADER + "t/0.png,a,train,scratch,\n"),
    ),
    # tables
    Case("an empty CSV", REFUSED[3], "the header", bare_csv),
    Case("a CSV without a column", REFUSED[3], "lacks 'label'", table("image,category,split\n")),
    Case("a CSV with an unknown column", REFUSED[3], "does not know 'size'", table(
        "image,category,split,label,size\n"
    )),
    Case("a CSV with semicolons", REFUSED[3], "separate them by commas", table(
        "image;category;split;label\n"
    )),
    Case("a CSV in Latin-1", REFUSED[3], "is not UTF-8", table(
        (HEADER + "t/Prüfling.png,a,test,good,\n").encode("latin-1")
    )),
    Case("an absolute path in a CSV", REFUSED[3], "is an absolute path", table(
        HEADER + "/etc/0.png,a,test,good,\n"
    )),
    Case("a path with .. in a CSV", REFUSED[3], "has .. in it", table(
        HEADER + "../0.png,a,test,good,\n"
    )),
    Case("an image twice in a CSV", REFUSED[3], "is listed twice", table(
        HEADER + "t/0.png,a,test,good,\n" * 2
    )),
    Case("a split that is neither train nor test", REFUSED[3], "must be train or test", table(
        HEADER + "t/0.png,a,val,good,\n"
    )),
    # numbers
    Case("features that are NaN", REFUSED[5], "NaN or infinite", stored(float("nan"))),
    Case("features that are infinite", REFUSED[5], "NaN or infinite", stored(float("inf"))),
    Case("features beyond float16", REFUSED[5], "try float32", stored(1e6)),
    Case("only good test images", WARNING, "no anomalous", only(False)),
    Case("only defect test images", WARNING, "no good test image", only(True)),
    # models, stores, results, parameters
    Case("a checkpoint of another architecture", REFUSED[4], "does not fit", load(other_architecture)),
    Case("truncated weights", REFUSED[4], "is it complete?", load(cut_weights)),
    Case("a store of another schema version", REFUSED[5], "schema version 99", other_store),
    Case("results of another schema version", REFUSED[5], "schema version 99", other_results),
    Case("a damaged artefact", REFUSED[5], "delete it and run", cut_manifest),
    Case("an unknown parameter", REFUSED[2], "did you mean shots", parameters(vision__shot=[1])),
    Case("a number as text", REFUSED[2], "evaluate.size", parameters(evaluate__size="256")),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_answer(case: Case, tmp_path: Path) -> None:
    told, code = _outcome(case, tmp_path)
    assert case.answer == (REFUSED[code] if code else WARNING if told else TAKEN), told
    assert case.words in told
    assert "\n" not in told


def _outcome(case: Case, folder: Path) -> tuple[str, int]:
    """What was said, and the exit code."""
    try:
        return case.act(folder) or "", 0
    except FadeError as error:
        return one_line(error), error.exit_code


def test_the_documentation_has_the_same_table() -> None:
    rows = [f"| {c.what} | {c.answer} | {c.words and f'`{c.words}`'} |" for c in CASES]
    text = DOCS.read_text(encoding="utf-8")
    found = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert found == rows, "write these into docs/bad-input.md:\n" + "\n".join(rows)
    assert len(CASES) >= 40


def test_a_line_break_in_a_name_stays_in_the_line() -> None:
    assert one_line(FadeError("a\nb.png\r is empty")) == "a\\nb.png\\r is empty"
