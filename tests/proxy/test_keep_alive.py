"""How long a request wants its model kept: every spelling, and that the root hears of it."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.dialects.fields import Fields, typed
from proxy.errors import ApiError
from supervisor.control import Activity, KeepAlive
from tests.proxy.harness import Harness


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ({}, None),
        ({"keep_alive": None, "ttl": None}, None),
        ({"keep_alive": 0}, 0.0),
        ({"keep_alive": 2.5}, 2.5),
        ({"keep_alive": -1}, -1.0),
        ({"keep_alive": -30.5}, -1.0),
        ({"keep_alive": "10m"}, 600.0),
        ({"keep_alive": "1h30m"}, 5400.0),
        ({"keep_alive": "300ms"}, 0.3),
        ({"keep_alive": "1.5h"}, 5400.0),
        ({"keep_alive": "2us"}, 2e-6),
        ({"keep_alive": "0"}, 0.0),
        ({"keep_alive": "-1m"}, -1.0),
        ({"keep_alive": "-0s"}, 0.0),
        ({"ttl": 60}, 60.0),
        ({"ttl": 60, "keep_alive": "5s"}, 5.0),
    ],
)
def test_durations_in_every_spelling(body: dict[str, Any], kept: float | None) -> None:
    assert typed(body, Fields).kept == pytest.approx(kept) if kept is not None else typed(body, Fields).kept is None


@pytest.mark.parametrize(
    "body",
    [{"keep_alive": value} for value in ("10", "m", "", "5 m", "1d", True, [5], {})]
    + [{"ttl": value} for value in (-1, "60", True)],
)
def test_what_is_no_duration_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        typed(body, Fields)
    assert (caught.value.code, caught.value.param) == ("invalid_value", next(iter(body)))


async def test_the_root_hears_of_it_while_the_request_is_in_flight() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = server.post(keep_alive="5m")
        worker.reply(await worker.next(), "ok")
        await task
        assert (await server.heard(KeepAlive)) == KeepAlive("m", 1, 300.0)
        await server.heard(Activity, 3)
        kinds = [type(message) for message in server.said if isinstance(message, Activity | KeepAlive)]
        assert kinds == [Activity, Activity, KeepAlive, Activity]
        task = server.post()
        worker.reply(await worker.next(2), "ok")
        await task
        assert server.count(KeepAlive) == 1
