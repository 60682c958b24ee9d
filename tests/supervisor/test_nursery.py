from __future__ import annotations

import selectors

import pytest

from supervisor.config import Config, Liveness
from supervisor.nursery import Nursery
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
