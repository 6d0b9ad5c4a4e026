"""A headless Chromium driven through its debugging pipe: no driver, no port, no network."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 60.0
NAMED = {
    "button",
    "link",
    "slider",
    "combobox",
    "searchbox",
    "checkbox",
    "image",
    "table",
    "region",
    "dialog",
}
NARROW = """
  [...document.querySelectorAll("a, button, summary, select, input[type=range], input[type=search]")]
    .filter((one) => one.checkVisibility() && !one.closest("p") && !one.matches(".skip"))
    .map((one) => [one, one.getBoundingClientRect()])
    .filter(([, { width, height }]) => width < 24 || height < 24)
    .map(([one, { width, height }]) => `${one.textContent.trim()} ${width} x ${height}`)
"""


def _of_colours(name: str) -> str:
    """A script beside this file, with what ``colours.js`` knows."""
    shared, script = (
        Path(__file__).with_name(f"{one}.js").read_text("utf-8") for one in ("colours", name)
    )
    return f"(() => {{ {shared} const found = {script}; return found; }})()"


def find_browser() -> str | None:
    """The path of a Chromium or Chrome, if there is one."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


class Tab:
    """One open page.

    Attributes:
        said: lines that the page wrote to the console, uncaught errors and refused loads included.
        requested: addresses that the page asked for, without those of data within it.
    """

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read, self._number, self._rest = write, read, 0, b""
        self._session: str | None = None
        self._loaded = False
        self.said: list[str] = []
        self.requested: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """Send a command of the DevTools protocol and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            data = os.read(self._read, 1 << 20) if ready else b""
            if not data:
                raise TimeoutError("the browser does not answer")
            self._rest += data
        line, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, params: Any) -> None:
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            self.said.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.said.append(str(params["args"]))
        elif method == "Log.entryAdded":
            self.said.append(str(params["entry"]["text"]))
        elif method == "Network.requestWillBeSent":
            address = str(params["request"]["url"])
            if not address.startswith("data:"):
                self.requested.append(address)

    def size(self, width: int, height: int) -> None:
        """Lay the page out on a screen of so many pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
            mobile=width < 600,
        )  # fmt: skip

    def prefer(self, scheme: str) -> None:
        """Prefer the colour scheme light or dark."""
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    def open(self, address: str) -> float:
        """Load a page; the seconds that it took."""
        self._loaded, start = False, time.monotonic()
        self.call("Page.navigate", url=address)
        while not self._loaded:
            self._receive()
        return time.monotonic() - start

    def run(self, script: str) -> Any:
        """The value of an expression of JavaScript."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def until(self, condition: str, patience: float = 30) -> None:
        """Wait until an expression holds; the page may need an event, or a machine under load."""
        end = time.monotonic() + patience
        while not self.run(condition):
            assert time.monotonic() < end, f"{condition}: {self.said}"
            time.sleep(0.02)

    def pale(self) -> list[str]:
        """Visible texts that are hard to read: too little contrast, on grounds of plain colours."""
        return [str(text) for text in self.run(_of_colours("contrast"))]

    def narrow(self) -> list[str]:
        """Controls of fewer than 24 pixels in width or height, which a finger may miss."""
        return [str(text) for text in self.run(NARROW)]

    def frames(self) -> float:
        """The least contrast of a field's frame with what lies around it; WCAG 2.1 asks for 3."""
        return float(self.run(_of_colours("frames")))

    def letters(self, size: int) -> None:
        """Use letters of so many pixels, as a person who chose larger ones in the browser."""
        self.call("Page.setFontSizes", fontSizes={"standard": size, "fixed": size})

    def nameless(self) -> list[str]:
        """Roles of what a screen reader could call by no name: controls, pictures, tables."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        roles = [
            (node["role"]["value"], node.get("name", {}).get("value", "").strip())
            for node in nodes
            if not node["ignored"]
        ]
        assert NAMED & {role for role, _ in roles}
        return [role for role, name in roles if role in NAMED and not name]

    def screenshot(self) -> bytes:
        """What the screen shows, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


@contextlib.contextmanager
def browser(program: str, folder: Path) -> Iterator[Tab]:
    """Start a browser with an empty profile in a folder, and end it afterwards."""
    to_browser, from_browser = os.pipe(), os.pipe()
    # it reads from 3 and writes to 4, so that our own ends must lie above
    child_read, child_write = (
        fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (to_browser[0], from_browser[1])
    )
    actions = [
        (os.POSIX_SPAWN_DUP2, child_read, 3),
        (os.POSIX_SPAWN_DUP2, child_write, 4),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    command = [program, *FLAGS, f"--user-data-dir={folder / 'profile'}"]
    pid = os.posix_spawn(program, command, dict(os.environ), file_actions=actions, setpgroup=0)
    for fd in (child_read, child_write, to_browser[0], from_browser[1]):
        os.close(fd)
    try:
        yield Tab(to_browser[1], from_browser[0])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(to_browser[1])
        os.close(from_browser[0])
