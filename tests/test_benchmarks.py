"""The benchmarks run, and what they measure agrees: each asserts that both sides are equal."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import NAMES, main
from benchmarks.before import machine_class, measured_before, sections, with_section
from benchmarks.machine import Machine
from benchmarks.peer_images import DATA, Amount, write_images
from benchmarks.peer_methods import METHODS
from benchmarks.peers import our_leaves
from benchmarks.table import Row, alternate, markdown, peak_megabytes
from cache.layout import content_key
from fade.sampling import reference_order
from fade.types import Trial
from pipeline.artefacts.tables import read_csv
from pipeline.config.load import parse_params
from pipeline.config.presets.catalogue import find_preset, render, substitute
from pipeline.config.rules import Rule
from pipeline.config.yaml12 import load_yaml
from tests.projects import GOLDEN, changed, golden_params, run_stages


def test_quick_run_of_the_light_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.machine.SIDE", 256)
    monkeypatch.setattr("benchmarks.machine.BYTES", 1 << 22)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    file = tmp_path / "results.md"
    light = ("store", "neighbours", "sweep", "metrics")
    assert set(light) < set(NAMES)
    main(["--quick", "--output", str(file), *(f"--only={name}" for name in light)])
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ
    text = file.read_text(encoding="utf-8")
    assert text.strip() == capsys.readouterr().out.strip()
    for stage in ("store, read", "nearest neighbours", "sweep, shots 1, 2, 4", "pixel metrics"):
        assert f"| {stage}" in text
    assert "GFLOP/s" in text
    assert "torch" in text


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_one_that_fails_leaves_the_others(
    kind: type[BaseException],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(machine: Machine, quick: bool) -> list[Row]:
        raise kind("no room\nat all")

    monkeypatch.setattr(
        Machine, "measure", classmethod(lambda cls: Machine(1e9, 1e9, 1e9, 1e9, 1e9))
    )
    monkeypatch.setattr("benchmarks.store.measure", broken)
    monkeypatch.setattr("benchmarks.text.measure", lambda *given: [Row("text", 1, None, "-", True)])
    file = tmp_path / "results.md"
    with pytest.raises(SystemExit, match="1"):
        main(["--quick", "--output", str(file), "--only=store", "--only=text"])
    text = file.read_text(encoding="utf-8")
    assert f"**store failed: {kind.__name__}: no room**" in text
    assert "| text | 1 s |" in text
    assert "Seconds of each benchmark, and of processor time: store 0 (0), text 0 (0)." in text


def test_medians_and_ratios() -> None:
    pair = alternate(lambda: "ours", lambda: "plain", 3)
    assert (pair.our_output, pair.plain_output) == ("ours", "plain")
    rows = [Row("a", 0.5, 2.0, "ratio 4", True, (0.5, "matmul")), Row("b", 1.0, None, "-", False)]
    assert rows[0].ratio == 4
    shown = markdown(rows).splitlines()
    assert shown[2] == "| a | 500 ms | 2 s | 4.00 | 50 % of matmul | ratio 4 | yes |"
    assert shown[3] == "| b | 1 s | - | - | - | - | no |"


def test_peak_is_of_the_code_alone() -> None:
    small, large = (peak_megabytes(f"x = bytearray({n} << 20)") for n in (1, 100))
    assert small < 60
    assert 80 < large - small < 120


def test_scale_of_light_stages(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from benchmarks.scale import main as measure

    stages = [f"--stage={name}" for name in ("scan", "manifest")]
    measure(["stages", "--images=60", "--factor=2", f"--place={tmp_path}", *stages])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["scan", "manifest"]
    assert all(line.endswith("| yes |") for line in lines[2:])


def test_scale_of_the_stores_care(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from benchmarks.scale import CARE
    from benchmarks.scale import main as measure

    measure(["store", "--images=300", "--factor=2", f"--place={tmp_path}"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == list(CARE)
    assert all(line.endswith("| yes |") for line in lines[2:])


def test_scale_of_the_served_index(golden_checkpoint: Path, tmp_path: Path) -> None:
    from benchmarks.scale_index import measure_serve

    params = changed(
        golden_params("fewshot1_both_seed0", golden_checkpoint),
        features__segmentation_sizes=[96], evaluate__size=64, dataset__limit=2,
    )  # fmt: skip
    folder = run_stages(tmp_path, params)
    lines = list(measure_serve(3000, lambda: nullcontext(folder)))
    assert [line[0] for line in lines[:3]] == ["open the run", "largest memory of it", "first page"]
    assert lines[-1][0] == "counts of a category"


def test_scale_of_the_stores_index(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from benchmarks.scale import main as measure

    measure(["rows", "--images=600", f"--place={tmp_path}"])
    lines = capsys.readouterr().out.splitlines()[2:]
    # twenty bytes of a key, twelve of its place
    assert "| index in memory, a row | 32 bytes | 40 bytes | yes |" in lines


def test_scale_of_fine_evaluations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import scale_evaluate
    from pipeline.artefacts.catalogue import METRICS
    from pipeline.config.load import load_params
    from stages import evaluate

    monkeypatch.setattr(scale_evaluate, "PARTS", 2)
    scale_evaluate.write_run(tmp_path, 40)
    monkeypatch.chdir(tmp_path)
    evaluate.run(load_params())
    parts = read_csv(METRICS.path).set_index("category")
    assert float(parts["full_pixel_auroc"]["part01"]) > 0.8


@pytest.mark.parametrize("rule", ["mutual", "subspace"])
def test_scale_of_a_batch(rule: Rule) -> None:
    from benchmarks.batch import alone, score

    here, threads = (score(rule, 12, 2, 8, alone(workers)) for workers in (0, 2))
    assert here.digest == threads.digest
    assert here.pairs == (66 if rule == "mutual" else 1)


def test_rows_beside_the_committed_results() -> None:
    machine = "- Machine: A Chip, 2 cores, torch on 2 threads, Linux, load {} when measured."
    rows = [
        Row("fast", 0.25, None, "-", True), Row("slow", 2.6, None, "-", True),
        Row("room", 1300, None, "-", True, unit="MB"), Row("new", 1, None, "-", True),
    ]  # fmt: skip
    taken = [Row("fast", 0.5, None, "-", True), Row("slow", 2, None, "-", True),
             Row("room", 1000, None, "-", True, unit="MB")]  # fmt: skip
    before = measured_before(f"{machine.format('0.1')}\n\n{markdown(taken)}")
    assert before == {"fast": (0.5, "s"), "slow": (2, "s"), "room": (1000, "MB")}
    found = [line.split(" | ")[-1] for line in markdown(rows, before).splitlines()[2:]]
    assert found == ["0.50x |", "1.30x, slower |", "1.30x, larger |", "- |"]
    other = machine.replace("Chip", "Chip with AVX512+bf16").format("7.5")
    assert machine_class(other) == "A Chip with AVX512+bf16, 2 cores, torch on 2 threads, Linux"


def test_a_full_run_replaces_the_results_of_its_class_of_machine_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Machine, "measure", classmethod(lambda cls: Machine(1e9, 1e9, 1e9, 1e9, 1e9))
    )
    monkeypatch.setattr("benchmarks.__main__.NAMES", ("text",))
    file = tmp_path / "results.md"
    monkeypatch.setattr("benchmarks.__main__.RESULTS", file)
    file.write_text(with_section("", "Z Chip", "as it was"), encoding="utf-8")
    for seconds, shown in ((2, "| yes |"), (3, "| yes | 1.50x, slower |")):
        row = Row("text", seconds, None, "-", True)
        monkeypatch.setattr("benchmarks.text.measure", lambda *given, row=row: [row])
        main([])
        found = sections(file.read_text(encoding="utf-8"))
        own, other = found
        assert f"| text | {seconds} s | - | - | - | - {shown}" in found[own]
        assert found[other] == "as it was"
        assert ("Nothing to compare with" in found[own]) == (seconds == 2)


@pytest.mark.parametrize("name", METHODS)
def test_methods_of_peers_are_runs_of_ours(name: str) -> None:
    method = METHODS[name]
    text = render(find_preset(method.preset), data="images")
    leaf, value = method.changed
    for leaves in (our_leaves(method), {**our_leaves(method), leaf: value}):
        params = parse_params(load_yaml(substitute(text, leaves)), name)
        assert params.trials() == [Trial(method.shots, 0)]


@pytest.mark.parametrize("method", ["musc", "subspacead"])
def test_plain_steps_of_peers_give_the_numbers_of_the_authors(method: str, tmp_path: Path) -> None:
    from PIL import Image

    from benchmarks.peer_plain import finish_subspace, load_network, scored

    images = tmp_path
    for file in (GOLDEN / "images" / "weave").glob("t*/*/*.png"):
        copy = images / file.relative_to(GOLDEN / "images")
        copy.parent.mkdir(parents=True, exist_ok=True)
        smaller = Image.open(file).convert("RGB").resize((200, 200), Image.Resampling.BICUBIC)
        smaller.save(copy)
    train = sorted((images / "weave" / "train").glob("*/*"))
    tiny = GOLDEN / "vision" / "tiny-dinov2"
    job = {
        "method": method, "images": str(images), "size": 168, "batch": 8, "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225], "weights": str(tiny / "model.safetensors"),
        "settings": {"network": f"local-dir:{tiny}", "blocks": [1, 3, 5], "pooling": [1, 3]},
        "references": {"weave": [str(train[n]) for n in reference_order(len(train), 1)[:4]]},
    }  # fmt: skip
    tests, patches = scored(job, "weave", load_network(job))
    names = [file.relative_to(images).with_suffix("").as_posix() for file in tests]
    if method == "musc":
        golden = np.load(GOLDEN / "vision" / "musc.npz")
        assert [str(name) for name in golden["weave|images"]] == names
        wanted = golden["weave|patch_scores"].reshape(patches.shape)
    else:
        golden = np.load(GOLDEN / "vision" / "subspacead_k4_seed1_ev99.npz")
        wanted = np.stack([golden[f"{name}|residual"].ravel() for name in names])
        scores = np.array([finish_subspace(one, 168)[1] for one in patches])
        expected = np.array([golden[f"{name}|score"] for name in names])
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4 * expected.max())
    np.testing.assert_allclose(patches, wanted, rtol=0, atol=1e-4 * wanted.max())


def test_more_images_for_peers_are_others(tmp_path: Path) -> None:
    categories = sorted(path for path in DATA.iterdir() if path.is_dir()) if DATA.exists() else []
    if not categories:
        pytest.skip("shared/data is not there")
    there = {part: len(list(categories[0].glob(f"{part}/*/*"))) for part in ("train", "test")}
    count = len(categories) + 1
    amount = Amount(count, there["train"] + 1, there["test"] + 1)
    images = write_images(tmp_path, amount)
    files = [file for part in ("train", "test") for file in images.glob(f"*/{part}/*/*")]
    contents = {content_key(file.read_bytes()) for file in files}
    assert len(files) == len(contents) == count * (there["train"] + there["test"] + 2)
    masks = len(list(images.glob("*/ground_truth/*/*")))
    assert masks == len(list(images.glob("*/test/defect/*")))


def test_script_for_a_gpu_on_the_cpu(tmp_path: Path) -> None:
    from benchmarks.gpu import SMALL, parts
    from benchmarks.gpu import main as measure

    measure(["--device=cpu", f"--output={tmp_path / 'gpu.md'}"])
    text = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "failed" not in text
    for part in parts("cpu", SMALL):
        assert f"- {part} took" in text
    for row in (
        "encoder bf16", "features in fp32, off float32 on the CPU", "extract, 2 PNG files",
        "page-locked beside pageable", "neighbours, 64 in 128 patches, beside the CPU",
        "mutual distances of 3 pairs", "beside timm alone", "tf_efficientnet_lite0 at 64",
    ):  # fmt: skip
        assert row in text


def test_script_for_a_gpu_goes_on_and_ends_in_time() -> None:
    from benchmarks.gpu import run_parts

    def half() -> Iterator[Row]:
        yield Row("before", 1, None, "-", True)
        raise ValueError("no compiler")

    def endless() -> list[Row]:
        while True:
            time.sleep(0.01)

    rows: list[Row] = []
    given = {"half": half, "endless": endless, "late": lambda: []}
    told = [line.replace("after 1 s", "after 0 s") for line in run_parts(given, rows, 0.2 / 60)]
    assert [row.stage for row in rows] == ["before"]
    assert told == [
        "half failed after 0 s: ValueError: no compiler",
        "endless failed after 0 s: TimeoutError: the time for all parts is over",
        "late was not begun: 0.00333333 minutes were over",
    ]
