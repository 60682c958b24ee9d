"""What keeps somebody from reading or using a page, as axe-core sees it."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.e2e.server import ROOT

AXE = ROOT / "proxy/ui/node_modules/axe-core/axe.min.js"
# How a page is built does not depend on its colours: these are all that is looked at again.
COLOURS = "{runOnly: ['color-contrast', 'link-in-text-block'], resultTypes: ['violations']}"
THEMES = {"light": "{resultTypes: ['violations']}", "dark": COLOURS}


def barriers(page: Page, options: str) -> list[tuple[str, list[str]]]:
    """The serious ones, each with some places; AXE must have been run in the page."""
    found = page.evaluate(f"axe.run(document, {options}).then((result) => result.violations)")
    return [
        (each["id"], [node["html"][:160] + " | " + node["failureSummary"][:300] for node in each["nodes"][:3]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
