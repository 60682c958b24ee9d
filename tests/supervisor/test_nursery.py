from __future__ import annotations

import selectors
import time
from typing import Any

import pytest

from supervisor import ladder
from supervisor.config import Config, Liveness
from supervisor.nursery import Ended, Nursery, Ward
from supervisor.timers import Timers

PATIENCE = 90.0
ORPHANED = 70


@pytest.mark.parametrize(
    "module",
    [
        "worker.main",
        "tests.echo_worker",
        "proxy.main",
        "supervisor.scan",
        "worker.download.main",
    ],
)
def test_a_child_has_its_lease_from_the_start(module: str) -> None:
    """A root that hangs before its next round of pings is survived by nobody."""
    with selectors.DefaultSelector() as selector:
        nursery = Nursery(selector, Timers(), Config(file="x", models={}, liveness=Liveness(lease=0.3)))
        ward = nursery.start(f"{module}:main", "child", owner=None)  # type: ignore[arg-type]
        try:
            assert ward.child.gone_within(PATIENCE), "the child waits for a root that hangs"
            assert ward.child.reap() == ORPHANED
            assert any(word in line for line in ward.child.log_tail() for word in ("no word", "no ping"))
        finally:
            ward.child.close()  # ends it, should it still live


class Owner:
    """Hears how a child ended."""

    def __init__(self) -> None:
        self.ends: list[Ended] = []

    def heard(self, *_: Any) -> None: ...

    def judged(self, *_: Any) -> None: ...

    def unkillable(self, ward: Ward) -> None: ...

    def ended(self, ward: Ward, end: Ended) -> None:
        self.ends.append(end)


@pytest.mark.parametrize("name", ["late", "deaf", "stopped"])
def test_a_hung_child_has_time_for_its_dump_if_it_can_write_one(name: str) -> None:
    owner, timers = Owner(), Timers()
    with selectors.DefaultSelector() as selector:
        nursery = Nursery(selector, timers, Config(file="x", models={}))
        ward = nursery.start(f"tests.children:{name}", "child", owner)
        assert selector.select(PATIENCE), "the child has begun"
        while ward.child.kernel_state() == "R":
            time.sleep(0.01)
        nursery._deaf(ward)  # what it says is for nobody
        began = time.monotonic()
        nursery.stop(ward, ladder.hung)
        while not owner.ends and time.monotonic() < began + PATIENCE:
            for key, _ in selector.select(0.01):
                key.data(selectors.EVENT_READ)
            timers.run(time.monotonic())
        (end,) = owner.ends
        if name == "stopped":
            assert not end.stack
        else:
            assert f"in {name}" in end.stack
