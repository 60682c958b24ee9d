"""What keeps somebody from reading or using a page, as axe-core sees it."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.e2e.server import ROOT

AXE = ROOT / "proxy/ui/node_modules/axe-core/axe.min.js"
# How a page is built does not depend on its colours: these are all that is looked at again.
COLOURS = "{runOnly: ['color-contrast', 'link-in-text-block'], resultTypes: ['violations']}"
THEMES = {"light": "{resultTypes: ['violations']}", "dark": COLOURS}

# What a finger would miss: less than 44 pixels wide or high, with what is laid around it. Links in text are no targets.
SMALL = """() => {
  const targets = 'button, a[href], select, summary, label:has([type=checkbox], [type=radio]), '
    + 'input:is([type=text], [type=search], [type=number], [type=password])'
  const size = (node) => {
    const {width, height} = node.getBoundingClientRect(), around = getComputedStyle(node, '::after')
    return Math.min(width, height) + (around.position === 'absolute' ? -2 * Number.parseFloat(around.top) : 0)
  }
  return [...([...document.querySelectorAll('dialog[open]')].at(-1) ?? document).querySelectorAll(targets)]
    .filter((node) => node.checkVisibility({visibilityProperty: true}) && node.getBoundingClientRect().width)
    .filter((node) => !node.closest('p, .markdown, [inert], label.entry') && size(node) < 43.5)
    .map((node) => `${size(node)}: ${node.outerHTML.slice(0, 99)}`)
}"""


def barriers(page: Page, options: str) -> list[tuple[str, list[str]]]:
    """The serious ones, each with some places; AXE must have been run in the page."""
    found = page.evaluate(f"axe.run(document, {options}).then((result) => result.violations)")
    return [
        (each["id"], [node["html"][:160] + " | " + node["failureSummary"][:300] for node in each["nodes"][:3]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
