"""Bad input, case by case: a line that names the culprit, a warning, or taken as it is.

docs/bad-input.md holds the same table.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from cache.layout import Space
from cache.store import Store
from fade.datasets import read_dataset
from fade.encoder import Encoder
from fade.errors import FadeError
from fade.faiss_index import build_index
from fade.gem import GemConfig
from fade.metrics import image_metrics
from fade.preprocess import decode_mask, decode_rgb
from fade.prompts import load_ensemble
from fade.text import load as load_classifier
from pipeline.artefacts.catalogue import MANIFEST, SKIPPED, TEST
from pipeline.artefacts.receipts import read_receipt
from pipeline.artefacts.tables import read_csv as read_result
from pipeline.artefacts.tables import read_json, read_table, write_table
from pipeline.config.load import load_params, parse_params
from pipeline.config.originals import TEMPLATE
from pipeline.evaluation.thresholds import Threshold, read_thresholds
from pipeline.features.patch_encoder import load_patch_encoder
from pipeline.inference.bundle import Bundle
from pipeline.inference.output import find_images
from pipeline.inference.pictures import open_picture
from pipeline.report.summary import read_summary
from pipeline.stage import one_line
from tests.fade.test_bombs import chunk as png_chunk
from tests.fade.test_bombs import png as png_of
from tests.fade.test_bombs import scans
from tests.pictures import half_copied, pack_bits, png_file, tiff_file
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


def folders(*names: str) -> Callable[[Path], None]:
    """Images in folders of one's own."""

    def act(folder: Path) -> None:
        read_dataset("folder", lay(folder, dict.fromkeys(names, picture())))

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
    read_dataset("mvtec", root)
    return None


def dangling(folder: Path) -> str | None:
    root = lay(folder / "images", whole())
    (root / "a/test/good/1.png").symlink_to("nowhere.png")
    read_dataset("mvtec", root)
    return None


def folder_loop(folder: Path) -> str | None:
    root = lay(folder / "images", whole())
    (root / "a/test/good/again").symlink_to(root)
    assert len(read_dataset("mvtec", root)) == 4
    return None


def png(side: int, colour: int, data: bytes, palette: bytes | None = None) -> bytes:
    """A square PNG of 8 bits a channel with these data, which are compressed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, colour, 0, 0, 0))
    between = b"" if palette is None else chunk(b"PLTE", palette)
    return b"\x89PNG\r\n\x1a\n" + head + between + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bomb() -> bytes:
    """A PNG header of 100,000 x 100,000 pixels."""
    return png(100_000, 2, b"")


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


def closed_jpeg() -> bytes:
    """Half of a JPEG with the end marker of a whole one."""
    data = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(data, "JPEG")
    return data.getvalue()[: data.tell() // 2] + b"\xff\xd9"


def pixels(colour: int, rows: int, value: int = 0, palette: bytes | None = None) -> bytes:
    """A PNG of 2 x 2 pixels of one channel with so many rows of one value."""
    return png(2, colour, zlib.compress(bytes((0, value, value)) * rows), palette)


def planes() -> bytes:
    return tiff(np.zeros((3, 4, 5), np.uint16), photometric="rgb", planarconfig="separate")


def tiff(array: np.ndarray, **how: Any) -> bytes:
    data = io.BytesIO()
    tifffile.imwrite(data, array, **how)
    return data.getvalue()


def decoded(data: Callable[[], bytes]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        decode_rgb(data(), "image.png")

    return act


def noise(form: str) -> bytes:
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    return encoded(Image.fromarray(values), form)


def encoded(image: Image.Image, form: str = "PNG") -> bytes:
    data = io.BytesIO()
    image.save(data, form)
    return data.getvalue()


def flipped_png() -> bytes:
    data = bytearray(noise("PNG"))
    data[data.index(b"IEND") - 6] ^= 1
    return bytes(data)


def turned(orientation: int, size: tuple[int, int]) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return picture(3, size, "JPEG", exif=exif)


def meant(write: Callable[[np.ndarray], bytes]) -> Callable[[Path], None]:
    """A mask that such a file marks as it was meant."""

    def act(folder: Path) -> None:
        marked = np.zeros((9, 10), bool)
        marked[2:4, 3:7] = True
        np.testing.assert_array_equal(decode_mask(write(marked), "mask.png"), marked)

    return act


def white_palette(marked: np.ndarray) -> bytes:
    image = Image.fromarray(marked.astype(np.uint8)).convert("P")
    image.putpalette([255, 255, 255, 255, 0, 0])
    return encoded(image)


def red_mask(folder: Path) -> None:
    assert decode_mask(mask(255, mode="RGB"), "mask.png").all()


def red_and_blue(side: int) -> Image.Image:
    found = Image.new("RGB", (side, side), (255, 0, 0))
    found.paste((0, 0, 255), (0, 0, side // 2, side))
    return found


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


def other_activation(folder: Path) -> Path:
    (folder / "vit-openai.safetensors").write_bytes(b"never read")
    return folder / "vit-openai.safetensors"


def named_model(name: str) -> Callable[[Path], None]:
    def act(_: Path) -> None:
        Encoder.load(name, "webli")

    return act


def cut_weights(folder: Path) -> Path:
    import torch

    torch.save({"visual.proj": torch.ones(64, 64)}, folder / "whole.pt")
    data = (folder / "whole.pt").read_bytes()
    (folder / "cut.pt").write_bytes(data[: len(data) // 2])
    return folder / "cut.pt"


def web_page(folder: Path) -> Path:
    (folder / "page.pt").write_text("<!DOCTYPE html>\n<title>Log in</title>")
    return folder / "page.pt"


TINY = GOLDEN / "vision" / "tiny-dinov2"


def network(size: int = 56, **leaves: Any) -> Callable[[Path], None]:
    """Ask a network of 6 blocks and patches of 14 pixels for features."""

    def act(_: Path) -> None:
        given = {f"vision__{name}": value for name, value in leaves.items()}
        modes = {f"fusion__{mode}_mode": "vision" for mode in ("classification", "segmentation")}
        params = golden_params("fewshot1_both_seed0", Path("none.pt"))
        given |= {"vision__encoder": f"local-dir:{TINY}", **modes}
        load_patch_encoder(parse_params(changed(params, **given), "params.yaml"), "cpu").grid(size)

    return act


def half_of_a_network(folder: Path) -> None:
    data = (TINY / "model.safetensors").read_bytes()
    (folder / "half.safetensors").write_bytes(data[: len(data) // 2])
    network(encoder_weights=str(folder / "half.safetensors"))(folder)


def quantised_weights(folder: Path) -> Path:
    import torch

    encoder = Encoder.load(str(GOLDEN / "fade-golden.json"), "seeded", gem=GemConfig(2))
    state = encoder._model.state_dict()
    torch.save({**state, "visual.proj": state["visual.proj"].to(torch.int8)}, folder / "int8.pt")
    return folder / "int8.pt"


def large_index(folder: Path) -> None:
    build_index(np.eye(8, dtype=np.float32), "HNSW99999999")


def long_prompt(folder: Path) -> None:
    encoder = Encoder.load(str(GOLDEN / "fade-golden.json"), "seeded", gem=GemConfig(2))
    encoder.encode_texts(["a photo of " + "a very " * 40 + "long prompt."])


def parameters(**leaves: Any) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        parse_params(changed(golden_params("fewshot1_both_seed0", Path("none.pt")), **leaves))

    return act


# what somebody would make on purpose


def png_with(chunk: bytes, data: bytes) -> bytes:
    """A sound PNG with one more chunk behind its header."""
    whole = picture(3)
    more = struct.pack(">I", len(data)) + chunk + data
    return whole[:33] + more + struct.pack(">I", zlib.crc32(chunk + data)) + whole[33:]


def text_bomb() -> bytes:
    """200 KB that unfold to 200 MB of text."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    return png_with(b"zTXt", b"k\0\0" + packed)


def promised() -> bytes:
    """The header of 9,000 x 9,000 pixels, and none of them."""
    return png(9000, 2, b"")


def pages() -> bytes:
    return picture(
        1, form="TIFF", save_all=True, append_images=[Image.new("RGB", (12, 12), (9, 9, 9))]
    )


def grey16(form: str) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.full((12, 12), 40_000, np.uint16)).save(data, form)
    return data.getvalue()


def moded(mode: str, form: str = "PNG", **how: Any) -> bytes:
    data = io.BytesIO()
    Image.new(mode, (12, 12)).save(data, form, **how)
    return data.getvalue()


def pipe(folder: Path) -> None:
    root = lay(folder / "images", whole())
    os.mkfifo(root / "a/test/good/1.png")
    read_dataset("mvtec", root)


def linked_out(folder: Path) -> str:
    lay(folder / "elsewhere", {"0.png": picture(9)})
    root = folder / "images"
    root.mkdir()
    (root / "out.png").symlink_to(folder / "elsewhere" / "0.png")
    return table(HEADER + "out.png,a,test,good,\n")(folder)


def yaml_file(change: Callable[[str], str]) -> Callable[[Path], None]:
    """The repository's params.yaml, changed."""

    def act(folder: Path) -> None:
        text = TEMPLATE.read_text(encoding="utf-8")
        (folder / "params.yaml").write_text(change(text), encoding="utf-8")
        load_params(folder / "params.yaml")

    return act


def laughs(text: str) -> str:
    """Nine aliases of nine aliases of ...: a billion values in ten lines."""
    lines = ['a0: &a0 ["lol"]']
    lines += [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]" for n in range(9)]
    return "\n".join(lines) + "\n" + text.replace("categories: null", "categories: *a9")


def prompt_file(text: str | bytes) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        data = text if isinstance(text, bytes) else text.encode()
        (folder / "prompts.json").write_bytes(data)
        load_ensemble("prompts.json", folder)

    return act


def prompts(normal: str) -> str:
    return f'{{"normal": {{"prompts": {normal}}}, "abnormal": {{"prompts": ["b"]}}}}'


def payload(folder: Path) -> Path:
    """A checkpoint that runs a command when it is unpickled."""
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {folder}/pwned",)

    (folder / "evil.pt").write_bytes(pickle.dumps({"visual.proj": Evil()}))
    return folder / "evil.pt"


def loads_nothing(folder: Path) -> None:
    try:
        load(payload)(folder)
    finally:
        assert not (folder / "pwned").exists()


def safetensors(header: bytes, length: int | None = None) -> Callable[[Path], Path]:
    def weights(folder: Path) -> Path:
        size = len(header) if length is None else length
        (folder / "w.safetensors").write_bytes(struct.pack("<Q", size) + header)
        return folder / "w.safetensors"

    return weights


def config(*, pixels: Any = None, **leaves: Any) -> Callable[[Path], None]:
    """The golden model's config with other leaves in its text tower, or for its pixels."""

    def act(folder: Path) -> None:
        content = json.loads((GOLDEN / "fade-golden.json").read_text())
        model = content.get("model_cfg", content)
        model["text_cfg"].update(leaves)
        whole = {"model_cfg": model, "preprocess_cfg": pixels}
        (folder / "model.json").write_text(json.dumps(whole))
        model = Encoder.load(str(folder / "model.json"), "seeded", gem=GemConfig(2))
        model.encode_texts(["a photo of a nut."])

    return act


def model_folder(folder: Path) -> None:
    """As from a hub: a folder with a config of its own."""
    content = json.loads((GOLDEN / "fade-golden.json").read_text())
    content = content if "model_cfg" in content else {"model_cfg": content, "preprocess_cfg": {}}
    content["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    Encoder.load(f"local-dir:{folder}", "seeded", gem=GemConfig(2))


def zipped(
    name: str, data: bytes = b"{}", compression: int = zipfile.ZIP_STORED, mode: int = 0o644
) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        with zipfile.ZipFile(folder / "x.fade", "w") as archive:
            entry = zipfile.ZipInfo(name)
            entry.external_attr, entry.compress_type = mode << 16, compression
            archive.writestr(entry, data)
        Bundle(folder / "x.fade")

    return act


def foreign_receipt(folder: Path) -> None:
    frame = pd.DataFrame({"space": ["x"], "key": [1], "crc": ["x"]})
    write_table(frame, folder / TEST.path, spaces=[{"label": "x"}], against=[])
    read_receipt(TEST, folder)


def squeezed_classifier(folder: Path) -> None:
    np.savez_compressed(folder / "x.npz", weights=np.zeros(1_000_000))
    load_classifier(folder / "x.npz")


def classifier(**arrays: Any) -> Callable[[Path], None]:
    """The text classifier ``average`` of two numbers, with other arrays."""

    def act(folder: Path) -> None:
        sound = {"dimension": np.array(2), "normal": np.ones(2), "abnormal": np.ones(2)}
        entries = {"schema_version": np.array(1), "name": np.array("average"), **sound, **arrays}
        np.savez(folder / "x.npz", **entries)
        load_classifier(folder / "x.npz")

    return act


def promised_array(folder: Path) -> None:
    """A header of 128 GiB, and no numbers."""
    header, data = {"descr": "<f4", "fortran_order": False, "shape": (1 << 33, 4)}, io.BytesIO()
    np.lib.format.write_array_header_2_0(data, header)
    with zipfile.ZipFile(folder / "x.npz", "w") as archive:
        archive.writestr("normal.npy", data.getvalue())
    load_classifier(folder / "x.npz")


def threshold(**leaves: Any) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        sound = Threshold("a", 1, 0, 0.5, 7, "training", 3, "")
        text = json.dumps({"schema": 1, "thresholds": [asdict(sound) | leaves]})
        (folder / "thresholds.json").write_text(text)
        read_thresholds(folder / "thresholds.json")

    return act


def summary(row: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        header = "category,shots,full_image_auroc_mean,full_image_auroc_std,schema"
        (folder / "summary.csv").write_text(f"{header}\n{row},1\n")
        read_summary(folder)

    return act


def new_images(name: str, make: Callable[[Path], None] = lambda _: None) -> Callable[[Path], None]:
    """What ``fade predict`` does with a folder of one image."""

    def act(folder: Path) -> None:
        make(folder)
        for found in find_images([str(folder / name) if name else ""]):
            open_picture(found, 0, False)

    return act


def piped(name: str, read: Callable[[Path], Any]) -> Callable[[Path], None]:
    """A pipe, which nobody writes into, under a file's name."""

    def act(folder: Path) -> None:
        os.mkfifo(folder / name)
        read(folder / name)

    return act


def deep_json(folder: Path) -> None:
    (folder / "x.json").write_text("[" * 100_000)
    read_json(folder / "x.json")


def not_utf8(folder: Path) -> None:
    root = lay(folder / "images", whole())
    try:
        with open(os.fsencode(root) + b"/a/test/good/\xff.png", "wb"):
            pass
    except OSError:
        pytest.skip("this file system takes no such name")
    read_dataset("mvtec", root)


def no_data(folder: Path) -> None:
    read_dataset("mvtec", folder / "nowhere")


def visa(folder: Path) -> str:
    text = "object,split,label,image,mask\na,test,norrmal,t/0.png,\n"
    return manifest(folder, {"split_csv/1cls.csv": text.encode(), "t/0.png": picture()}, "visa")


def bare_csv(folder: Path) -> None:
    read_dataset("csv", lay(folder, {"manifest.csv": b""}))


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
    Case("a progressive JPEG of 1000 scans", REFUSED[3], "more than 64 scans", with_image(scans(1000))),
    Case("a PNG of endless small chunks", REFUSED[3], "chunks, which can take minutes",
         with_image(png_of(png_chunk(b"abCd", b"") * 20_000))),
    Case("an animated GIF", REFUSED[3], "has several frames", with_image(animated())),
    Case("floating-point pixels", REFUSED[3], "floating-point pixels", with_image(floating())),
    Case("floating-point pixels of 16 or 64 bits", REFUSED[3], "not floating-point", decoded(
        lambda: tiff(np.zeros((4, 4), np.float16))
    )),
    Case("whole numbers below 0", REFUSED[3], "values from -24", decoded(
        lambda: tiff(np.full((4, 4), -24, np.int8))
    )),
    Case("a TIFF of 16 bits in uncompressed planes", REFUSED[3], "channels in planes", decoded(planes)),
    Case("a PNG with fewer rows than it says", REFUSED[3], "pixels are missing", decoded(
        lambda: pixels(0, 1)
    )),
    Case("a JPEG cut in half and closed", REFUSED[3], "pixels are missing", decoded(closed_jpeg)),
    Case("a half-copied JPEG, its end in zeros", REFUSED[3], "its end marker is missing", decoded(
        lambda: half_copied(noise("JPEG"), 0.7)
    )),
    Case("a half-copied PNG, its end in zeros", REFUSED[3], "the checksum of its IDAT data", decoded(
        lambda: half_copied(noise("PNG"), 0.7)
    )),
    Case("a PNG whose data have a wrong checksum", REFUSED[3], "the checksum of its IDAT data", decoded(
        flipped_png
    )),
    Case("a TIFF that lacks strips", REFUSED[3], "1 of 2 strips are missing", decoded(
        lambda: tiff_file(8, 8, 8, [bytes(32)], rows=4)
    )),
    Case("a half-copied BMP, its end in zeros", WARNING, "image ends in zeros", with_image(
        half_copied(picture(200, (64, 64), "BMP"), 0.7)
    )),
    Case("a half-copied lossy WebP, its end in zeros", REFUSED[3], "it ends in zeros", decoded(
        lambda: half_copied(noise("WEBP"), 0.7)
    )),
    Case("a TIFF of 12 bits a sample", TAKEN, "", with_image(
        tiff_file(8, 8, 12, [pack_bits(np.full((8, 8), 4000), 12)])
    )),
    Case("a TIFF of 10 or 14 bits a sample", REFUSED[3], "a kind that is not read", decoded(
        lambda: tiff_file(8, 8, 14, [pack_bits(np.full((8, 8), 4000), 14)])
    )),
    Case("12 bits in a PNG of 16 that says so (sBIT)", TAKEN, "", with_image(
        png_file(np.full((8, 8), 4000), chunks=[(b"sBIT", bytes([12]))])
    )),
    Case("12 bits in a PNG of 16 that does not say so", WARNING, "read as nearly black", with_image(
        png_file(np.full((8, 8), 4000))
    )),
    Case("colours of 12 bits in 16", REFUSED[3], "colours of 12 bits in 16", decoded(
        lambda: png_file(np.full((8, 8, 3), 4000), chunks=[(b"sBIT", bytes([12] * 3))])
    )),
    Case("an EXIF orientation that is not applied", WARNING, "is not applied", with_image(
        turned(3, (12, 12))
    )),
    Case("a mask drawn on the upright image", REFUSED[3], "set dataset.exif_rotation to", with_files({
        "a/test/hole/0.png": turned(6, (12, 8)), "a/ground_truth/hole/0_mask.png": mask(255, (8, 12)),
    })),
    Case("a PNG without its palette", REFUSED[3], "a palette that it lacks", with_image(pixels(3, 2))),
    Case("a PNG with colours beyond its palette", REFUSED[3], "its palette ends at", decoded(
        lambda: pixels(3, 2, 4, bytes(9))
    )),
    Case("a JPEG that is called .png", TAKEN, "", with_image(picture(3, form="JPEG"))),
    Case(
        "a document among the images", TAKEN, "", with_files({"a/test/good/notes.txt": b"text"})
    ),
    Case("a HEIC image among the images", WARNING, "image is of a kind that is not read", with_files(
        {"a/test/good/1.heic": b"whatever"}
    )),
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
    Case("a category called mean and a space", REFUSED[3], "the name of the averages", with_files(
        {"mean /test/good/0.png": picture(8)}
    )),
    Case("a category of spaces", REFUSED[3], "is blank", with_files({" /test/good/0.png": picture(8)})),
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
        "a mask without an image", WARNING, "mask belongs to no image",
        with_files({"a/ground_truth/hole/7_mask.png": mask()}),
    ),
    Case(
        "a mask without an image whose name steers a terminal", WARNING, "mask belongs to no image",
        with_files({"a/ground_truth/hole/\x1b[2J\x1b]0;own\x07evil\nerror: fake.png": mask()}),
    ),
    Case(
        "an image of 0 bytes whose name steers a terminal, `on_bad_image: skip`", WARNING,
        r"\x1b[2Jred\nerror: fake.png is empty", lambda folder: manifest(
            folder, whole() | {"a/test/good/\x1b[2Jred\nerror: fake.png": b""}, policy="skip"
        ),
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
        "a mask called as its image in another Unicode form", REFUSED[3], "another Unicode form",
        with_files({
            "a/test/hole/gr\u00f6\u00dfe.png": picture(8),
            "a/ground_truth/hole/gro\u0308\u00dfe.png": mask(),
        }),
    ),
    Case("a mask for two images of a folder", REFUSED[3], "is called as the mask of 0", with_files(
        {"a/test/hole/0_mask.png": picture(8)}
    )),
    Case("a mask beside its image", REFUSED[3], "looks like the mask of an image beside it", with_files(
        {"a/test/hole/0_label.png": mask(), "a/ground_truth/hole/0_mask.png": None}
    )),
    Case("a mask for two images of a CSV", WARNING, "mask is given to more than one image", table(
        HEADER + "t/0.png,a,test,scratch,m.png\nt/1.png,a,test,scratch,m.png\n",
        **{"t/1.png": picture(3)},
    )),
    Case("an image that is another's mask in a CSV", WARNING, "listed as the mask of another one", table(
        HEADER + "t/0.png,a,test,scratch,m.png\nm.png,a,test,scratch,\n"
    )),
    Case("an image that is its own mask in a CSV", REFUSED[3], "is the image itself", table(
        HEADER + "t/0.png,a,test,scratch,t/0.png\n"
    )),
    Case("a mask in no defect's folder", WARNING, "mask belongs to no image", with_files(
        {"a/ground_truth/0_mask.png": mask()}
    )),
    Case("good and bad images without train and test", REFUSED[3], "are not split", folders(
        "a/good/0.png", "a/bad/0.png"
    )),
    Case("folders called Train and Test", REFUSED[3], "rename a/Test to a/test", folders(
        "a/Train/good/0.png", "a/Test/good/0.png"
    )),
    Case("a folder called Ground_Truth", WARNING, "folder is not read", with_files(
        {"b/test/hole/0.png": picture(7), "b/Ground_Truth/hole/0_mask.png": mask()}
    )),
    Case(
        "a mask that is no image", REFUSED[3], "is not a readable image",
        with_files({"a/ground_truth/hole/0_mask.png": b"text"}),
    ),
    Case(
        "an all-zero mask of a defect image", WARNING, "mask without a defect pixel",
        with_files({"a/ground_truth/hole/0_mask.png": mask(0)}),
    ),
    Case(
        "a mask with defects of a good image", WARNING, "good image has a mask with defect",
        with_files({"a/ground_truth/good/0_mask.png": mask()}),
    ),
    Case("a mask of grey levels, not only 0 and 255", TAKEN, "", grey_mask),
    Case("a mask in RGB", TAKEN, "", red_mask),
    Case("a mask as a boolean array in a TIFF", TAKEN, "", meant(lambda marked: tiff(marked))),
    Case("a mask in the transparency of one colour", TAKEN, "", meant(lambda marked: encoded(
        Image.fromarray(np.dstack([np.full((*marked.shape, 3), 255), marked * 255]).astype(np.uint8))
    ))),
    Case("a mask in palette colours without black", TAKEN, "", meant(white_palette)),
    Case("a mask with blue for another kind of defect", WARNING, "colours without red", with_files({
        "a/ground_truth/hole/0_mask.png": encoded(red_and_blue(12)),
    })),
    Case("masks that are inverted", WARNING, "masks mark 100 % of their images", with_files({
        "a/test/hole/1.png": picture(8), "a/ground_truth/hole/1_mask.png": mask(),
    })),
    Case("one mask of three that is inverted", WARNING, "marked in 1 of 3 masks", with_files({
        "a/test/hole/1.png": picture(8), "a/ground_truth/hole/1_mask.png": mask(0),
        "a/test/hole/2.png": picture(7), "a/ground_truth/hole/2_mask.png": mask(0),
    })),
    # duplicates and labels
    Case(
        "a test image that is a training image", WARNING, "among the training images too",
        with_image(picture(1)),
    ),
    Case(
        "a training image that is there twice", WARNING, "counted as several shots",
        with_files({"a/train/good/2.png": picture(1)}),
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
        "a label that disagrees with the folder", WARNING, "disagrees with the image's folder",
        table(HEADER + "good/0.png,a,test,scratch,m.png\n"),
    ),
    Case("a folder called good and a space", TAKEN, "", with_files({"a/test/good /1.png": picture(8)})),
    Case("a folder whose name does not say good or defect", REFUSED[3], "rename the folder", with_files(
        {"a/test/true/0.png": picture(8)}
    )),
    Case("a label that does not say good or defect", REFUSED[3], "label 'false' does not say", table(
        HEADER + "t/0.png,a,test,false,\n"
    )),
    Case("a defect's images a folder deeper", REFUSED[3], "where nobody looks", with_files(
        {"a/test/dent/cam1/0.png": picture(8)}
    )),
    Case("a label in VisA's table but normal and anomaly", REFUSED[3], "must be normal", visa),
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
    # made on purpose
    Case("a JPEG in CMYK", TAKEN, "", decoded(lambda: moded("CMYK", "JPEG"))),
    Case("a PNG of 1 bit", TAKEN, "", decoded(lambda: moded("1"))),
    Case("grey with transparency", TAKEN, "", decoded(lambda: moded("LA"))),
    Case("a PNG with a palette", TAKEN, "", decoded(lambda: moded("P"))),
    Case("a PNG of 16 bits", TAKEN, "", decoded(lambda: grey16("PNG"))),
    Case("a TIFF of 16 bits", TAKEN, "", decoded(lambda: grey16("TIFF"))),
    Case(
        "a JPEG with broken EXIF data", TAKEN, "",
        decoded(lambda: moded("RGB", "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")),
    ),
    Case("a PNG whose text unfolds to 200 MB", REFUSED[3], "cannot be decoded", decoded(text_bomb)),
    Case("a header of 9,000 x 9,000 pixels, no data", REFUSED[3], "cannot be decoded", decoded(promised)),
    Case("a TIFF of several pages", REFUSED[3], "has several frames", decoded(pages)),
    Case(
        "PostScript that is called .png", REFUSED[3], "is not a readable image",
        with_image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n"),
    ),
    Case("a mask of 0 bytes", REFUSED[3], "is empty (0 bytes)", with_files(
        {"a/ground_truth/hole/0_mask.png": b""}
    )),
    Case("a pipe that is called .png", REFUSED[3], "is no plain file", pipe),
    Case("a name that is HTML", TAKEN, "", named("<img src=x onerror=alert(1)>.png")),
    Case("a name that steers a terminal", TAKEN, "", named("\x1b[31mred.png")),
    Case("a category that steers a terminal", TAKEN, "", with_files(
        {"\x9b31m/test/hole/0.png": picture(8)}
    )),
    Case("categories that differ only in case", REFUSED[3], "differ only in case", with_files(
        {"A/test/good/0.png": picture(8)}
    )),
    Case("a category called ..", REFUSED[3], "cannot be a folder's name", table(
        HEADER + "t/0.png,..,test,good,\n"
    )),
    Case("a link out of a CSV's folder", REFUSED[3], "outside the data set", linked_out),
    Case("NUL bytes in a CSV", REFUSED[3], "has 1 cell", table(HEADER.encode() + bytes(9))),
    Case("a CSV with a byte-order mark", TAKEN, "", table(
        b"\xef\xbb\xbf" + HEADER.encode() + b"t/0.png,a,test,good,\n"
    )),
    Case("a CSV in UTF-16", REFUSED[3], "is not UTF-8", table(HEADER.encode("utf-16"))),
    Case("a quote that is never closed", REFUSED[3], "no valid CSV", table(HEADER + '"t/0.png,a\n')),
    Case("a line break inside of a CSV's name", TAKEN, "", table(
        HEADER + '"t/two\nlines.png",a,test,good,\n', **{"t/two\nlines.png": picture(7)}
    )),
    Case("a cell of 200,000 characters", REFUSED[3], "no valid CSV", table(
        HEADER + "x" * 200_000 + ",a,test,good,\n"
    )),
    Case("a CSV of 100,000 columns", REFUSED[3], "does not know 'x'", table("x," * 99_999 + "x\n")),
    Case("a billion values by YAML aliases", REFUSED[2], "unfolds to more than", yaml_file(laughs)),
    Case("a key twice in params.yaml", REFUSED[2], "dataset is given twice", yaml_file(
        lambda text: text + "\ndataset: {}\n"
    )),
    Case("~ for the home folder in params.yaml", REFUSED[2], "~ is not read as your home", yaml_file(
        lambda text: text.replace("data/demo", "~/parts")
    )),
    Case("weights fade-demo with another model", REFUSED[2], "fit model.name fade-demo alone", yaml_file(
        lambda text: text.replace("name: fade-demo", "name: ViT-B-16")
    )),
    Case("`no` for true or false", REFUSED[2], "valid boolean (true or false), not 'no'", yaml_file(
        lambda text: text.replace("keep: true", "keep: no")
    )),
    Case("a number such as 1e-5, text in YAML 1.1", TAKEN, "", yaml_file(
        lambda text: text.replace("vision_multiplier: 3.5", "vision_multiplier: 1e-5")
    )),
    Case("a path with `${...}`", REFUSED[2], "write the path out", parameters(dataset__path="${x}/y")),
    Case("a factor of 1e308", REFUSED[2], "fusion.vision_multiplier", parameters(
        fusion__vision_multiplier=1e308
    )),
    Case("pooling over an even number of patches", REFUSED[2], "has no centre", parameters(
        vision__pooling=[2]
    )),
    Case("a radius below 0", REFUSED[2], "vision.radius", parameters(vision__radius=-1)),
    Case("a radius and turned references", REFUSED[2], "moves patches to other places", parameters(
        vision__radius=1, vision__transforms="rotations"
    )),
    Case("cosines of raw vectors", REFUSED[2], "cosines are of vectors of length 1", network(unit=False)),
    Case("a transform of references that does not exist", REFUSED[2], "vision.transforms", parameters(
        vision__transforms="spin"
    )),
    Case("a block that the network does not have", REFUSED[2], "block 99 is not in", network(
        layers=[99]
    )),
    Case("a norm of each layer, and the mean of layers", REFUSED[2], "mean of layers as they", network(
        layers=[0, 1], layer_fusion="mean", layer_norm=True
    )),
    Case("a size that is no multiple of a network's patch", REFUSED[2], "60 is no multiple", network(60)),
    Case("tiles larger than the image", REFUSED[2], "are larger than the image", network(tile=5)),
    Case("tiles not longer than twice their overlap", REFUSED[2], "longer than twice the", network(
        tile=4, overlap=2
    )),
    Case(
        "half of a file of `vision.encoder_weights`", REFUSED[4], "is cut short",
        half_of_a_network,
    ),
    Case("a tab in params.yaml", REFUSED[2], "is not valid YAML", yaml_file(lambda _: "a:\n\tb: 1\n")),
    Case("a Python object in params.yaml", REFUSED[2], "could not determine a constructor", yaml_file(
        lambda _: "dataset: !!python/object/apply:os.system ['true']\n"
    )),
    Case("a pipe in place of params.yaml", REFUSED[2], "is no plain file", piped(
        "params.yaml", load_params
    )),
    Case("YAML nested 3,000 deep", REFUSED[2], "is not valid YAML", yaml_file(lambda _: "[" * 3000)),
    Case("a category `no` without quotes, false in YAML 1.1", TAKEN, "", yaml_file(
        lambda text: text.replace("categories: null", "categories: [no]")
    )),
    Case("a NUL character in a path", REFUSED[2], "NUL", parameters(dataset__path="a\0b")),
    Case("prompts that are one text", REFUSED[3], "are a str", prompt_file(prompts('"abc"'))),
    Case("a key twice in a prompt file", REFUSED[3], "a key is given twice", prompt_file(
        '{"normal": {"prompts": ["a"]}, "normal": {"prompts": ["x"]}}'
    )),
    Case("half a character in a prompt", REFUSED[3], "half a character", prompt_file(
        prompts('["\\ud800"]')
    )),
    Case("a number of 5,000 digits in a prompt file", REFUSED[3], "is not JSON", prompt_file(
        '{"normal": ' + "9" * 5000 + "}"
    )),
    Case("JSON nested 100,000 deep", REFUSED[5], "cannot be read", deep_json),
    Case("weights that run a command when unpickled", REFUSED[4], "could run code", loads_nothing),
    Case("safetensors whose header is longer than the file", REFUSED[4], "is it complete?", load(
        safetensors(b"{}", 1 << 40)
    )),
    Case("safetensors whose header is no JSON", REFUSED[4], "is it complete?", load(
        safetensors(b"{{{{")
    )),
    Case("a model config that loads code from elsewhere", REFUSED[4], "trust_remote_code", config(
        hf_tokenizer_name="x/y", tokenizer_kwargs={"trust_remote_code": True}
    )),
    Case("a model folder that loads code from elsewhere", REFUSED[4], "trust_remote_code", model_folder),
    Case("a model config of 10^13 weights", REFUSED[4], "are built", config(layers=10**6, width=10**3)),
    Case("a model config of seven heads", REFUSED[4], "cannot build", config(heads=7)),
    Case("a model config of fewer tokens than its tokenizer has", REFUSED[4], "knows 100 tokens", config(
        vocab_size=100
    )),
    Case("a model config with a deviation of 0", REFUSED[4], "those of std above 0", config(
        pixels={"std": [0.5, 0, 0.5]}
    )),
    Case("a bundle with a path out of it", REFUSED[5], "none that", zipped("../evil")),
    Case("a bundle with a link in it", REFUSED[5], "none that", zipped("link", b"/etc", mode=0o120777)),
    Case("a bundle that unfolds to 64 MB", REFUSED[5], "none that", zipped(
        "prompts.json", bytes(1 << 26), zipfile.ZIP_DEFLATED
    )),
    Case("a receipt with other columns", REFUSED[5], "is no receipt", foreign_receipt),
    Case("a classifier that unfolds", REFUSED[5], "it is compressed", squeezed_classifier),
    Case("a classifier of another shape", REFUSED[5], "normal has shape (3,)", classifier(
        normal=np.ones(3)
    )),
    Case("a classifier of text", REFUSED[5], "holds <U1", classifier(abnormal=np.array(["a", "b"]))),
    Case("a classifier that holds NaN", REFUSED[5], "NaN or infinity", classifier(
        abnormal=np.array([1, np.nan])
    )),
    Case("an array's header that asks for 128 GiB", REFUSED[5], "there are 0", promised_array),
    Case("a threshold that is NaN", REFUSED[5], "finite number, not nan", threshold(image=float("nan"))),
    Case("a pixel threshold of 300", REFUSED[5], "a level from 0 to 255", threshold(pixel=300)),
    Case("a threshold from nowhere", REFUSED[5], "not 'weird'", threshold(source="weird")),
    Case("a text among a summary's numbers", REFUSED[5], "row 2: shots is 'x'", summary("a,x,0.5,0")),
    Case("1e400 in a summary", REFUSED[5], "a share from 0 to 1", summary("a,1,1e400,0")),
    # new images
    Case("a new image without a name", REFUSED[2], "name is empty", new_images("")),
    Case("a new image that is a pipe", REFUSED[3], "is no plain file", new_images(
        "x.png", lambda folder: os.mkfifo(folder / "x.png")
    )),
    Case("a new image that is a link to nothing", REFUSED[3], "is a link to nothing", new_images(
        ".", lambda folder: (folder / "x.png").symlink_to("nowhere")
    )),
    Case("a new image's name of 300 characters", REFUSED[3], "leads to no image", new_images("n" * 300)),
    # models, stores, results, parameters
    Case("a checkpoint of another architecture", REFUSED[4], "does not fit", load(other_architecture)),
    Case("a checkpoint of another activation", REFUSED[4], "trained with QuickGELU",
         load(other_activation)),
    Case("a SigLIP model", REFUSED[4], "no class token", named_model("ViT-B-16-SigLIP")),
    Case("a model by its name in transformers", REFUSED[4],
         "ViT-B-16-quickgelu and model.pretrained to openai",
         named_model("openai/clip-vit-base-patch16")),
    Case("weights of whole numbers", REFUSED[4], "is int8, where", load(quantised_weights)),
    Case("a prompt longer than the model reads", REFUSED[2], "tokens", long_prompt),
    Case("truncated weights", REFUSED[4], "is cut short", load(cut_weights)),
    Case("a web page in place of weights", REFUSED[4], "holds no weights but a text", load(web_page)),
    Case("a store of another schema version", REFUSED[5], "schema version 99", other_store),
    Case("results of another schema version", REFUSED[5], "schema version 99", other_results),
    Case("a damaged artefact", REFUSED[5], "delete it and run", cut_manifest),
    Case("a pipe in place of an artefact", REFUSED[5], "is no plain file", piped("a.json", read_json)),
    Case("a pipe in place of a table", REFUSED[5], "is no plain file", piped("a.csv", read_result)),
    Case("an index of 99,999,999 links", REFUSED[2], "2 to 1,024 links", large_index),
    Case("an unknown parameter", REFUSED[2], "did you mean shots", parameters(vision__shot=[1])),
    Case("a number as text", REFUSED[2], "evaluate.size", parameters(evaluate__size="256")),
    Case("an aspect that there is not", REFUSED[2], "'square', 'keep' or 'smaller_edge'", parameters(
        features__aspect="wide"
    )),
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
