"""Answers that outlive the page, words that wait for their turn, and two models side by side."""

from __future__ import annotations

from playwright.sync_api import Browser, Page, expect

from tests.e2e.server import Server, until
from tests.e2e.ui.pages import HOLD, WORDS, answer, answers, between, finished, held, send, sent, watched


def in_flight(server: Server) -> int:
    return int(server.http.get("/v1/models/a").json()["runtime"]["in_flight"])


def test_an_answer_goes_on_after_a_reload(page: Page, pages_server: Server) -> None:
    bodies = sent(page)
    send(page, held(f"žluť {WORDS}", after=10))
    expect(answer(page)).to_contain_text("word8")
    page.reload()
    expect(answer(page)).to_contain_text("word8")
    expect(page.get_by_test_id("stop")).to_be_visible()
    HOLD.unlink()
    expect(answer(page)).to_have_text(f"žluť {WORDS}")
    finished(page)
    expect(page.get_by_test_id("assistant")).not_to_contain_text("interrupted")
    assert len(bodies) == 1
    page.reload()
    expect(answer(page)).to_have_text(f"žluť {WORDS}")
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('lsv.stream'))") == []


def test_an_answer_that_ended_without_the_page_is_there(page: Page, pages_server: Server) -> None:
    send(page, held(WORDS, after=10))
    expect(answer(page)).to_contain_text("word9")
    page.goto(f"{pages_server.url}/favicon.svg")
    HOLD.unlink()
    until(lambda: in_flight(pages_server) == 0)
    page.goto(pages_server.url)
    page.get_by_test_id("conversation").get_by_role("link").click()
    expect(answer(page)).to_have_text(WORDS)
    finished(page)


def test_an_answer_that_went_on_can_be_stopped(page: Page, pages_server: Server) -> None:
    send(page, held(WORDS, after=10))
    expect(answer(page)).to_contain_text("word1")
    page.reload()
    page.get_by_test_id("stop").click()
    expect(page.get_by_test_id("assistant")).to_contain_text("stopped")
    until(lambda: in_flight(pages_server) == 0)


def test_a_lost_line_is_found_again(browser: Browser, pages_server: Server) -> None:
    with between(pages_server) as line:
        page, faults = watched(browser, line.url)
        page.goto(line.url)
        expect(page.get_by_test_id("welcome")).to_contain_text("Loaded")
        send(page, held(WORDS, after=10))
        expect(answer(page)).to_contain_text("word5")
        line.cut()
        HOLD.unlink()
        expect(answer(page)).to_have_text(WORDS)
        finished(page)
        expect(page.get_by_test_id("failure")).to_have_count(0)
        page.context.close()
    assert faults == []


def test_a_line_that_is_dead_without_an_end_is_given_up_for_another(browser: Browser, pages_server: Server) -> None:
    with between(pages_server) as line:
        page, faults = watched(browser, line.url)
        page.clock.install()
        page.goto(line.url)
        expect(page.get_by_test_id("welcome")).to_contain_text("Loaded")
        send(page, held(WORDS, after=10))
        expect(answer(page)).to_contain_text("word5")
        line.deafen()
        HOLD.unlink()
        until(lambda: in_flight(pages_server) == 0)
        page.clock.fast_forward(60_000)
        expect(answer(page)).to_have_text(WORDS)
        finished(page)
        page.context.close()
    assert faults == []


def test_what_is_said_meanwhile_waits_its_turn(page: Page) -> None:
    bodies = sent(page)
    send(page, held(WORDS, after=10))
    expect(answer(page)).to_contain_text("word9")
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
    assert len(bodies) == 1
    HOLD.unlink()
    expect(page.get_by_test_id("assistant")).to_have_count(3)
    expect(answer(page)).to_have_text("fourth")
    finished(page)
    assert answers(page) == [WORDS, "second", "fourth"]
    assert len(bodies) == 3
    expect(page.get_by_test_id("queue")).to_have_count(0)


def test_what_waits_outlives_a_stop_and_a_reload(page: Page) -> None:
    send(page, held(WORDS, after=10))
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
    expect(page.get_by_test_id("model-button")).to_contain_text("thinker")
    page.get_by_test_id("beside").click()  # alone from now on
    send(page, "and on")
    expect(page.get_by_test_id("assistant")).to_have_count(2)
    finished(page)
    expect(page.get_by_test_id("badge").first).to_have_text("thinker")
    expect(page.get_by_test_id("branch").first).to_have_text("2/2")
    assert [body["model"] for body in bodies] == ["a", "thinker", "thinker"]
    assert len(bodies[2]["messages"]) == 3  # type: ignore[arg-type]
