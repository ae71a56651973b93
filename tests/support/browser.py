"""A headless Chromium without a network, driven over the DevTools protocol.

The protocol runs over two pipes (`--remote-debugging-pipe`: file descriptors 3 and 4, messages
that end with a zero byte), so no websocket library and no port is needed.
"""

import atexit
import base64
import itertools
import json
import math
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
)
# Names that would run, load, break or turn something if a page held them as they are.
HOSTILE = [
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 2'>",
    "&lt;img src=x onerror='window.hacked = 3'&gt;",
    "\"'`${window.hacked = 4} {{ 7 * 7 }} \\",
    "<b>bold</b> <a href='javascript:window.hacked=5'>link</a> %{x} $\\alpha$",
    "line\u2028separator\u2029 \x00 \u202ereversed\u202c ünïcödé 漢字 🎉",
]


@dataclass(frozen=True)
class Page:
    """What a page came to."""

    title: str
    text: str  # what a reader sees
    errors: list[str]  # console errors, failed assertions, uncaught exceptions, failed loads
    requests: list[str]  # addresses asked for, beside the page itself and data: URLs
    answers: list[Any]  # of the expressions asked
    screenshot: Path


def open_page(
    path: Path | str,
    screenshot: Path,
    *,
    ready: str = "document.readyState == 'complete'",
    ask: tuple[str, ...] = (),
    width: int = 1600,
    height: int = 1000,
    timeout: float = 600.0,
    dark: bool = False,
) -> Page:
    """Open a local file or an address at 127.0.0.1, and wait until the expression `ready` holds.

    Raises:
        TimeoutError: it did not within `timeout` seconds.
    """
    browser = _chromium()
    browser.deadline = time.monotonic() + timeout
    try:
        # As good as a browser of its own: nothing is kept of the pages before.
        context = browser.call("Target.createBrowserContext")["browserContextId"]
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=context)
        session = browser.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        browser.turn_to(session["sessionId"])
        for domain in ("Runtime", "Log", "Network", "Page"):
            browser.call(f"{domain}.enable")
        browser.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.call("Emulation.setEmulatedMedia", features=[scheme])
        address = path if isinstance(path, str) else path.absolute().as_uri()
        browser.call("Page.navigate", url=address)
        while not browser.evaluate(f"location.href != 'about:blank' && Boolean({ready})"):
            if time.monotonic() > browser.deadline:
                raise TimeoutError(f"{address}: {ready} did not come true; {browser.errors()}")
            time.sleep(0.05)
        answers = [browser.evaluate(expression) for expression in ask]
        kind = screenshot.suffix.removeprefix(".")
        picture = browser.call("Page.captureScreenshot", format=kind)["data"]
        screenshot.write_bytes(base64.b64decode(picture))
        page = Page(
            title=browser.evaluate("document.title"),
            text=browser.evaluate("document.body.innerText"),
            errors=browser.errors(),
            requests=[
                url
                for url in browser.requests()
                if url != address and not url.startswith(("data:", "about:"))
            ],
            answers=answers,
            screenshot=screenshot,
        )
        browser.turn_to(None)
        browser.call("Target.disposeBrowserContext", browserContextId=context)
    except Exception:
        _chromium.cache_clear()  # the next page does not suffer from what this one did
        raise
    return page


@dataclass
class _Browser:
    to: int
    fro: int
    deadline: float = math.inf
    session: str | None = None  # the page that is spoken to; None: the browser itself
    events: list[dict[str, Any]] = field(default_factory=list)
    rest: bytes = b""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])
            if answer.get("sessionId") == self.session:
                self.events.append(answer)

    def turn_to(self, session: str | None) -> None:
        self.session, self.events = session, []

    def evaluate(self, expression: str) -> Any:
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def errors(self) -> list[str]:
        found = []
        for event in self.events:
            params = event.get("params", {})
            match event.get("method"):
                case "Runtime.exceptionThrown":
                    found.append(json.dumps(params["exceptionDetails"]))
                case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert"):
                    found.append(json.dumps(params["args"]))
                case "Log.entryAdded" if params["entry"]["level"] == "error":
                    found.append(json.dumps(params["entry"]))
                case "Network.loadingFailed":
                    found.append(json.dumps(params))
        return found

    def requests(self) -> list[str]:
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            if not select.select([self.fro], [], [], max(0, self.deadline - time.monotonic()))[0]:
                raise TimeoutError("Chromium does not answer")
            chunk = os.read(self.fro, 1 << 20)
            if not chunk:
                raise RuntimeError("Chromium has ended")
            self.rest += chunk
        line, self.rest = self.rest.split(b"\0", 1)
        return dict(json.loads(line))


@cache
def _chromium() -> _Browser:
    """Start Chromium, for all pages: it takes longer than most of them."""
    assert CHROMIUM is not None
    child_in, to = os.pipe()
    fro, child_out = os.pipe()
    profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile.name}", "about:blank"]
    process = subprocess.Popen(
        # The shell puts the pipes where Chromium looks for them.
        ["sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null', "sh", *command],
        stdin=child_in,
        stdout=child_out,
        stderr=subprocess.DEVNULL,
    )
    os.close(child_in)
    os.close(child_out)

    def end() -> None:
        os.close(to)  # Chromium ends with the pipe
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(fro)
        profile.cleanup()

    atexit.register(end)
    return _Browser(to, fro)
