"""The browser, and a server with echo workers for the pages: one each for all tests of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e.server import ROOT, Server, until
from tests.e2e.ui.pages import CHROMIUM, FLAGS, MODELS, watched


@pytest.fixture(scope="session")
def built() -> None:
    """The pages as they are now."""
    result = subprocess.run([ROOT / ".ci" / "ui"], capture_output=True, text=True, timeout=300)
    if result.returncode == 3:
        pytest.skip("the pages cannot be built without Node.js 20.19 or newer: apt install nodejs npm")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="package")
def browser(built: None) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("the browser tests need Chromium: apt install chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="package")
def pages_server(tmp_path_factory: pytest.TempPathFactory, built: None) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("ui"), MODELS) as running:
        until(lambda: running.state("a") == "ready", 10)
        yield running


@pytest.fixture
def page(browser: Browser, pages_server: Server) -> Iterator[Page]:
    found, faults = watched(browser, pages_server.url)
    found.goto(pages_server.url)
    expect(found.get_by_test_id("welcome")).to_contain_text("Loaded")
    yield found
    found.unroute_all(behavior="ignoreErrors")  # one may be answering just now
    found.context.close()
    assert faults == []
