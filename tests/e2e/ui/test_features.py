"""What the chat can do beyond sending and reading: formulas, files, presets, continuing, forks, several at once."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.e2e.server import Server, until
from tests.e2e.ui.pages import HOLD, WORDS, answer, answers, choose, finished, held, paced, send, sent, watched

TEXT = """Euler: $e^{i\\pi} = -1$, for $5 or $10, `$y$` is code.

$$
\\int_0^1 x^2 \\, dx = \\frac{1}{3}
$$

> [!WARNING]
> Mind the gap.

```
import json

class Reader:
    def __init__(self, path: str) -> None:
        self.path = path

    def read(self):
        with open(self.path) as file:
            return json.load(file)
```

```js
const price = "$a$"
```
"""


def png(width: int = 4, height: int = 3) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\xc0\x40\x20" * width for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def pdf(text: str) -> bytes:
    """One page with one line."""
    stream = f"BT /F1 24 Tf 72 700 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    body, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%b\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    trailer = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(body))
    return body + head + table + trailer


def give(page: Page, name: str, kind: str, data: bytes) -> None:
    page.get_by_test_id("files").set_input_files({"name": name, "mimeType": kind, "buffer": data})


def seeing(page: Page, silent: str = "") -> None:
    """Model a says from now on that it reads images and sound; the `silent` one says nothing."""

    def more(route: Route) -> None:
        listed = route.fetch().json()
        for model in listed["data"]:
            model["capabilities"] = dict.fromkeys(("vision", "audio"), model["id"] == "a")
            if model["id"] == silent:
                del model["capabilities"], model["architecture"]
        route.fulfill(json=listed)

    page.route("**/v1/models", more)
    page.reload()
    expect(page.get_by_test_id("welcome")).to_contain_text("Loaded")


def test_formulas_are_set_and_money_and_code_are_left_alone(page: Page) -> None:
    send(page, paced(TEXT, keep=True))
    finished(page)
    expect(answer(page).locator(".katex")).to_have_count(2)
    expect(answer(page).locator(".display .katex")).to_have_count(1)
    expect(answer(page)).to_contain_text("for $5 or $10, $y$ is code")
    assert answer(page).locator("pre").last.inner_text() == 'const price = "$a$"'
    expect(answer(page).locator(".alert-name")).to_have_text("Warning")
    assert answer(page).locator(".katex [style]").count() > 3  # the page's policy lets scripts set them
    assert answer(page).locator(".code-head span").first.inner_text() == "python"  # found out


def test_a_hostile_formula_is_text(page: Page) -> None:
    send(
        page,
        r"$\href{javascript:window.hacked=1}{x}$ $\includegraphics{http://elsewhere.example/x.png}$ $\htmlStyle{a}{b}$",
    )
    finished(page)
    expect(answer(page).locator(".katex, .tex").first).to_be_attached()
    assert answer(page).locator("a, img, [onerror]").count() == 0


def test_an_answer_that_was_stopped_is_continued_in_place(page: Page) -> None:
    bodies = sent(page)
    send(page, held(WORDS, after=10))
    expect(answer(page)).to_contain_text("word3")
    page.get_by_test_id("stop").click()
    expect(page.get_by_test_id("assistant")).to_contain_text("stopped")
    HOLD.unlink()
    before = answers(page)[0]
    page.get_by_test_id("continue").click()
    expect(answer(page)).to_have_text(f"{before}{WORDS}")
    finished(page)
    expect(page.get_by_test_id("continue")).to_have_count(0)
    assert bodies[1]["continue_final_message"] is True
    assert bodies[1]["messages"][-1] == {"role": "assistant", "content": before}  # type: ignore[index]


def test_an_answer_that_reached_its_limit_says_so(page: Page) -> None:
    page.get_by_test_id("settings-button").click()
    page.get_by_test_id("sampling-max_tokens").fill("3")
    page.keyboard.press("Escape")
    send(page, WORDS)
    expect(page.get_by_test_id("assistant")).to_contain_text("cut at the limit")
    expect(page.get_by_test_id("continue")).to_be_visible()


def messages_stored(page: Page) -> int:
    """Messages in the browser's own storage."""
    return int(
        page.evaluate(
            """async () => {
            const done = (request) => new Promise((ok) => { request.onsuccess = () => ok(request.result) })
            const [{ name }] = await indexedDB.databases()
            const db = await done(indexedDB.open(name))
            const count = await done(db.transaction('messages').objectStore('messages').count())
            db.close()
            return count }"""
        )
    )


def test_a_fork_goes_its_own_way_and_a_cut_can_be_undone(page: Page) -> None:
    for text in ("one", "two"):
        send(page, text)
        expect(answer(page)).to_have_text(text)
        finished(page)
    expect(page.get_by_test_id("assistant")).to_have_count(2)
    page.get_by_test_id("fork").nth(1).click()
    expect(page.get_by_test_id("conversation")).to_have_count(2)
    expect(page.get_by_test_id("assistant")).to_have_count(1)
    send(page, "three")
    expect(answer(page)).to_have_text("three")
    finished(page)
    page.get_by_test_id("conversation").filter(has_not_text="(fork)").get_by_role("link").click()
    expect(page.get_by_test_id("assistant")).to_have_count(2)
    assert answers(page) == ["one", "two"]
    stored = messages_stored(page)
    page.get_by_test_id("user").last.hover()
    page.get_by_test_id("user").last.get_by_test_id("cut").click()
    expect(page.get_by_test_id("toast").last).to_contain_text("2 messages deleted")
    expect(page.get_by_test_id("assistant")).to_have_count(1)
    until(lambda: messages_stored(page) == stored - 2, what="the cut is stored")  # first
    page.get_by_test_id("toast").last.get_by_text("Undo").click()
    expect(page.get_by_test_id("assistant")).to_have_count(2)
    until(lambda: messages_stored(page) == stored, what="what was had back is stored")
    page.reload()
    expect(page.get_by_test_id("assistant")).to_have_count(2)


def test_the_text_as_written(page: Page) -> None:
    send(page, "some **bold** text")
    finished(page)
    page.get_by_test_id("raw").click()
    expect(page.get_by_test_id("source")).to_have_text("some **bold** text")
    page.get_by_test_id("raw").click()
    expect(answer(page).locator("strong")).to_have_text("bold")


def test_files_go_along_as_text_and_can_be_looked_at(page: Page) -> None:
    bodies = sent(page)
    for number in range(5):
        give(page, f"part{number}.md", "text/markdown", f"text of part {number}".encode())
        expect(page.get_by_test_id("attachments")).to_be_visible()
    expect(page.get_by_test_id("attachment")).to_have_count(3)
    page.get_by_test_id("attachments-all").click()
    expect(page.get_by_test_id("preview-grid").get_by_role("button")).to_have_count(5)
    page.get_by_test_id("preview-grid").get_by_role("button").nth(4).click()
    expect(page.get_by_test_id("preview")).to_contain_text("text of part 4")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_test_id("preview")).to_contain_text("text of part 0")
    page.keyboard.press("Escape")
    page.get_by_test_id("attachment-remove").first.click()
    expect(page.get_by_test_id("attachment")).to_have_count(4)
    send(page, "read them")
    finished(page)
    content = bodies[0]["messages"][-1]["content"]  # type: ignore[index]
    assert "File: part1.md\n```\ntext of part 1\n```" in content
    assert "part0" not in content
    assert content.endswith("\n\nread them")
    page.reload()
    expect(page.get_by_test_id("user").get_by_test_id("attachment")).to_have_count(4)


def test_a_long_paste_and_a_drop_are_files(page: Page) -> None:
    page.get_by_test_id("message").click()
    script = """(length) => { const data = new DataTransfer(); data.setData('text/plain', 'x '.repeat(length / 2))
        const event = new ClipboardEvent('paste', {clipboardData: data, bubbles: true, cancelable: true})
        document.querySelector('[data-testid=message]').dispatchEvent(event) }"""
    page.evaluate(script, 200)
    expect(page.get_by_test_id("attachment")).to_have_count(0)
    page.evaluate(script, 6000)
    expect(page.get_by_test_id("attachment")).to_contain_text("pasted.txt")
    page.evaluate(
        """() => { const data = new DataTransfer(); data.items.add(new File(['fn main() {}'], 'main.rs'))
        dispatchEvent(new DragEvent('drop', {dataTransfer: data, cancelable: true})) }"""
    )
    expect(page.get_by_test_id("attachment")).to_have_count(2)
    expect(page.get_by_test_id("attachments")).to_contain_text("main.rs")
    give(page, "a.zip", "application/zip", b"PK\0\1\2\xff")
    expect(page.get_by_test_id("toast").last).to_contain_text("a.zip is of a kind that models cannot read")


def test_a_text_model_refuses_images_before_they_are_sent(page: Page, pages_server: Server) -> None:
    bodies = sent(page)
    give(page, "cat.png", "image/png", png())
    expect(page.get_by_test_id("refusal")).to_contain_text("a does not read images")
    send(page, "what is this?")
    expect(page.get_by_test_id("toast").last).to_contain_text("a does not read images")
    assert bodies == []
    assert page.get_by_test_id("message").input_value() == "what is this?"  # nothing is lost
    page.get_by_test_id("attachment-remove").click()
    expect(page.get_by_test_id("refusal")).to_have_count(0)


def test_images_go_to_a_model_that_reads_them_and_bind_the_conversation_to_such(
    page: Page, pages_server: Server
) -> None:
    seeing(page)
    bodies = sent(page)
    give(page, "cat.png", "image/png", png())
    send(page, "what is this?")
    expect(page.get_by_test_id("user").locator("img")).to_have_js_property("naturalWidth", 4)
    image, text = bodies[0]["messages"][0]["content"]  # type: ignore[index]
    assert base64.b64decode(image["image_url"]["url"].partition(",")[2]) == png()
    assert text == {"type": "text", "text": "what is this?"}
    expect(page.get_by_test_id("failure")).to_contain_text("image")  # the worker of these tests is blind
    page.get_by_test_id("model-button").click()
    row = page.locator("[data-testid=model-row][data-model=b]")
    expect(row).to_contain_text("b does not read images, and this chat has some")
    state = pages_server.state("b")
    row.get_by_test_id("model-choose").click(force=True)
    expect(page.get_by_test_id("model-search")).to_be_visible()  # refused
    assert pages_server.state("b") == state


def test_sound_is_recorded_by_a_button_or_by_the_empty_fields_one(page: Page) -> None:
    seeing(page)
    bodies = sent(page)
    page.get_by_test_id("mic").click()
    expect(page.get_by_label("End the recording")).to_be_visible()
    page.wait_for_timeout(500)  # of sound
    page.get_by_test_id("mic").click()
    expect(page.get_by_test_id("attachment")).to_contain_text(re.compile(r"recording .*\.wav"))
    page.get_by_test_id("attachment").get_by_role("button").first.click()
    expect(page.get_by_test_id("preview").locator("audio")).to_be_visible()
    page.keyboard.press("Escape")
    send(page, "what do you hear?")
    expect(page.get_by_test_id("failure")).to_be_visible()  # the worker of these tests is deaf
    sound = bodies[0]["messages"][0]["content"][0]["input_audio"]  # type: ignore[index]
    assert (sound["format"], base64.b64decode(sound["data"])[:4]) == ("wav", b"RIFF")
    page.get_by_test_id("settings-button").click()
    page.get_by_test_id("setting-autoMicOnEmpty").check()
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("send")).to_have_count(0)
    expect(page.get_by_test_id("mic")).to_have_count(1)
    page.get_by_test_id("message").fill("words")
    expect(page.get_by_test_id("send")).to_be_visible()


@pytest.mark.parametrize("sees", [False, True])
def test_a_model_that_says_only_when_loaded_what_it_reads_is_kept_if_that_is_enough(
    page: Page, pages_server: Server, sees: bool
) -> None:
    pages_server.http.post("/models/unload", json={"model": "b", "wait": True})
    seeing(page, silent="b")
    page.route("**/props?model=b*", lambda route: route.fulfill(json=props(route, vision=sees)))
    give(page, "cat.png", "image/png", png())
    send(page, "what is this?")
    expect(page.get_by_test_id("failure")).to_contain_text("image")
    choose(page, "b")
    if sees:
        expect(page.get_by_test_id("model-button")).to_contain_text(re.compile(r"Loaded\s*b"))
        assert pages_server.state("b") == "ready"
    else:
        expect(page.get_by_test_id("toast").last).to_contain_text("b does not read images, and this chat has some")
        expect(page.get_by_test_id("model-button")).to_contain_text(re.compile(r"Loaded\s*a"))
        until(lambda: pages_server.state("b") == "unloaded", what="what was loaded only for this is gone")


def props(route: Route, vision: bool) -> dict[str, object]:
    found: dict[str, object] = route.fetch().json()
    return found | {"modalities": {"vision": vision, "audio": False}}


def test_a_pdf_goes_as_text_or_as_pictures_of_its_pages(page: Page) -> None:
    seeing(page)
    bodies = sent(page)
    give(page, "a.pdf", "application/pdf", pdf("Hello from a page"))
    expect(page.get_by_test_id("attachment")).to_contain_text("PDF as text")
    send(page, "sum it up")
    finished(page)
    assert "File: a.pdf\n```\nHello from a page\n```" in bodies[0]["messages"][0]["content"]  # type: ignore[index]
    page.get_by_test_id("settings-button").click()
    page.get_by_test_id("setting-pdfAsImage").check()
    page.keyboard.press("Escape")
    give(page, "a.pdf", "application/pdf", pdf("Hello from a page"))
    expect(page.get_by_test_id("attachment").last).to_contain_text("1 pages as pictures")
    choose(page, "thinker")  # which reads no images, but words
    expect(page.get_by_test_id("model-button")).to_contain_text(re.compile(r"Loaded\s*thinker"))
    send(page, "and now?")
    expect(page.get_by_test_id("assistant")).to_have_count(2)
    finished(page)
    assert "Hello from a page" in bodies[1]["messages"][-1]["content"]  # type: ignore[index]
    give(page, "b.pdf", "application/pdf", b"%PDF-1.4 broken")
    expect(page.get_by_test_id("toast").last).to_contain_text("b.pdf cannot be read")


def test_presets_belong_to_models(page: Page) -> None:
    bodies = sent(page)
    page.get_by_test_id("preset-button").click()
    page.get_by_test_id("preset-new").click()
    page.get_by_test_id("preset-name").fill("Pirate")
    page.get_by_test_id("system").fill("Talk like a pirate.")
    page.get_by_test_id("sampling-top_k").fill("7")
    page.get_by_text("More fields, as JSON").click()
    page.get_by_test_id("custom").fill('{"seed": 5}')
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("preset-button")).to_contain_text("Pirate")
    send(page, "ahoy")
    finished(page)
    assert (bodies[0]["top_k"], bodies[0]["seed"]) == (7, 5)
    assert bodies[0]["messages"][0]["content"] == "Talk like a pirate."  # type: ignore[index]
    choose(page, "thinker")
    expect(page.get_by_test_id("preset-button")).not_to_contain_text("Pirate")
    send(page, "hello")
    expect(page.get_by_test_id("badge").last).to_have_text("thinker")
    finished(page)
    assert "top_k" not in bodies[1]
    assert len(bodies[1]["messages"]) == 3  # type: ignore[arg-type]


def test_reasoning_is_switched_beside_the_composer_where_the_template_can(page: Page) -> None:
    bodies = sent(page)
    expect(page.get_by_test_id("thinking")).to_have_count(0)
    choose(page, "thinker")
    expect(page.get_by_test_id("model-button")).to_contain_text("Loaded")
    page.get_by_test_id("thinking").select_option("off")
    send(page, "one")
    finished(page)
    page.get_by_test_id("thinking").select_option("high")
    send(page, "two")
    expect(page.get_by_test_id("assistant")).to_have_count(2)
    finished(page)
    assert bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}
    assert (bodies[1]["reasoning_effort"], "chat_template_kwargs" in bodies[1]) == ("high", False)


def test_several_conversations_answer_at_once_and_each_keeps_its_draft(page: Page) -> None:
    for name in ("first", "second", "third"):
        page.get_by_test_id("new-chat").click()
        expect(page.get_by_test_id("welcome")).to_be_visible()
        send(page, held(f"{name} {WORDS}", after=10))
        expect(answer(page)).to_contain_text(name)
        page.get_by_test_id("message").fill(f"draft of {name}")
    expect(page.get_by_test_id("conversation").get_by_test_id("live")).to_have_count(3)
    HOLD.unlink()
    for name in ("first", "second", "third"):
        page.get_by_test_id("conversation").filter(has_text=name).get_by_role("link").click()
        expect(answer(page)).to_have_text(f"{name} {WORDS}")
        expect(page.get_by_test_id("message")).to_have_value(f"draft of {name}")
    page.reload()
    expect(page.get_by_test_id("message")).to_have_value("draft of third")


def test_what_a_model_is_can_be_read_and_nothing_is_loaded(page: Page, pages_server: Server) -> None:
    before = {name: pages_server.state(name) for name in "ab"}
    page.get_by_test_id("model-button").click()
    for name in "ab":
        page.locator(f"[data-testid=model-row][data-model={name}]").get_by_test_id("model-about").click()
        expect(page.get_by_test_id("model-info")).to_contain_text("Context of one request")
        page.keyboard.press("Escape")
    page.locator("[data-testid=model-row][data-model=b] [aria-pressed]").click()
    assert {name: pages_server.state(name) for name in "ab"} == before


def test_two_tabs_show_the_same_conversations(page: Page, pages_server: Server) -> None:
    other = page.context.new_page()
    other.goto(pages_server.url)
    expect(other.get_by_test_id("welcome")).to_be_visible()
    send(page, paced(WORDS, rate=60))
    other.get_by_test_id("conversation").get_by_role("link").click()
    expect(other.get_by_test_id("assistant").get_by_test_id("content")).to_have_text(WORDS)
    send(other, "from the other tab")
    expect(answer(page)).to_have_text("from the other tab")
    page.locator(":root").evaluate("node => node.ownerDocument.defaultView.focus()")
    other.get_by_test_id("conversation").hover()
    other.get_by_test_id("delete").click()
    expect(page.get_by_test_id("conversation")).to_have_count(0)


def test_everything_by_keyboard(page: Page) -> None:
    keys = page.keyboard
    page.locator("body").click()
    keys.press("/")
    keys.type("first by hand")
    keys.press("Shift+Enter")
    keys.type("and a second line")
    keys.press("Enter")
    finished(page)
    expect(page.get_by_test_id("user")).to_contain_text("and a second line")
    keys.press("Control+Shift+O")
    expect(page.get_by_test_id("welcome")).to_be_visible()
    keys.type("another chat")
    keys.press("Enter")
    finished(page)
    keys.press("Control+Shift+E")
    keys.type("Named by hand")
    keys.press("Enter")
    expect(page.get_by_test_id("conversation").first).to_have_text("Named by hand")
    page.locator("body").click()
    keys.press("Control+Shift+ArrowDown")
    expect(page.get_by_test_id("user")).to_contain_text("first by hand")
    keys.press("Control+/")
    keys.type("mortal")
    keys.press("Enter")
    expect(page.get_by_test_id("model-button")).to_contain_text("mortal")
    keys.press("Control+K")
    keys.type("Named")
    expect(page.get_by_test_id("conversation")).to_have_count(1)
    keys.press("Tab")
    keys.press("Enter")
    expect(page.get_by_test_id("user")).to_contain_text("another chat")
    page.locator("body").click()
    keys.press("Control+Shift+D")
    expect(page.get_by_test_id("toast").last).to_contain_text("Deleted “Named by hand”, 2 messages")
    keys.press("Control+b")
    expect(page.get_by_test_id("sidebar-button")).to_have_attribute("aria-expanded", "false")


def test_older_settings_and_messages_are_understood(browser: Browser, pages_server: Server) -> None:
    page, faults = watched(browser, pages_server.url)
    page.goto(f"{pages_server.url}/theme.js")
    old = {"theme": "dark", "system": "Be brief.", "sampling": {"temperature": 0.3}, "model": "a"}
    page.evaluate("value => localStorage.setItem('lsv.settings', value)", json.dumps(old))
    page.evaluate(Path(__file__).with_name("old_store.js").read_text())
    page.goto(f"{pages_server.url}/#/chat/c1")
    expect(answer(page)).to_have_text("an old answer")
    assert page.locator("html").get_attribute("data-theme") == "dark"
    bodies = sent(page)
    send(page, "go on")
    finished(page)
    assert bodies[0]["temperature"] == 0.3
    assert [message["content"] for message in bodies[0]["messages"]] == [
        "Be brief.",
        "a question",
        "an old answer",
        "go on",
    ]  # type: ignore[index,attr-defined]
    page.context.close()
    assert faults == []
