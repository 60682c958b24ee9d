"""The small pure books the root keeps: ladder, timers, wants, drains, traffic."""

from __future__ import annotations

from collections.abc import Sequence

from supervisor import config, ladder
from supervisor.control import Drain, Message, State
from supervisor.drains import Drains
from supervisor.ladder import Rung
from supervisor.lifecycle import Model
from supervisor.timers import Timers
from supervisor.traffic import Traffic
from supervisor.wants import Wants


def rungs(steps: ladder.Ladder) -> list[tuple[float, Rung]]:
    out, now = [], 0.0
    while steps.due != float("inf"):
        now = steps.due
        steps, rung = steps.climb(now)
        out.append((now, rung))
    return out


def test_a_polite_stop_asks_insists_dumps_kills_and_gives_up() -> None:
    order = [(0.0, Rung.ASK), (10.0, Rung.TERM), (13.0, Rung.DUMP), (14.0, Rung.LINGER), (15.0, Rung.KILL)]
    assert rungs(ladder.polite(config.Shutdown(), 0.0)) == [*order, (25.0, Rung.GIVE_UP)]


def test_a_hung_process_is_dumped_before_it_is_killed() -> None:
    order = [(0.0, Rung.DUMP), (1.0, Rung.LINGER), (2.0, Rung.KILL), (12.0, Rung.GIVE_UP)]
    assert rungs(ladder.hung(config.Shutdown(), 0.0)) == order


def test_a_cancelled_load_is_gone_within_a_second() -> None:
    steps = rungs(ladder.cancel(config.Shutdown(), 0.0))
    assert steps[0] == (0.0, Rung.ASK)
    assert steps[1][1] is Rung.KILL
    assert steps[1][0] < 0.5


def test_timers_fire_in_order_once_and_the_last_setting_counts() -> None:
    timers, fired = Timers(), list[str]()
    timers.set("a", 5.0, lambda: fired.append("old a"))
    timers.set("b", 2.0, lambda: fired.append("b"))
    timers.set("a", 3.0, lambda: fired.append("a"))
    timers.set("c", 1.0, lambda: fired.append("c"))
    timers.cancel("c")
    assert timers.next() == 2.0
    timers.run(10.0)
    timers.run(10.0)
    assert fired == ["b", "a"]
    assert timers.next() is None


def test_wants_keep_the_order_of_the_first_waiter_and_forget_the_last() -> None:
    wants = Wants()
    wants.add("b", 1.0).proxies["p0"] = 0
    wants.add("a", 2.0).proxies["p0"] = 0
    wants.add("b", 3.0).proxies["p1"] = 0
    assert [(want.name, want.since) for want in wants.in_order()] == [("b", 1.0), ("a", 2.0)]
    assert not wants.leave("b", "p0")
    assert wants.leave("b", "p1")
    assert "b" not in wants
    assert wants.of_proxy("p0") == ["a"]


def test_an_order_outlives_every_waiter_and_a_preload_evicts_nobody() -> None:
    wants = Wants()
    wants.add("a", 0.0).ordered = True
    wants.add("a", 0.0).proxies["p0"] = 0
    assert not wants.leave("a", "p0")
    wants.add("b", 1.0).background = True
    assert [want.evicts for want in wants.in_order()] == [True, False]
    assert wants.background() == ["b"]


class Recorder:
    """Proxies that only note what they are sent."""

    def __init__(self, *names: str) -> None:
        self.running: dict[int, str] = dict(enumerate(names))
        self.sent: list[tuple[str, Message]] = []

    def send(self, ward: str, message: Message, fds: Sequence[int] = ()) -> None:
        self.sent.append((ward, message))


def drains(proxies: Recorder, *linked: str) -> tuple[Drains, Timers, list[str]]:
    traffic, timers, over = Traffic(), Timers(), list[str]()
    traffic.linked["a"].update(linked)
    return Drains(proxies, traffic, timers, lambda: 100.0, over.append), timers, over


DRAINING = Model("a", State.DRAINING, generation=4, stop_reason="evicted")


def test_a_drain_asks_those_that_are_joined_and_ends_with_the_last_answer() -> None:
    proxies = Recorder("p0", "p1", "p2")
    under_way, _, over = drains(proxies, "p0", "p1")
    under_way.ask(DRAINING, if_idle=True, deadline=None)
    assert proxies.sent == [(name, Drain("a", 4, "evicted", True, None)) for name in ("p0", "p1")]
    assert under_way.evicting("a")
    under_way.answered("a", "p0")
    under_way.answered("a", "p0")
    assert over == []
    under_way.proxy_gone("p1")
    assert over == ["a"]
    under_way.end("a")
    assert not under_way.evicting("a")


def test_a_drain_without_proxies_is_over_at_once_and_a_hung_proxy_counts_at_the_deadline() -> None:
    under_way, _, over = drains(Recorder())
    under_way.ask(DRAINING, if_idle=False, deadline=None)
    assert over == ["a"]
    under_way, timers, over = drains(Recorder("p0"), "p0")
    under_way.wait("a", deadline=30.0)
    timers.run(130.4)
    assert over == []
    timers.run(130.6)
    assert over == ["a"]


def test_the_third_broken_link_within_a_minute_blames_the_worker() -> None:
    traffic = Traffic()
    assert [traffic.broke("a", "p", at) for at in (0.0, 30.0, 59.0)] == [False, False, True]
    assert [traffic.broke("a", "p", at) for at in (100.0, 130.0, 161.0)] == [False, False, False]


def test_a_proxy_that_is_gone_has_nothing_in_flight() -> None:
    traffic = Traffic()
    traffic.linked["a"].add("p")
    traffic.report("a", "p", 3, 1.0)
    traffic.report("a", "q", 1, 1.0)
    assert traffic.in_flight("a") == 4
    traffic.unlink("p", 9.0)
    assert (traffic.in_flight("a"), traffic.last_used("a"), traffic.linked["a"]) == (1, 9.0, set())
