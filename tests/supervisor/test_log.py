"""The log's two formats: the same facts in both, one line for each record, whatever is in it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import log
from supervisor.log import facts

_logger = logging.getLogger("test.log")


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


def written(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def test_facts_are_fields_of_a_json_line(capfd: pytest.CaptureFixture[str]) -> None:
    log.setup("proxy-0", form="json")
    _logger.info("lost %s", facts(model="qwen 3", generation=2, cause="crashed", none=None, request="r1"))
    (line,) = written(capfd)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "info", "process": "proxy-0", "logger": "test.log", "message": "lost", "model": "qwen 3",
        "generation": 2, "cause": "crashed", "request": "r1",
    }  # fmt: skip


def test_words_beside_the_facts_stay_in_the_message_and_no_name_is_lost(capfd: pytest.CaptureFixture[str]) -> None:
    log.setup("root", form="json")
    _logger.info("%s → %s %s", "LOADING", "READY", facts(message="own", model="m"))
    _logger.warning("plain, no facts at all: 100 %%")
    _logger.warning("mapping %(a)s", {"a": 1})
    first, second, third = written(capfd)
    assert (first["message"], first["message_"], first["model"]) == ("LOADING → READY", "own", "m")
    assert (second["message"], third["message"]) == ("plain, no facts at all: 100 %%", "mapping 1")


def test_an_exception_is_in_its_line(capfd: pytest.CaptureFixture[str]) -> None:
    log.setup("root", form="json")
    try:
        raise ValueError("evil\x1b[2J\nsecond")
    except ValueError:
        _logger.exception("a bug %s", facts(request="r"))
    (line,) = written(capfd)
    assert line["request"] == "r"
    assert line["exception"].startswith("Traceback")
    assert "evil" in line["exception"]


def test_level_and_format_change_while_it_runs(capfd: pytest.CaptureFixture[str]) -> None:
    log.setup("root", None, "warning", "text")
    _logger.info("quiet")
    _logger.warning("loud %s", facts(a=1))
    assert capfd.readouterr().err.endswith("WARN root         loud a=1\n")
    log.configure("debug", "json")
    log.rename("w:m")
    _logger.debug("detail")
    _logger.info("ring %s", facts(b=2), extra={"ring_only": True})
    assert [(line["message"], line["process"]) for line in written(capfd)] == [("detail", "w:m"), ("ring", "w:m")]
    log.configure("info", "json")
    _logger.info("ring %s", facts(b=2), extra={"ring_only": True})
    assert written(capfd) == []


def test_what_was_left_out_is_counted_in_both_formats(capfd: pytest.CaptureFixture[str]) -> None:
    for form in ("text", "json"):
        log.setup("root", form=form)
        (handler,) = logging.getLogger().handlers
        handler._dropped = 3  # type: ignore[attr-defined]
        _logger.info("after %s", facts(a=1))
        text = capfd.readouterr().err
        assert text.count("\n") == 1
        assert text.endswith(" after a=1 dropped=3\n") if form == "text" else json.loads(text)["dropped"] == 3


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}\Z"), st.text() | st.integers() | st.floats() | st.binary()))
def test_any_fact_is_one_line_of_json(pairs: dict[str, Any]) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "said %s", (facts(**pairs),), None)
    log.setup("root", form="json")
    (handler,) = logging.getLogger().handlers
    text = handler.format(record)
    assert "\n" not in text
    assert json.loads(text)["message"] == "said"
