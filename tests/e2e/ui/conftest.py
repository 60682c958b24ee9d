"""The browser, and a server with echo workers for the pages: one each for all tests of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.e2e.server import ROOT, Server, until
from tests.e2e.ui.check import Check
from tests.e2e.ui.pages import CHROMIUM, EXPECTED, FLAGS, GATE, HOLD, MODELS, faults_of


@pytest.fixture(scope="session")
def built() -> None:
    """The pages as they are now."""
    result = subprocess.run([ROOT / ".ci" / "ui"], capture_output=True, text=True, timeout=900)
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
        until(lambda: running.state("a") == "ready")
        yield running


@pytest.fixture(scope="package")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One for most tests: it keeps the scripts it has compiled."""
    found = browser.new_context(viewport={"width": 1280, "height": 800}, service_workers="block")
    found.set_default_timeout(EXPECTED)
    yield found
    found.close()


@pytest.fixture(scope="package", autouse=True)
def check(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Check | None]:
    """None if no test will ask for it."""
    if not any(item.name == "test_types_and_units_of_the_pages" for item in request.session.items):
        yield None
        return
    request.getfixturevalue("built")
    found = Check(tmp_path_factory.mktemp("check"))
    yield found
    found.close()


@pytest.fixture(autouse=True)
def nothing_is_held() -> Iterator[None]:
    HOLD.parent.mkdir(exist_ok=True)
    yield
    for file in (GATE, HOLD):
        file.unlink(missing_ok=True)


@pytest.fixture
def page(context: BrowserContext, pages_server: Server) -> Iterator[Page]:
    """A page without a past."""
    found = context.new_page()
    origin = {"origin": pages_server.url, "storageTypes": "all"}
    context.new_cdp_session(found).send("Storage.clearDataForOrigin", origin)
    faults = faults_of(found, pages_server.url)
    found.goto(pages_server.url)
    found.wait_for_selector("[data-testid=welcome]:has-text('Loaded')")  # which looks more often than `expect` does
    yield found
    for each in context.pages:
        each.unroute_all(behavior="ignoreErrors")  # one may be answering just now
        each.close()
    assert faults == []
