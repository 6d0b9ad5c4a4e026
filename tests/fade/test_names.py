"""Names of models that are none: the message names the cause and what to write instead."""

from __future__ import annotations

import pytest

from fade.encoder import Encoder
from fade.encoder.names import check_name
from fade.errors import ModelError


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ViT-B-16-SigLIP", "is a SigLIP model: it pools by attention and has no class token"),
        ("ViT-SO400M-14-SigLIP2", "is a SigLIP model"),
        ("google/siglip-base-patch16-224", "is a SigLIP model"),
        ("hf-hub:timm/ViT-B-16-SigLIP", "is a SigLIP model"),
        ("openai/clip-vit-base-patch32", "to ViT-B-32-quickgelu and model.pretrained to openai"),
        ("hf-hub:openai/clip-vit-large-patch14", "set model.name to ViT-L-14-quickgelu and"),
        ("ViT-B/32", "set model.name to ViT-B-32-quickgelu and model.pretrained to openai"),
        ("ViT-L/14@336px", "set model.name to ViT-L-14-336-quickgelu and"),
        ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "ViT-B-32 and model.pretrained to laion2b_s34b_b79k"),
        ("someone/clip", "write hf-hub:someone/clip"),
        ("ViT-B-33", "did you mean ViT-B-32"),
        ("EVA02-B-16", "its vision tower is timm's eva02_base_patch16_clip_224"),
        ("RN50", "its vision tower is a ResNet"),
        ("coca_ViT-B-32", "it pools by attention"),
        ("ViT-L-14-CLIPA", "it pools by 'avg'"),
    ],
)  # fmt: skip
def test_the_true_cause_and_the_way_out(name: str, says: str) -> None:
    with pytest.raises(ModelError) as refused:
        Encoder.load(name, "openai")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_weights_by_the_name_of_a_repository() -> None:
    with pytest.raises(ModelError, match="to ViT-B-16-quickgelu and"):
        Encoder.load("ViT-B-16", "openai/clip-vit-base-patch16")


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-L-14-quickgelu", "ViT-B-16-plus-240", "x.json"])
def test_plain_names_pass(name: str) -> None:
    check_name(name)
