"""The pages with a real model, from its load to its unload."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.e2e.server import SMOLLM2, Server, until
from tests.e2e.ui.pages import answer, finished, send, watched


def test_a_real_model_is_loaded_talked_to_stopped_and_unloaded(browser: Browser, tmp_path: Path) -> None:
    with Server(tmp_path, SMOLLM2.format(name="smollm2")) as server:
        page, faults = watched(browser, server.url)
        page.goto(f"{server.url}/#/models")
        model = page.get_by_test_id("model")
        model.get_by_test_id("load").click()
        expect(model.get_by_test_id("status")).to_have_text("Loaded")
        expect(model).to_contain_text("135M")
        model.get_by_text("Chat", exact=True).click()
        page.get_by_test_id("preset-button").click()
        page.get_by_test_id("sampling-max_tokens").fill("8")
        page.keyboard.press("Escape")
        send(page, "Name three colours.")
        finished(page)
        expect(page.get_by_test_id("statistics")).to_contain_text("tokens/s")
        page.get_by_test_id("preset-button").click()
        page.get_by_test_id("sampling-reset").click()
        page.get_by_text("More fields, as JSON").click()
        page.get_by_test_id("custom").fill('{"ignore_eos": true}')  # it ends when it is stopped
        page.keyboard.press("Escape")
        send(page, "Write a long story.")
        expect(answer(page)).to_contain_text(" ")
        page.get_by_test_id("stop").click()
        expect(page.get_by_test_id("assistant").last).to_contain_text("stopped")
        page.get_by_test_id("models-link").click()
        model.get_by_test_id("unload").click()
        expect(model.get_by_test_id("status")).to_have_text("Not loaded")
        until(lambda: server.state("smollm2") == "unloaded")
        page.context.close()
    assert faults == []
