"""What the tests of the pages share: a browser's page and what it must not do, words, and a server in between."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator

from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.server import ROOT, Server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync",
         "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]  # fmt: skip
GATE = ROOT / ".cache" / f"g{os.getpid()}"  # while it is there, model b does not finish its load
HOLD = ROOT / ".cache" / f"h{os.getpid()}"  # while it is there, an answer to what is `held` stands still
MODELS = f"""
[defaults]
worker = "tests.echo_worker:main"
[models.a]
aliases = ["default"]
preload = true
parallel = 8
n_ctx = 65536
[models.b]
file = "load=0.2,gate={GATE}"
[models.broken]
file = "fail=permanent"
[models.mortal]
[models.thinker]
file = "template={{{{ enable_thinking }}}}{{{{ reasoning_effort }}}}"
"""
KEY = "let-me-in"
WORDS = " ".join(f"word{number}" for number in range(40))
EXPECTED = 90_000  # milliseconds any fact may take to come true, however slow the machine
expect.set_options(timeout=EXPECTED)


def paced(text: str, **options: object) -> str:
    """A message that the echo worker answers with these options."""
    return json.dumps({"echo": options}, separators=(",", ":")) + text


def held(text: str, after: int, **options: object) -> str:
    """A message whose answer stands still after so many words, while HOLD is there: it is put there now."""
    HOLD.touch()
    return paced(text, at=after, hold=os.path.relpath(HOLD, ROOT), **options)  # a chat's title is short


def watched(browser: Browser, origin: str, **options: object) -> tuple[Page, list[str]]:
    """A page without a past, and what it did that it must not."""
    found: dict[str, object] = {"viewport": {"width": 1280, "height": 800}, "service_workers": "block"} | options
    context = browser.new_context(**found)  # type: ignore[arg-type]
    context.set_default_timeout(EXPECTED)
    page = context.new_page()
    return page, faults_of(page, origin)


def faults_of(page: Page, origin: str) -> list[str]:
    """Errors of scripts, what the policy refused, and requests to elsewhere; it grows."""
    faults = list[str]()
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("console", lambda said: faults.append(said.text) if "Security Policy" in said.text else None)
    page.on(
        "request", lambda asked: None if asked.url.startswith((origin, "blob:", "data:")) else faults.append(asked.url)
    )
    return faults


def send(page: Page, text: str) -> None:
    page.get_by_test_id("message").fill(text)
    page.get_by_test_id("send").click()


def answers(page: Page) -> list[str]:
    found = page.get_by_test_id("assistant").get_by_test_id("content").all_text_contents()
    return [text.strip() for text in found]


def answer(page: Page) -> Locator:
    """The text of the last answer."""
    return page.get_by_test_id("assistant").last.get_by_test_id("content")


def finished(page: Page) -> None:
    expect(page.get_by_test_id("send")).to_be_visible()
    expect(page.get_by_test_id("assistant").last.get_by_test_id("statistics")).to_contain_text("token")


def choose(page: Page, model: str) -> None:
    page.get_by_test_id("model-button").click()
    pick(page, model)


def pick(page: Page, model: str) -> None:
    """In the list of models, which is open."""
    page.locator(f"[data-testid=model-row][data-model={model}]").get_by_test_id("model-choose").click()


def sent(page: Page) -> list[dict[str, object]]:
    """The bodies of chat requests; it grows."""
    found: list[dict[str, object]] = []
    page.on("request", lambda asked: found.append(asked.post_data_json) if "chat/completions" in asked.url else None)
    return found


class Between:
    """A reverse proxy: what comes for `prefix` goes to the server without it. `cut` drops all connections.

    `deafen` leaves them open, and nothing comes back through them any more.
    """

    def __init__(self, server: Server, prefix: str = "/") -> None:
        self._server, self._prefix, self._pairs = server, prefix.encode(), list[tuple[socket.socket, socket.socket]]()
        self._deaf = set[socket.socket]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{prefix.rstrip('/')}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for each in pair:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def deafen(self) -> None:
        self._deaf |= {each for pair in self._pairs for each in pair}

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._server.port))
            except OSError:
                near.close()  # the server is away
                continue
            self._pairs.append((near, far))
            for each in (near, far):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, target, up in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pump, args=(source, target, up), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if up and self._prefix != b"/":  # browsers put a request's head into a packet of its own
                    line, rest = data.split(b"\r\n", 1) if b" HTTP/1.1\r\n" in data else (b"", b"")
                    data = line.replace(self._prefix, b"/", 1) + b"\r\n" + rest if line else data
                if source not in self._deaf:
                    target.sendall(data)
                elif up:
                    break  # a new request is told that this line is dead
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        source.close()


@contextlib.contextmanager
def between(server: Server, prefix: str = "/") -> Iterator[Between]:
    found = Between(server, prefix)
    try:
        yield found
    finally:
        found.close()
