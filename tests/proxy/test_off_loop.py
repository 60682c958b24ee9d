"""Work beside the loop, and in it where there is no thread to be had."""

from __future__ import annotations

import threading
from typing import Any, NoReturn

import pytest

from proxy import off_loop
from proxy.dialects import llama
from proxy.errors import BadRequest
from tests.proxy.harness import Harness


def where() -> str:
    return threading.current_thread().name


async def test_work_is_done_in_another_thread_or_in_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await off_loop.run(where) != where()

    async def none_left(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("asyncio.to_thread", none_left)
    assert await off_loop.run(where) == where()


@pytest.mark.parametrize(("size", "beside"), [(10, False), (100_000, True)])
async def test_a_large_body_is_parsed_and_checked_beside_the_loop(
    size: int, beside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To check a million tokens takes a second, in which nobody would get any."""
    threads: list[str] = []

    def checked(body: dict[str, Any]) -> NoReturn:
        threads.append(where())
        raise BadRequest("as the test says", "tokens")

    monkeypatch.setattr(llama, "detokenize", checked)
    async with Harness() as server:
        response = await server.post("/detokenize", tokens=[1000] * size)
        assert (response.status_code, response.json()["error"]["param"]) == (400, "tokens")
    assert [name != where() for name in threads] == [beside]
