"""A finished run of the demo's model on made-up images, and a server of it."""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from pipeline.config.load import load_params
from pipeline.config.originals import original
from pipeline.serve.access import Access
from pipeline.serve.app import create_app
from pipeline.serve.limits import Limits
from pipeline.serve.server import bound_socket, make_server
from pipeline.serve.site import RunSite

ROOT = Path(__file__).parent.parent
STAGES = (
    "manifest", "select", "extract", "text", "bank", "stream", "score_language", "score_vision",
    "evaluate",
)  # fmt: skip
SIDE = 256


def _images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train/good", 8), ("test/good", 4), ("test/hole", 4)):
        (folder / part).mkdir(parents=True)
        for i in range(count):
            coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
            coarse.resize((SIDE, SIDE)).save(folder / part / f"{i:03}.png")


@contextlib.contextmanager
def project() -> Iterator[Path]:
    """A finished run of the demo's model on made-up images."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _images(folder / "images" / "thing")
        content = yaml.safe_load(original("params.yaml"))
        content["dataset"] |= {"format": "mvtec", "path": "images", "watch": "images"}
        content["vision"] |= {"shots": [4], "seeds": [0]}
        content["threshold"]["images"] = 2
        content["cluster"]["kind"] = "synchronous"
        (folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        (folder / ".dvc").mkdir()
        os.chdir(folder)
        try:
            for stage in STAGES:
                importlib.import_module(f"stages.{stage}").run(load_params())
            yield folder
        finally:
            os.chdir(before)


@contextlib.contextmanager
def server(folder: Path) -> Iterator[int]:
    """The port of a server in a thread."""
    limits = Limits()
    serving = make_server(create_app(RunSite(folder), Access("127.0.0.1"), limits), limits)
    with bound_socket("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=serving.serve_on, args=(listening,))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            serving.should_exit = True
            thread.join()
