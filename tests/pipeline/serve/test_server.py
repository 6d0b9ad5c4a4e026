"""The server as a process: it starts, keeps what it was told, ends in order, and waits for nobody."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from fade.errors import ParameterError
from pipeline.artefacts.labels import read_labels
from pipeline.cli.main import main
from pipeline.serve.access import Access
from pipeline.serve.app import create_app
from pipeline.serve.limits import Limits
from pipeline.serve.server import bound_socket, make_server
from pipeline.serve.site import RunSite
from tests.interpreter import Interpreter
from tests.projects import ROOT

IMPATIENT = Limits(header_seconds=0.3, body_seconds=0.3, answer_seconds=0.2, idle_seconds=0.3)


@pytest.fixture(scope="module")
def folder(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("server") / "line3"
    shutil.copytree(finished, copy)
    return copy


def started(folder: Path, interpreter: Interpreter) -> tuple[subprocess.Popen[str], str]:
    command = [
        str(interpreter.python),
        "-m",
        "pipeline.cli.main",
        "serve",
        str(folder),
        "--port",
        "0",
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found, line + process.stderr.read()
    return process, found[0]


def ask(address: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def test_a_killed_server_loses_no_label_and_an_ended_one_ends_in_order(
    folder: Path, interpreter: Interpreter
) -> None:
    process, address = started(folder, interpreter)
    assert ask(f"{address}/health")["status"] == "ok"
    page = ask(f"{address}/images?label=good")
    image = page["images"][0]
    ask(f"{address}/labels", {"id": image["id"], "run": page["run"], "label": "anomalous"})
    for one in psutil.process_iter(["cmdline"]):
        if str(folder) in (one.info["cmdline"] or []) and one.pid != process.pid:
            one.kill()
    process.wait(30)
    assert process.stderr is not None
    process.stderr.close()
    process, address = started(folder, interpreter)
    assert read_labels(folder / "labels.csv") == {image["path"]: True}
    (again,) = ask(f"{address}/images?label=corrected")["images"]
    assert (again["path"], again["label"]) == (image["path"], "anomalous")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")


@pytest.fixture(scope="module")
def impatient(folder: Path) -> Iterator[tuple[str, int]]:
    """The place of a server that waits for nobody."""
    patch = pytest.MonkeyPatch()
    patch.setattr(RunSite, "load", lambda site: None)
    server = make_server(create_app(RunSite(folder), Access("127.0.0.1"), IMPATIENT), IMPATIENT)
    listening = bound_socket("127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_on, args=(listening,), daemon=True)
    thread.start()
    yield listening.getsockname()[:2]
    server.should_exit = True
    thread.join(20)
    listening.close()
    patch.undo()


FORM = b"Content-Type: multipart/form-data; boundary=b\r\n"
HEAD = b"POST /predict?category=weave HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"GET /health HTTP/1.1\r\nHo", b""),
        (HEAD + FORM + b"Content-Length: 1000\r\n\r\n--b", b"408"),
        (HEAD + b"Content-Length: 99999999999\r\n\r\n", b"413"),
        (HEAD + b"Host: 127.0.0.1\r\n\r\n", b"400"),
        (b"\x16\x03\x01 no HTTP\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 100_000, b"400"),
    ],
)  # fmt: skip
def test_slow_and_odd_clients_are_cut_off(
    impatient: tuple[str, int], sent: bytes, answer: bytes
) -> None:
    with socket.create_connection(impatient, 10) as client:
        start = time.monotonic()
        client.sendall(sent)
        received = b""
        try:
            while part := client.recv(65536):
                received += part
        except ConnectionResetError:
            pass
        assert time.monotonic() - start < 9  # it was not our own patience that ended
    assert received.startswith(b"HTTP/1.1 " + answer) if answer else received == b""
    assert b"Traceback" not in received


def test_a_form_that_is_none_leaves_no_line(
    impatient: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(impatient, 10) as client:
        client.sendall(HEAD + FORM + b"Content-Length: 7\r\n\r\n--c\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 400")
    assert not caplog.records


def test_a_server_goes_on_beside_slow_clients(impatient: tuple[str, int]) -> None:
    waiting = [socket.create_connection(impatient, 10) for _ in range(20)]
    try:
        assert ask(f"http://127.0.0.1:{impatient[1]}/health")["status"] == "ok"
    finally:
        for one in waiting:
            one.close()


def test_an_address_that_is_taken_is_said() -> None:
    with (
        bound_socket("127.0.0.1", 0) as taken,
        pytest.raises(ParameterError, match="choose another --host or --port"),
    ):
        bound_socket("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--host", "0.0.0.0"], 2, "give --token"),
        (["--token", "short"], 2, "16 ASCII characters"),
        (["nothing-here"], 2, "name a project's folder or a bundle"),
        (["params.yaml"], 5, "params.yaml is not a valid bundle"),
        (["--weights", "w.pt"], 2, "go with a bundle"),
        (["--shots", "99"], 2, "there is no trial with shots 99"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    folder: Path, arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as ended:
        main(["serve", *arguments])
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (code, 1)
    assert says in said


def test_a_lacking_extra_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cli.serve.NEEDED", ("fastapi", "no_such_package"))
    with pytest.raises(SystemExit) as ended:
        main(["serve", str(folder)])
    assert ended.value.code == 2
    assert "no_such_package: install them with `pip install 'fade-pipeline[serve]'`" in (
        capsys.readouterr().err
    )
