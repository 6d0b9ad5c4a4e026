"""Nothing is sent where it is refused, however libraries would send it."""

from __future__ import annotations

import ast
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from fade.network import NoNetworkError, wanted_network, without_network
from tests.webserver import counting_server


def test_urls_and_hubs() -> None:
    from huggingface_hub import hf_hub_download

    with counting_server() as (url, calls):
        with without_network():
            for call in (
                lambda: urllib.request.urlopen(url),
                lambda: hf_hub_download("org/none", "config.json", endpoint=url),
            ):
                with pytest.raises(Exception, match=r"\w") as caught:
                    call()
                assert wanted_network(caught.value)
        assert not calls
        with pytest.raises(Exception, match="404") as caught:
            urllib.request.urlopen(url)
        assert not wanted_network(caught.value)
        with pytest.raises(Exception, match=r"\w"):
            hf_hub_download("org/none", "config.json", endpoint=url)
        assert len(calls) > 1


def test_names_are_not_looked_up_and_this_machine_is_free() -> None:
    with without_network():
        with pytest.raises(NoNetworkError):
            socket.getaddrinfo("localhost", 80)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out, pytest.raises(NoNetworkError):
            out.sendto(b"x", ("127.0.0.1", 9))
        one, other = socket.socketpair()
        one.send(b"x")
        assert other.recv(1) == b"x"
        one.close()
        other.close()
        found: list[object] = []
        thread = threading.Thread(target=lambda: found.extend(socket.getaddrinfo("127.0.0.1", 80)))
        thread.start()
        thread.join()
        assert found  # other threads go on
    assert socket.getaddrinfo("127.0.0.1", 80)


RUNTIME = """
import numpy as np
from fade.portable.builder import GraphBuilder, WeightsFile
from fade.portable.session import GraphSession

builder = GraphBuilder(WeightsFile())
doubled = builder.op("Mul", "x", builder.constant(np.float32(2)))
session = GraphSession(builder.finish([("x", np.float32, ["n"])], {"doubled": doubled}), b"")
assert session.run({"x": np.array([1, 3], np.float32)}, ["doubled"])[0].tolist() == [2.0, 6.0]
"""


def test_onnxruntime_notes_nothing_for_its_maker(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTHONHOME")}
    kept = {name: value for name, value in kept.items() if not name.startswith(("ORT_", "XDG_"))}
    subprocess.run([sys.executable, "-c", RUNTIME], env=kept | {"HOME": str(tmp_path)}, check=True)
    assert not list(tmp_path.rglob("*"))  # neither a number of this machine nor what it ran


def test_onnxruntime_is_imported_by_those_who_told_it_before() -> None:
    root, found = Path(__file__).parents[2], []
    for file in sorted(root.glob("fade/**/*.py")) + sorted(root.glob("pipeline/**/*.py")):
        tree = ast.parse(file.read_text("utf-8"))
        names = [
            one for node in ast.walk(tree) if isinstance(node, ast.Import) for one in node.names
        ]
        if not any(one.name == "onnxruntime" for one in names):
            continue
        found.append(file.name)
        first = [one for node in tree.body for one in modules_of(node)]
        package = file.parent == root / "fade" / "portable"
        assert package or any(name.startswith("fade.portable") for name in first), file
    assert {"session.py", "bundle_graphs.py"} <= set(found)


def modules_of(node: ast.stmt) -> list[str]:
    """The modules that a statement imports."""
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [one.name for one in node.names] if isinstance(node, ast.Import) else []
