"""When a proxy comes back after its death."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from supervisor import config, proxies
from supervisor.control import Listening
from supervisor.ledger import Ledger
from supervisor.nursery import Ended
from supervisor.timers import Timers


class Ward:
    role, stopping = "proxy-0", False


class World:
    """One proxy that lives as long as it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.timers, self.failed = 1000.0, Timers(), list[str]()
        monkeypatch.setattr(proxies, "time", SimpleNamespace(monotonic=lambda: self.now))
        nursery: Any = SimpleNamespace(send=lambda *_: None)
        hooks: Any = {"listening": lambda: None, "failed": self.failed.append}
        settings = config.Config(file="x", models={})
        self.proxies = proxies.Proxies(nursery, self.timers, settings, [], **hooks)
        self.proxies.models = SimpleNamespace(ledger=Ledger(), proxy_gone=lambda _: None, proxy_died=lambda *_: None)  # type: ignore[assignment]

    def dies_after(self, seconds: float) -> float:
        """How long nobody is served."""
        ward: Any = Ward()
        self.proxies.running[0] = ward
        if seconds:
            self.proxies.heard(ward, Listening(), [])
        self.now += seconds
        self.proxies.ended(ward, Ended(-9, (), ""))
        due = self.timers.next()
        wait = 0.0 if due is None else due - self.now
        self.timers.cancel(("proxy", 0))
        self.now += wait
        return wait


def test_a_proxy_that_has_served_for_a_while_is_back_at_once_however_often_it_dies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch)
    assert [world.dies_after(16.0) for _ in range(20)] == [0.0] * 20
    assert not world.failed


def test_a_proxy_that_dies_at_once_waits_longer_each_time_and_the_fifth_time_is_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch)
    waits = [world.dies_after(0.0) for _ in range(4)]
    assert waits[0] == 0.0
    assert waits == sorted(waits)
    assert 0.0 < waits[1] < waits[3] < 6.0
    assert not world.failed
    world.dies_after(0.0)
    assert len(world.failed) == 1
