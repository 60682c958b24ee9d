"""Work beside the loop, and in it where there is no thread to be had."""

from __future__ import annotations

import threading

import pytest

from proxy import off_loop


def where() -> str:
    return threading.current_thread().name


async def test_work_is_done_in_another_thread_or_in_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await off_loop.run(where) != where()

    async def none_left(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("asyncio.to_thread", none_left)
    assert await off_loop.run(where) == where()
