"""Answers that outlive the page, words that wait for their turn, and two models side by side."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.server import Server, until
from tests.e2e.ui.pages import WORDS, answer, answers, between, finished, paced, send, sent, watched


def keeps_streams(server: Server) -> bool:
    """Whether it has what API.md, 7.3 describes."""
    return server.http.post("/v1/streams/lookup", json={"conversation_ids": []}).status_code == 200


@pytest.fixture
def keeping(pages_server: Server) -> Server:
    if not keeps_streams(pages_server):
        pytest.skip("this server keeps no streams")
    return pages_server


def in_flight(server: Server) -> int:
    return int(server.http.get("/v1/models/a").json()["runtime"]["in_flight"])


def test_an_answer_goes_on_after_a_reload(page: Page, keeping: Server) -> None:
    bodies = sent(page)
    send(page, paced(f"žluť {WORDS}", rate=15))
    expect(answer(page)).to_contain_text("word5")
    page.reload()
    expect(answer(page)).to_have_text(f"žluť {WORDS}")
    finished(page)
    expect(page.get_by_test_id("assistant")).not_to_contain_text("interrupted")
    assert len(bodies) == 1
    page.reload()
    expect(answer(page)).to_have_text(f"žluť {WORDS}")
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('lsv.stream'))") == []


def test_an_answer_that_ended_without_the_page_is_there(page: Page, keeping: Server) -> None:
    send(page, paced(WORDS, rate=20))
    expect(answer(page)).to_contain_text("word2")
    page.goto(f"{keeping.url}/favicon.svg")
    until(lambda: in_flight(keeping) == 0, 60)
    page.goto(keeping.url)
    page.get_by_test_id("conversation").get_by_role("link").click()
    expect(answer(page)).to_have_text(WORDS)
    finished(page)


def test_an_answer_that_went_on_can_be_stopped(page: Page, keeping: Server) -> None:
    send(page, paced(f"{WORDS} " * 10, rate=5))
    expect(answer(page)).to_contain_text("word1")
    page.reload()
    page.get_by_test_id("stop").click()
    expect(page.get_by_test_id("assistant")).to_contain_text("stopped")
    until(lambda: in_flight(keeping) == 0, 60)


def test_a_lost_line_is_found_again(browser: Browser, keeping: Server) -> None:
    with between(keeping) as line:
        page, faults = watched(browser, line.url)
        page.goto(line.url)
        expect(page.get_by_test_id("welcome")).to_contain_text("Loaded")
        send(page, paced(WORDS, rate=20))
        expect(answer(page)).to_contain_text("word5")
        line.cut()
        expect(answer(page)).to_have_text(WORDS)
        finished(page)
        expect(page.get_by_test_id("failure")).to_have_count(0)
        page.context.close()
    assert faults == []


def test_what_is_said_meanwhile_waits_its_turn(page: Page) -> None:
    bodies = sent(page)
    send(page, paced(f"{WORDS} " * 10, rate=5))
    expect(answer(page)).to_contain_text("word0")
    for text in ("second", "third", "fourth"):
        page.get_by_test_id("message").fill(text)
        page.get_by_test_id("message").press("Enter")
    items = page.get_by_test_id("queue").locator("li")
    expect(items).to_have_count(3)
    items.nth(1).get_by_test_id("queue-drop").click()
    items.nth(1).get_by_test_id("queue-edit").click()
    expect(page.get_by_test_id("message")).to_have_value("fourth")
    page.get_by_test_id("send-next").click()
    expect(items).to_have_count(2)
    page.get_by_test_id("stop").click()
    page.get_by_test_id("queue-send").click()  # what was stopped is not what one went on from unasked
    expect(page.get_by_test_id("assistant")).to_have_count(3)  # and when that is answered, the next one goes
    expect(answer(page)).to_have_text("fourth")
    finished(page)
    assert answers(page)[1:] == ["second", "fourth"]
    assert len(bodies) == 3
    expect(page.get_by_test_id("queue")).to_have_count(0)


def test_what_waits_outlives_a_stop_and_a_reload(page: Page) -> None:
    send(page, paced(f"{WORDS} " * 10, rate=5))
    expect(answer(page)).to_contain_text("word1")
    page.get_by_test_id("message").fill("later")
    page.get_by_test_id("send-next").click()
    page.get_by_test_id("stop").click()
    expect(page.get_by_test_id("assistant")).to_contain_text("stopped")
    page.reload()
    expect(page.get_by_test_id("queue")).to_contain_text("later")
    page.get_by_test_id("queue-send").click()
    expect(answer(page)).to_have_text("later")
    expect(page.get_by_test_id("queue")).to_have_count(0)


def test_two_models_answer_side_by_side(page: Page) -> None:
    bodies = sent(page)
    page.get_by_test_id("model-button").click()
    page.locator("[data-testid=model-row][data-model=thinker]").get_by_test_id("model-beside").click()
    expect(page.get_by_test_id("beside")).to_contain_text("thinker")
    send(page, "one question")
    pair = page.get_by_test_id("pair").get_by_test_id("assistant")
    expect(pair).to_have_count(2)
    expect(pair.get_by_test_id("content")).to_have_text(["one question", "one question"])
    expect(pair.get_by_test_id("badge")).to_have_text(["a", "thinker"])
    expect(page.get_by_test_id("send")).to_be_visible()
    boxes = [box for each in pair.all() if (box := each.bounding_box())]
    assert boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]  # beside, not below
    page.get_by_test_id("take").nth(1).click()
    expect(page.get_by_test_id("take").nth(1)).to_have_attribute("aria-pressed", "true")
    page.get_by_test_id("beside").click()  # alone from now on
    send(page, "and on")
    expect(page.get_by_test_id("assistant")).to_have_count(2)
    finished(page)
    expect(page.get_by_test_id("badge").first).to_have_text("thinker")
    expect(page.get_by_test_id("branch").first).to_have_text("2/2")
    assert [body["model"] for body in bodies] == ["a", "thinker", "thinker"]
    assert len(bodies[2]["messages"]) == 3  # type: ignore[arg-type]
