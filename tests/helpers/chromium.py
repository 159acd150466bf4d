"""A headless Chromium, spoken to in its own protocol through two pipes: no driver, no port, nothing to install."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-dev-shm-usage", "--hide-scrollbars=false", "--remote-debugging-pipe",
)  # fmt: skip
SECONDS = 60.0
"""How long an answer may take on a busy machine."""


class Page:
    """One tab: commands, what it has reported since, and the few things that tests ask of it."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._rest, self._number, self._session = b"", 0, ""
        self.events: list[Mapping[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **values: object) -> dict[str, Any]:
        """One command and its answer; events that come before it are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": values}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            said = self._next()
            if said.get("id") == self._number:
                assert "error" not in said, (method, said)
                return said["result"]
            self.events.append(said)

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + SECONDS
        while b"\0" not in self._rest:
            left = until - time.monotonic()
            assert left > 0 and select.select([self._answers], [], [], left)[0], f"no answer after {SECONDS} s"
            piece = os.read(self._answers, 1 << 20)
            assert piece, "the browser has ended"
            self._rest += piece
        said, self._rest = self._rest.split(b"\0", 1)
        return json.loads(said)

    def look(self, *, width: int, height: int = 900, scheme: str = "light", media: str = "screen") -> None:
        """How wide the screen is, whether it is light or dark, and whether it is one or paper."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", media=media, features=features)

    def open(self, address: str) -> None:
        """Load an address, and forget what was reported before."""
        self.events.clear()
        self.send("Page.navigate", url=address)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def run(self, script: str) -> Any:
        """What a JavaScript expression gives, as JSON has it; of a promise, what comes of it."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """One key, down and up."""
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def picture(self, path: Path) -> None:
        """The whole page, also below the fold, as a PNG file."""
        taken = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))

    @property
    def requests(self) -> list[str]:
        """The addresses that were asked for since the page was opened."""
        sent = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings of the console, and exceptions of scripts."""
        found = []
        for event in self.events:
            said = event.get("params", {})
            match event.get("method"):
                case "Runtime.exceptionThrown":
                    found.append(str(said["exceptionDetails"]))
                case "Log.entryAdded" if said["entry"]["level"] in ("error", "warning"):
                    found.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")
                case "Runtime.consoleAPICalled" if said["type"] in ("error", "warning", "assert"):
                    found.append(str(said["args"]))
        return found


@contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """A browser with a new profile in a folder; it ends whatever the test does."""
    assert PROGRAM is not None
    inward, outward = os.pipe(), os.pipe()
    # 3 and 4 are what Chromium reads and writes; numbers far above them cannot be in each other's way.
    read, write = (fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (inward[0], outward[1]))
    moved = f"import os, sys; os.dup2({read}, 3); os.dup2({write}, 4); os.execv(sys.argv[1], sys.argv[1:])"
    words = [sys.executable, "-SEc", moved, PROGRAM, *FLAGS]
    process = subprocess.Popen(
        [*words, f"--user-data-dir={folder / 'profile'}"],
        pass_fds=(read, write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    for end in (inward[0], outward[1], read, write):
        os.close(end)
    try:
        yield Page(inward[1], outward[0])
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
        os.close(inward[1])
        os.close(outward[0])
