"""A headless Chromium, controlled by the W3C WebDriver protocol over HTTP."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
KEYS = {"left": "\ue012", "home": "\ue011", "end": "\ue010"}


class Browser:
    """One session of a browser."""

    def __init__(self, port: int, width: int, height: int, dark: bool, touch: bool, profile: Path) -> None:
        self.address = f"http://127.0.0.1:{port}"
        flags = [*FLAGS, f"--user-data-dir={profile}", f"--window-size={max(width, 500)},{height}"]
        options: dict[str, Any] = {"args": flags, "binary": shutil.which("chromium")}
        if dark:
            options["args"] = [*flags, "--blink-settings=preferredColorScheme=0"]
        if width < 500:
            metrics = {"width": width, "height": height, "pixelRatio": 1.0, "touch": touch}
            options["mobileEmulation"] = {"deviceMetrics": metrics}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        started = self._send("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.address += f"/session/{started['sessionId']}"

    def open(self, page: Path, fragment: str = "") -> None:
        """Load a page from disk."""
        self._send("POST", "/url", {"url": page.resolve().as_uri() + fragment})

    def run(self, script: str) -> Any:
        """The value that a script returns."""
        return self._send("POST", "/execute/sync", {"script": script, "args": []})

    def press(self, selector: str, *keys: str) -> None:
        """Press keys with the element focused."""
        self._send("POST", f"/element/{self._find(selector)}/value", {"text": "".join(KEYS[key] for key in keys)})

    def click(self, selector: str) -> None:
        """Click on the first element that fits."""
        self._send("POST", f"/element/{self._find(selector)}/click", {})

    def console(self) -> list[str]:
        """Messages on the page's console since the last call, errors and refused loads included."""
        return [entry["message"] for entry in self._send("POST", "/se/log", {"type": "browser"})]

    def print_pdf(self) -> bytes:
        """The page as a PDF."""
        return base64.b64decode(self._send("POST", "/print", {"background": True}))

    def allow_downloads(self, folder: Path) -> None:
        """Save downloads into the folder without asking."""
        self._devtools("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def swipe_up(self, selector: str, pixels: int) -> None:
        """Move a finger up from the middle of an element."""
        script = f"return document.querySelector({selector!r}).getBoundingClientRect().toJSON()"
        box = self.run(script)
        x, y = round(box["x"] + box["width"] / 2), round(box["y"] + box["height"] / 2)
        steps = [{"type": "pointerMove", "duration": 30, "x": x, "y": y - moved} for moved in range(0, pixels + 1, 10)]
        gesture = [steps[0], {"type": "pointerDown", "button": 0}, *steps[1:], {"type": "pointerUp", "button": 0}]
        finger = {"type": "pointer", "id": "finger", "parameters": {"pointerType": "touch"}, "actions": gesture}
        self._send("POST", "/actions", {"actions": [finger]})

    def close(self) -> None:
        """End the browser."""
        self._send("DELETE", "")

    def _devtools(self, command: str, **parameters: Any) -> Any:
        return self._send("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _find(self, selector: str) -> str:
        found = self._send("POST", "/element", {"using": "css selector", "value": selector})
        return next(iter(found.values()))

    def _send(self, method: str, path: str, body: Any = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, content, {"Content-Type": "application/json"})
        request.method = method
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode()[:500]}") from None


@contextmanager
def chromium(
    profile: Path, width: int = 1100, height: int = 900, dark: bool = False, touch: bool = True
) -> Iterator[Browser]:
    """A browser window of that size; the test is skipped if no browser is installed.

    Args:
        profile: folder for the browser's profile.
        width: in pixels; below 500 a phone is emulated.
        height: in pixels.
        dark: the preferred colour scheme.
        touch: whether an emulated phone has a touch screen.
    """
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian: chromium and chromium-driver)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port)
        browser = Browser(port, width, height, dark, touch, profile)
        try:
            yield browser
        finally:
            browser.close()
    finally:
        driver.terminate()
        driver.wait(timeout=30)


def _wait(port: int) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("chromedriver does not answer")
