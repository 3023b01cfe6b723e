"""A headless Chromium that a test drives through its remote-debugging pipe: no driver, no port, no package.

Messages are JSON with a null byte after each (Chrome DevTools Protocol, --remote-debugging-pipe): the browser reads
from its file 3 and writes to its file 4.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

PATIENCE = 60.0
"""Seconds for an answer, on a machine that does other things too."""


def browser_command() -> str | None:
    """The browser of this machine, None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page. As a context manager it starts the browser and ends it.

    Attributes:
        errors: what the page's scripts, and its rules of what may be loaded, complained of.
        requests: addresses that the page asked for.
    """

    def __init__(self, width: int = 1280, height: int = 900) -> None:
        self._size = (width, height)
        self.errors: list[str] = []
        self.requests: list[str] = []

    def __enter__(self) -> "Browser":
        command = browser_command()
        assert command is not None
        self._folder = tempfile.TemporaryDirectory()
        self.downloads = Path(self._folder.name, "downloads")
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        # sh gives the pipes the numbers that the browser expects, whatever they are here
        script = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        flags = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
            "--no-first-run", "--hide-scrollbars", f"--user-data-dir={self._folder.name}/profile", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            ["bash", "-c", script, command, *flags],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._rest, self._number, self._session = b"", 0, None
        self.version = self.call("Browser.getVersion")["product"]
        pages = [one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        attach = {"targetId": pages[0]["targetId"], "flatten": True}
        self._session = self.call("Target.attachToTarget", **attach)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        behaviour = {"behavior": "allow", "downloadPath": str(self.downloads)}
        self.call("Browser.setDownloadBehavior", **behaviour)
        self.resize(*self._size)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call("Browser.close")
            self._process.wait(10)
        except (OSError, TimeoutError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._out)
        os.close(self._in)
        for _try in range(20):  # its children may write a little longer
            try:
                self._folder.cleanup()
                break
            except OSError:
                time.sleep(0.1)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command and its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self._hear(answer)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not (piece := os.read(self._in, 1 << 20)):
                raise OSError("the browser has ended")
            self._rest += piece
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def _hear(self, event: dict[str, Any]) -> None:
        about = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            details = about["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif event.get("method") == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.errors.append(about["entry"]["text"])
        elif event.get("method") == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])

    def open(self, file: Path) -> None:
        """Show a file, until it is loaded."""
        self.call("Page.navigate", url=file.as_uri())
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def run(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"].get("exception", {}).get("description", expression))
        return found["result"].get("value")

    def wait(self, expression: str) -> None:
        """Until an expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.run(expression):
            if time.monotonic() > end:
                raise AssertionError(f"not true in {PATIENCE:.0f} s: {expression}")
            time.sleep(0.02)

    def milliseconds(self) -> float:
        """From the start of loading until everything is drawn once."""
        drawn = "new Promise(done => requestAnimationFrame(() => setTimeout(() => done(performance.now()), 0)))"
        return float(self.run(drawn))

    def processor_seconds(self) -> float:
        """What all processes of the browser have computed so far: unlike time, not longer on a busy machine."""
        session, self._session = self._session, None
        found = self.call("SystemInfo.getProcessInfo")["processInfo"]
        self._session = session
        return sum(process["cpuTime"] for process in found)

    def click(self, selector: str) -> None:
        """Press the mouse in the middle of an element, as a user would."""
        x, y = self._middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def hover(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        """Move the mouse over an element, to a place in it."""
        left, top = self._middle(selector, x, y)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=left, y=top)

    def _middle(self, selector: str, x: float = 0.5, y: float = 0.5) -> tuple[float, float]:
        quoted = json.dumps(selector)
        self.run(f"document.querySelector({quoted}).scrollIntoView({{block: 'center'}})")
        box = self.run(f"document.querySelector({quoted}).getBoundingClientRect().toJSON()")
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def press(self, key: str, text: str = "") -> None:
        """A key of the keyboard."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39, "ArrowDown": 40}
        about = {
            "key": key,
            "windowsVirtualKeyCode": codes.get(key, 0),
            "text": text or ("\r" if key == "Enter" else ""),
        }
        self.call("Input.dispatchKeyEvent", type="keyDown", **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def type(self, text: str) -> None:
        """Text into what has the focus."""
        self.call("Input.insertText", text=text)

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """Another window, or a phone of that size."""
        zoom = 2 if phone else 1
        about = {"width": width, "height": height, "deviceScaleFactor": zoom, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **about)

    def screenshot(self, file: Path, *, whole: bool = False) -> None:
        """A PNG of the window, or of the whole page."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 16000), "scale": 1}
            found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        file.write_bytes(base64.b64decode(found["data"]))

    def pdf(self, file: Path) -> None:
        """The page as it is printed, on A4."""
        about = {"paperWidth": 8.27, "paperHeight": 11.69, "printBackground": True}
        file.write_bytes(base64.b64decode(self.call("Page.printToPDF", **about)["data"]))
