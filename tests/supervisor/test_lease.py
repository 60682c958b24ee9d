from __future__ import annotations

from supervisor.lease import LATE, Lease


def test_without_seconds_it_is_never_over() -> None:
    assert not Lease(0.0).over(1e9)


def test_it_is_over_when_the_root_was_silent_for_so_long() -> None:
    lease = Lease(100.0, 60.0)
    assert lease.due == 160.0
    assert not lease.over(159.9)
    assert lease.over(160.0)
    lease.heard = 130.0
    assert not lease.over(160.0)


def test_a_look_that_comes_late_renews_it_once() -> None:
    lease = Lease(100.0, 60.0)
    late = 160.1 + LATE
    assert not lease.over(late)
    assert lease.due == late + 60.0
    assert lease.over(late + 60.0)
