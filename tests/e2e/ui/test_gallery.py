"""Every component in every state, with no server behind it: no barrier, no sideways scroll, no error."""

from __future__ import annotations

import mimetypes
import subprocess
from pathlib import Path

from playwright.sync_api import BrowserContext, Route, expect

from tests.e2e.server import ROOT
from tests.e2e.ui.barriers import AXE, THEMES, barriers
from tests.e2e.ui.pages import faults_of

PLACE = "http://gallery.test"
WIDE = """() => document.querySelector('main').scrollWidth <= innerWidth ? [] : [...document.querySelectorAll('main *')]
  .filter((node) => node.getBoundingClientRect().right > innerWidth).map((node) => node.outerHTML.slice(0, 99))"""


def test_no_barrier_in_any_state_of_any_component(context: BrowserContext, built: None, tmp_path: Path) -> None:
    subprocess.run([ROOT / ".ci" / "ui", "gallery", tmp_path], check=True, capture_output=True, timeout=900)

    def serve(route: Route) -> None:
        file = tmp_path / route.request.url.removeprefix(f"{PLACE}/")
        if file.is_file():
            route.fulfill(path=file, content_type=mimetypes.guess_type(file.name)[0])
        else:
            route.fulfill(status=404, json={"error": {"message": "there is no server"}})

    page = context.new_page()
    page.route(f"{PLACE}/**", serve)
    page.emulate_media(reduced_motion="reduce")
    faults = faults_of(page, PLACE)
    page.goto(f"{PLACE}/gallery.html")
    expect(page.get_by_test_id("assistant")).to_have_count(11)
    expect(page.get_by_test_id("deaths")).to_be_visible()
    page.evaluate(AXE.read_text())
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 9000})  # contrast is seen only of what is in view
        assert page.evaluate(WIDE) == [], width
        for theme, options in THEMES.items():
            page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
            assert barriers(page, options) == [], f"{width}, {theme}"
    page.close()
    assert faults == []
