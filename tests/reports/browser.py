"""Chromium without a window, told what to do over a pipe in its DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/ describes the methods and events. Each message is JSON that ends
with a zero byte (``--remote-debugging-pipe``), so nothing else has to be installed.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 120.0  # seconds for one answer, on a busy machine
_FROM_US, _TO_US = 3, 4  # descriptors that Chromium reads commands from and writes answers to


class Browser:
    """A page that Chromium has open.

    Attributes:
        console: messages and errors of the page, as text.
        requests: addresses that the page has asked for.
    """

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self._events: list[dict[str, Any]] = []
        self.console: list[str] = []
        self.requests: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method, and wait for its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self._read, 1 << 20) if ready else b""
            assert chunk, "the browser has ended, or does not answer"
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, said: dict[str, Any]) -> None:
        if method == "Runtime.consoleAPICalled":
            self.console.append(f"{said['type']}: {[each.get('value') for each in said['args']]}")
        elif method == "Runtime.exceptionThrown":
            self.console.append(json.dumps(said["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.console.append(f"{said['entry']['level']}: {said['entry']['text']}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])

    def open(self, page: Path, width: int = 1280, height: int = 900, *, mobile: bool = False) -> None:
        """Open a file, and wait until its charts are drawn, or could not be."""
        self.resize(width, height, mobile=mobile)
        self.send("Page.navigate", url="about:blank")
        self.console.clear()
        self.requests.clear()
        self.send("Page.navigate", url=page.resolve().as_uri())
        self.wait_for("location.href !== 'about:blank' && document.documentElement?.dataset.drawn")

    def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        """Give the window a size in CSS pixels."""
        scale = 2 if mobile else 1
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """Wait until an expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not (value := self.value(expression)):
            assert time.monotonic() < deadline, f"in vain: {expression}"
            time.sleep(0.05)
        return value

    def picture(self) -> bytes:
        """The whole page as PNG."""
        answer = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    def paper(self) -> bytes:
        """The page as it is printed, PDF, on A4."""
        answer = self.send("Page.printToPDF", printBackground=False, paperWidth=8.27, paperHeight=11.69)
        return base64.b64decode(answer["data"])


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Chromium with a profile in a folder; the test is skipped where it is not installed."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed (on Debian: apt-get install chromium)")
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()

    def take_places() -> None:
        # Moved out of the way first: a descriptor may already have the number of the other's place.
        one, two = os.dup(theirs_in), os.dup(theirs_out)
        while one in (_FROM_US, _TO_US):
            one = os.dup(one)
        while two in (_FROM_US, _TO_US):
            two = os.dup(two)
        os.dup2(one, _FROM_US)
        os.dup2(two, _TO_US)

    process = subprocess.Popen(
        [
            program,
            "--headless=new",
            "--no-sandbox",  # which a container does not allow
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--remote-debugging-pipe",
            f"--user-data-dir={folder}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=take_places,
        pass_fds=(_FROM_US, _TO_US),
        start_new_session=True,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(ours_out, ours_in)
    finally:
        with suppress(OSError):
            os.write(ours_out, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
        os.close(ours_in)
        os.close(ours_out)
