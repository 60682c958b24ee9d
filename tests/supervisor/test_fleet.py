"""The fleet with proxies and workers that only record what they are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from supervisor import config
from supervisor.card import Card
from supervisor.control import (
    Activity,
    Answer,
    Attach,
    Busy,
    Drain,
    Drained,
    Entry,
    Facts,
    Footprint,
    LinkBroken,
    Listed,
    LoadFailed,
    Lost,
    Message,
    ModelChanged,
    ModelCommand,
    Reopen,
    State,
    Unlisted,
    Unwant,
    Want,
)
from supervisor.fleet import Fleet
from supervisor.liveness import Verdict
from supervisor.nursery import Ended
from supervisor.timers import Timers


class Proxy:
    def __init__(self, index: int) -> None:
        self.role, self.stopping, self.heard = f"proxy-{index}", False, list[Message]()


class Proxies:
    def __init__(self, count: int) -> None:
        self.running = {index: Proxy(index) for index in range(count)}

    def send(self, proxy: Proxy, message: Message, fds: Sequence[int] = ()) -> None:
        proxy.heard.append(message)

    def broadcast(self, message: Message) -> None:
        for proxy in self.running.values():
            proxy.heard.append(message)


class Workers:
    def __init__(self) -> None:
        self.of: dict[str, Any] = {}
        self.loads: list[str] = []
        self.warmed: list[str] = []
        self.models: list[config.Model] = []
        self.stops: list[tuple[str, str]] = []
        self.count = 0
        self.scales: list[tuple[str, tuple[float, ...]]] = []

    def load(self, model: config.Model, generation: int, template: str = "") -> None:
        self.loads.append(model.name)
        self.models.append(model)

    def join(self, model: str, proxy: int, fd: int) -> None:
        pass

    def stop(self, model: str, how: str) -> None:
        self.stops.append((model, how))

    def neighbours(self, count: int) -> None:
        self.count = count

    def scale(self, model: str, scales: tuple[float, ...]) -> None:
        self.scales.append((model, scales))

    def keep_standby(self) -> None:
        pass

    def warm(self, model: config.Model) -> None:
        self.warmed.append(model.name)


class World:
    """A fleet of models a, b, c, p (pinned) and what surrounds it."""

    def __init__(
        self, max_models: int = 1, proxies: int = 1, preload: str = "", idle: Mapping[str, float] | None = None
    ) -> None:
        """`idle`: idle timeouts by model."""
        times = idle or {}
        models = {
            n: config.Model(name=n, pin=n == "p", preload=n in preload, idle_timeout=times.get(n, 0.0)) for n in "abcp"
        }
        limits = config.Placement(max_models=max_models)
        settings = config.Config(file="x", models=models, placement=limits, restart=config.Restart(jitter=0.0))
        self.proxies, self.workers, self.timers = Proxies(proxies), Workers(), Timers()
        self.now = 1000.0
        self.fleet = Fleet(settings, self.timers, self.proxies, self.workers, lambda: self.now)  # type: ignore[arg-type]
        self.proxy = self.proxies.running[0]

    def say(self, message: Any, proxy: int = 0) -> None:
        self.fleet.from_proxy(self.proxies.running[proxy], message)  # type: ignore[arg-type]
        self.fleet.settle()

    def ready(self, name: str) -> None:
        self.fleet.worker_ready(name, Facts())
        self.fleet.settle()

    def ended(self, name: str, code: int = 0) -> None:
        self.fleet.worker_ended(name, Ended(code, ("last words",), ""))
        self.fleet.settle()

    def load(self, name: str) -> None:
        """Loaded, and idle again."""
        self.say(Want(name))
        self.ready(name)
        self.say(Activity(name, self.fleet.model(name).generation, 0))

    def elapse(self, seconds: float) -> None:
        self.now += seconds
        self.timers.run(self.now)
        self.fleet.settle()

    def state(self, name: str) -> State:
        return self.fleet.model(name).state

    def last(self, kind: type[Message], proxy: int = 0) -> Any:
        return next((m for m in reversed(self.proxies.running[proxy].heard) if isinstance(m, kind)), None)


def test_many_wants_are_one_load_and_every_proxy_gets_a_link() -> None:
    world = World(proxies=2)
    for proxy in (0, 1, 0):
        world.say(Want("a"), proxy)
    assert world.workers.loads == ["a"]
    world.ready("a")
    assert world.last(Attach, 0) == world.last(Attach, 1) == Attach("a", 1)
    assert world.last(ModelChanged).status.state is State.READY


def test_the_last_waiter_that_leaves_cancels_the_load() -> None:
    world = World(proxies=2)
    world.say(Want("a"), 0)
    world.say(Want("a"), 1)
    world.say(Unwant("a"), 0)
    assert world.state("a") is State.LOADING
    world.say(Unwant("a"), 1)
    assert world.workers.stops == [("a", "cancel")]
    world.ended("a", -9)
    assert world.state("a") is State.UNLOADED
    assert world.workers.loads == ["a"]


def test_an_idle_model_makes_room_by_handshake() -> None:
    world = World(proxies=2)
    world.load("a")
    world.say(Want("b"))
    assert world.last(Drain, 1) == Drain("a", 1, "evicted", if_idle=True)
    world.say(Drained("a", 1), 0)
    assert world.workers.stops == []
    world.say(Drained("a", 1), 1)
    assert world.workers.stops == [("a", "polite")]
    assert world.workers.loads == ["a"]  # not before the process is gone
    world.ended("a")
    assert world.workers.loads == ["a", "b"]


def test_a_model_is_not_evicted_before_those_who_waited_for_it_were_served() -> None:
    world = World()
    world.say(Want("a"))
    world.say(Want("b"))
    world.ready("a")
    assert world.last(Drain) is None
    world.say(Activity("a", 1, 1))
    assert world.last(Drain) is None
    world.say(Activity("a", 1, 0))
    assert world.last(Drain) == Drain("a", 1, "evicted", if_idle=True)


def test_a_model_whose_waiters_left_meanwhile_makes_room_at_once() -> None:
    world = World()
    world.say(Want("a"))
    world.say(Want("b"))
    world.ready("a")
    world.say(Activity("a", 1, 0))
    assert world.state("a") is State.DRAINING


def test_a_request_that_slips_in_keeps_its_model() -> None:
    world = World(proxies=2)
    world.load("a")
    world.say(Want("b"))
    world.say(Activity("a", 1, 1), 1)
    world.say(Busy("a", 1), 1)
    assert world.state("a") is State.READY
    assert world.last(Reopen, 0) == Reopen("a", 1)
    assert world.workers.stops == []
    world.say(Activity("a", 1, 0), 1)
    assert world.state("a") is State.DRAINING


def test_a_busy_model_is_left_alone_until_max_wait_and_then_drains_without_deadline() -> None:
    world = World()
    world.load("a")
    world.say(Activity("a", 1, 1))
    world.say(Want("b"))
    world.elapse(9.9)
    assert world.state("a") is State.READY
    world.elapse(0.2)
    assert world.last(Drain) == Drain("a", 1, "evicted", if_idle=False, deadline=None)
    world.elapse(3600)
    assert world.workers.stops == []
    world.say(Drained("a", 1))
    world.ended("a")
    assert world.workers.loads == ["a", "b"]


def test_a_want_that_leaves_withdraws_the_eviction() -> None:
    world = World()
    world.load("a")
    world.say(Want("b"))
    world.say(Unwant("b"))
    assert world.state("a") is State.READY
    assert world.last(Reopen) == Reopen("a", 1)


def test_a_dead_proxy_counts_as_drained_and_wants_nothing() -> None:
    world = World(proxies=2)
    world.load("a")
    world.say(Want("b"), 0)
    world.say(Want("c"), 1)
    world.say(Drained("a", 1), 0)
    world.fleet.proxy_gone(world.proxies.running[1])  # type: ignore[arg-type]
    world.fleet.settle()
    assert world.workers.stops == [("a", "polite")]
    assert "c" not in world.fleet.stock.wants


def test_a_crash_ends_streams_and_the_model_comes_back_by_itself() -> None:
    world = World()
    world.load("a")
    world.ended("a", -9)
    assert world.last(Lost) == Lost("a", 1, "killed", "the worker was ended by SIGKILL")
    status = world.last(ModelChanged).status
    assert (status.state, status.signal, status.log_tail) == (State.BACKOFF, "SIGKILL", ("last words",))
    world.elapse(0.4)
    assert world.workers.loads == ["a"]
    world.elapse(0.2)
    assert world.workers.loads == ["a", "a"]


def test_a_restart_without_a_free_place_waits_for_somebody_to_ask() -> None:
    world = World()
    world.load("a")
    world.ended("a", -9)
    world.say(Want("b"))
    world.elapse(1.0)
    assert world.state("a") is State.UNLOADED
    assert world.workers.loads == ["a", "b"]


def test_the_summary_is_one_line() -> None:
    world = World()
    world.load("a")
    world.say(Want("b"))
    world.ended("a", 78)
    assert world.fleet.summary() == "0 of 4 models ready, 1 loading, 1 backoff"


def test_preloads_fill_the_places_and_evict_nobody() -> None:
    world = World(max_models=2, preload="abc")
    world.fleet.preload()
    world.fleet.settle()
    assert world.workers.loads == ["a", "b"]
    assert "c" not in world.fleet.stock.wants


def test_a_failed_load_is_not_tried_again_and_holds_no_place() -> None:
    world = World()
    world.say(Want("a"))
    world.fleet.worker_refused("a", LoadFailed("file_corrupt", "bad magic"))
    world.ended("a", 78)
    assert world.state("a") is State.FAILED
    world.say(Want("b"))
    assert world.workers.loads == ["a", "b"]
    world.say(Want("a"))
    assert world.last(ModelChanged).status.state is State.FAILED


@pytest.mark.parametrize(("admin", "error"), [(True, ""), (False, "model_failed")])
def test_only_an_admin_clears_a_failure(admin: bool, error: str) -> None:
    world = World()
    world.say(Want("a"))
    world.ended("a", 78)
    world.say(ModelCommand(7, "load", "a", admin))
    assert world.last(Answer).error == error
    assert len(world.workers.loads) == (2 if admin else 1)


def test_load_and_unload_are_idempotent() -> None:
    world = World()
    world.say(ModelCommand(1, "unload", "a"))
    assert world.last(Answer) == Answer(1, already=True)
    world.say(ModelCommand(2, "load", "a"))
    assert world.last(Answer) == Answer(2)
    world.say(ModelCommand(3, "load", "a"))
    assert world.last(Answer) == Answer(3, already=True)
    world.ready("a")
    world.say(ModelCommand(4, "unload", "a"))
    assert world.last(Answer) == Answer(4)
    assert world.last(Drain).deadline == 30.0
    world.say(ModelCommand(5, "unload", "a"))
    assert world.last(Answer) == Answer(5, already=True)


def test_unloading_a_loading_model_tells_those_who_wait() -> None:
    world = World()
    world.say(Want("a"))
    world.say(ModelCommand(1, "unload", "a"))
    assert world.last(Lost).cause == "unloaded"
    assert world.workers.stops == [("a", "cancel")]
    world.ended("a", -9)
    assert world.workers.loads == ["a"]


def test_a_pinned_model_is_never_evicted() -> None:
    world = World()
    world.load("p")
    world.say(Want("a"))
    world.elapse(3600)
    assert world.state("p") is State.READY


def test_a_model_that_loads_takes_its_turns_with_those_that_run() -> None:
    world = World(max_models=2)
    world.load("a")
    assert world.workers.count == 1
    world.say(Want("b"))
    assert world.state("b") is State.LOADING
    assert world.workers.count == 2


def test_a_suspended_worker_is_shown_and_leaves_the_cpu_turns() -> None:
    world = World(max_models=2)
    world.load("a")
    world.load("b")
    assert world.workers.count == 2
    world.fleet.worker_judged("a", Verdict.SUSPENDED, "stopped")
    world.fleet.settle()
    assert world.last(ModelChanged).status.suspended
    assert world.workers.count == 1
    world.fleet.worker_judged("a", Verdict.HEALTHY, "")
    assert not world.last(ModelChanged).status.suspended


def test_a_hung_worker_is_given_up_and_its_streams_end_before_it_is_dead() -> None:
    world = World()
    world.load("a")
    world.fleet.worker_judged("a", Verdict.HUNG, "no pong for 11 s")
    assert world.last(Lost) == Lost("a", 1, "hung", "no pong for 11 s")
    assert world.workers.stops == [("a", "hung")]


def test_a_broken_link_is_replaced_and_the_third_one_restarts_the_worker() -> None:
    world = World()
    world.load("a")
    for _ in range(2):
        world.proxy.heard.clear()
        world.say(LinkBroken("a", 1, "garbage"))
        assert world.last(Attach) == Attach("a", 1)
    world.say(LinkBroken("a", 1, "garbage"))
    assert world.workers.stops == [("a", "hung")]


def test_a_link_that_cannot_be_made_is_made_when_the_proxy_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> None:
        raise OSError(24, "Too many open files")

    world = World()
    with monkeypatch.context() as patched:
        patched.setattr("supervisor.process.link", none_left)
        world.load("a")
    assert world.last(Attach) is None
    world.say(Want("a"))
    assert world.last(Attach) == Attach("a", 1)


def test_a_link_that_cannot_be_made_is_made_soon_though_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> None:
        raise OSError(24, "Too many open files")

    world = World()
    with monkeypatch.context() as patched:
        patched.setattr("supervisor.process.link", none_left)
        world.load("a")
        world.elapse(1.5)
    assert world.last(Attach) is None
    world.elapse(1.5)
    assert world.last(Attach) == Attach("a", 1)


def test_a_proxy_that_cannot_take_a_link_gets_another_and_the_worker_is_not_to_blame() -> None:
    world = World()
    world.load("a")
    for _ in range(5):
        world.proxy.heard.clear()
        world.say(LinkBroken("a", 1, "no descriptors left", blameless=True))
        assert world.last(Attach) is None  # not at once: it would have none again
        world.elapse(1.5)
        assert world.last(Attach) == Attach("a", 1)
    assert world.workers.stops == []


def test_late_words_about_an_old_generation_change_nothing() -> None:
    world = World(max_models=2)
    world.load("a")
    world.ended("a", -9)
    world.say(Drained("a", 0))
    world.say(Activity("a", 0, 5))
    world.say(LinkBroken("a", 1, "eof"))
    assert world.state("a") is State.BACKOFF


def test_shutdown_waits_for_the_proxies_then_stops_every_model() -> None:
    world = World(max_models=2)
    world.load("a")
    world.say(Want("b"))
    world.fleet.shut_down(30.0)
    assert world.state("a") is State.DRAINING
    assert world.workers.stops == [("b", "cancel")]
    world.fleet.proxy_gone(world.proxy)  # type: ignore[arg-type]
    assert world.workers.stops[-1] == ("a", "polite")
    world.ended("a")
    world.ended("b", -9)
    assert world.workers.loads == ["a", "b"]


# -- another catalog ----------------------------------------------------------------------------------------------


def catalog(world: World, *gone: str, **changes: Any) -> None:
    """Adopts the present catalog without `gone`, with new or changed entries by name."""
    entries = {entry.model.name: entry for entry in world.fleet.entries() if entry.model.name not in gone}
    world.fleet.adopt({**entries, **changes})
    world.fleet.settle()


def test_a_model_that_comes_is_told_and_can_be_loaded() -> None:
    world = World()
    catalog(world, new=Entry(config.Model(name="new")))
    told = world.last(Listed)
    assert [entry.model.name for entry in told.entries] == [status.name for status in told.statuses] == ["new"]
    world.say(Want("new"))
    assert world.workers.loads == ["new"]


def test_a_model_that_goes_drains_first_and_is_then_forgotten() -> None:
    world = World()
    world.load("a")
    catalog(world, "a")
    assert (world.state("a"), world.last(Unlisted)) == (State.DRAINING, None)
    world.say(Drained("a", 1))
    world.ended("a")
    assert world.last(Unlisted).model == "a"
    world.say(Want("a"))
    catalog(world, a=Entry(config.Model(name="a")))
    world.say(Want("a"))
    world.ready("a")
    assert world.last(Attach) == Attach("a", 2)  # no generation of a name is used twice


def test_one_that_comes_back_while_it_drains_stays() -> None:
    world = World()
    world.load("a")
    catalog(world, "a")
    catalog(world, a=Entry(config.Model(name="a")))
    world.say(Drained("a", 1))
    world.ended("a")
    assert (world.state("a"), world.last(Unlisted)) == (State.UNLOADED, None)


def test_one_that_loads_is_called_off_and_one_that_rests_goes_at_once() -> None:
    world = World()
    world.say(Want("a"))
    catalog(world, "a", "b")
    assert world.workers.stops == [("a", "cancel")]
    assert world.last(Unlisted).model == "b"
    assert world.last(Lost).cause == "unloaded"
    world.ended("a", -9)
    assert world.last(Unlisted).model == "a"


def test_late_words_and_timers_about_a_model_that_is_gone_do_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    world = World(max_models=2)
    world.load("a")
    world.ended("a", -9)
    assert world.state("a") is State.BACKOFF
    catalog(world, "a")
    assert world.last(Unlisted).model == "a"
    world.elapse(100.0)
    for message in (Unwant("a"), Activity("a", 1, 0), Drained("a", 1)):
        world.say(message)
    assert "names no model" not in caplog.text
    world.say(ModelCommand(5, "load", "a"))
    assert world.last(Answer).error == "model_not_found"


def test_a_process_that_cannot_be_killed_is_not_forgotten() -> None:
    world = World()
    world.load("a")
    world.fleet.worker_judged("a", Verdict.HUNG, "silent")
    world.fleet.worker_unkillable("a")
    catalog(world, "a")
    assert world.last(Unlisted) is None
    world.ended("a", -9)
    assert world.last(Unlisted).model == "a"


def test_who_asks_for_a_scan_is_told_of_what_is_gone_before_the_answer() -> None:
    world = World()
    entries = {entry.model.name: entry for entry in world.fleet.entries() if entry.model.name != "a"}
    world.fleet.adopt(entries)
    assert world.last(Unlisted).model == "a"


def test_settings_that_change_during_a_drain_are_taken_when_the_drain_is_withdrawn() -> None:
    world = World(max_models=1)
    world.load("a")
    world.say(Want("b"))
    assert world.state("a") is State.DRAINING
    catalog(world, a=Entry(config.Model(name="a", n_ctx=1234)))
    world.say(Busy("a", 1))
    assert (world.state("a"), world.fleet.model("a").stop_reason) == (State.DRAINING, "reload")


def test_other_settings_reload_a_model_and_other_words_do_not() -> None:
    world = World()
    world.load("a")
    catalog(world, a=Entry(config.Model(name="a", title="A", tags=("x",))))
    assert (world.state("a"), world.last(Listed).entries[0].model.title) == (State.READY, "A")
    catalog(world, a=Entry(config.Model(name="a", n_ctx=1)))
    assert (world.state("a"), world.fleet.model("a").stop_reason) == (State.DRAINING, "reload")


def test_a_file_that_is_missing_fails_without_a_process_and_is_tried_again_when_it_is_there() -> None:
    world = World()
    missing = Card(cause="file_missing", problem="not there")
    catalog(world, a=Entry(config.Model(name="a"), card=missing))
    world.say(Want("a"))
    failed = world.fleet.model("a")
    assert (failed.state, failed.cause, failed.message) == (State.FAILED, "file_missing", "not there")
    assert world.workers.loads == []
    catalog(world, a=Entry(config.Model(name="a", path="/x"), card=Card(modified=5)))
    assert world.state("a") is State.UNLOADED


def test_a_want_waits_until_it_is_known_where_the_file_is() -> None:
    world = World()
    catalog(world, a=Entry(config.Model(name="a", hf="u/r"), pending=True))
    world.say(Want("a"))
    assert world.workers.loads == []
    catalog(world, a=Entry(config.Model(name="a", hf="u/r", path="/x"), card=Card(modified=5)))
    assert world.workers.loads == ["a"]


def test_what_a_load_took_is_passed_on() -> None:
    world, measured = World(), list[tuple[str, Footprint]]()
    world.fleet.measured = lambda entry, footprint: measured.append((entry.model.name, footprint))
    world.say(Want("a"))
    world.fleet.worker_ready("a", Facts(memory=Footprint({"ram": 7}), load_ms=250.0))
    assert measured == [("a", Footprint({"ram": 7}, load_ms=250.0))]


# -- memory and time ----------------------------------------------------------------------------------------------


def limited(world: World, ram: int, **needs: int) -> None:
    """Gives models these needs of RAM, and the server so much of it."""
    limits = config.Placement(max_models=0, memory={"ram": ram})
    world.fleet.reconfigure(replace(world.fleet.stock.config, placement=limits))
    catalog(world, **{name: Entry(config.Model(name=name), estimated={"ram": need}) for name, need in needs.items()})


def test_memory_decides_who_goes() -> None:
    world = World()
    limited(world, 10, a=4, b=6, c=3)
    world.load("a")
    world.load("b")
    world.say(Want("c"))
    assert (world.state("a"), world.state("b")) == (State.DRAINING, State.READY)


def test_what_can_never_fit_fails_with_the_numbers_until_it_can() -> None:
    world = World()
    limited(world, 2**30, a=2**31)
    world.say(Want("a"))
    refused = world.fleet.model("a")
    assert (refused.state, refused.cause) == (State.FAILED, "insufficient_memory")
    assert refused.message == "it needs 2.00 GiB of ram, of which there are 1.00 GiB"
    catalog(world, b=Entry(config.Model(name="b", title="x")))
    assert world.state("a") is State.FAILED
    limited(world, 2**32)
    assert world.state("a") is State.UNLOADED
    world.say(Want("a"))
    assert world.workers.loads == ["a"]


def test_who_waits_for_room_says_for_whom() -> None:
    world = World()
    limited(world, 10, a=8, b=8)
    world.load("a")
    world.say(Activity("a", 1, 1))
    world.say(Want("b"))
    assert world.last(ModelChanged).status.blocked_by == ("a",)
    world.say(Activity("a", 1, 0))
    told = [m.status for m in world.proxy.heard if isinstance(m, ModelChanged) and m.status.name == "b"]
    assert told[-1].blocked_by == ()
    assert world.state("a") is State.DRAINING


def test_a_model_loaded_just_now_stays_for_its_time() -> None:
    world = World()
    catalog(world, a=Entry(config.Model(name="a", min_resident=30.0)))
    world.load("a")
    world.say(Want("b"))
    world.elapse(29.0)
    assert world.state("a") is State.READY
    world.elapse(1.1)
    assert world.state("a") is State.DRAINING


def test_a_model_that_nobody_uses_is_unloaded_after_its_time() -> None:
    world = World(max_models=0)
    catalog(world, a=Entry(config.Model(name="a", idle_timeout=60.0)))
    world.load("a")
    world.elapse(50.0)
    world.say(Activity("a", 1, 1))
    world.elapse(100.0)
    assert world.state("a") is State.READY
    world.say(Activity("a", 1, 0))
    world.elapse(59.0)
    assert world.state("a") is State.READY
    world.elapse(1.1)
    assert (world.state("a"), world.fleet.model("a").stop_reason) == (State.DRAINING, "idle")
    assert world.last(Drain).if_idle
    world.say(Busy("a", 1))
    assert world.state("a") is State.READY


def test_a_pinned_model_is_never_idle() -> None:
    world = World(max_models=0)
    catalog(world, p=Entry(config.Model(name="p", pin=True, idle_timeout=60.0)))
    world.load("p")
    world.elapse(600.0)
    assert world.state("p") is State.READY


def test_a_ready_that_crosses_the_order_to_stop_takes_nobodys_want_away() -> None:
    world = World()
    world.say(Want("a"))
    world.say(Unwant("a"))
    assert world.workers.stops == [("a", "cancel")]
    world.say(Want("a"))
    world.ready("a")
    world.ended("a", -9)
    assert world.workers.loads == ["a", "a"]


def test_a_back_off_that_ended_while_it_waited_for_room_ends_with_its_last_waiter() -> None:
    world = World()
    world.say(Want("a"))
    world.ended("a", 1)
    world.fleet.forget("a")  # its restart in the background is not wanted
    world.say(Want("b"))
    world.say(Want("a"))
    world.elapse(1.0)
    assert world.state("a") is State.BACKOFF
    world.say(Unwant("a"))
    assert world.state("a") is State.UNLOADED


def test_a_model_that_leaves_the_catalog_is_not_loaded_again_for_those_who_want_it_meanwhile() -> None:
    world = World()
    world.load("a")
    entries = {entry.model.name: entry for entry in world.fleet.entries()}
    del entries["a"]
    world.fleet.adopt(entries)
    world.say(Want("a"))
    world.say(Drained("a", 1))
    world.ended("a")
    assert world.workers.loads == ["a"]
    assert world.last(Unlisted).model == "a"


def test_a_model_is_not_taken_away_before_those_who_waited_for_it_were_admitted() -> None:
    world = World(max_models=1)
    world.load("a")
    world.say(Activity("a", 1, 1))
    world.say(Want("b"))
    world.say(Want("c"))
    world.elapse(11)  # both have waited too long
    world.say(Drained("a", 1))
    world.ended("a")
    world.ready("b")
    assert world.state("b") is State.READY
    world.say(Activity("b", 1, 1))
    assert world.state("b") is State.DRAINING  # its own are in flight; newcomers wait behind those of c
    assert world.last(Drain).if_idle is False


def test_the_more_important_want_is_loaded_first() -> None:
    world = World(max_models=1)
    world.load("a")
    world.say(Activity("a", 1, 1))
    world.say(Want("b"))
    world.say(Want("c", 5))
    world.say(Activity("a", 1, 0))
    world.say(Drained("a", 1))
    world.ended("a")
    assert world.workers.loads == ["a", "c"]


def test_the_file_of_a_model_that_waits_for_room_is_read_meanwhile() -> None:
    world = World(max_models=1)
    world.load("a")
    world.say(Activity("a", 1, 1))
    world.say(Want("b"))
    assert world.workers.warmed == ["b"]
    world.say(Activity("a", 1, 0))
    assert world.workers.warmed == ["b"]


# -- out of memory at load ----------------------------------------------------------------------------------------


def no_memory(world: World, name: str) -> None:
    world.fleet.worker_refused(name, LoadFailed("out_of_memory", "no room on the device", permanent=False))
    world.ended(name, 1)


def test_a_load_without_memory_evicts_the_model_unused_for_longest_and_is_tried_once_more() -> None:
    world = World(max_models=0)
    world.load("a")
    world.elapse(1.0)
    world.load("b")
    world.say(Want("c"))
    no_memory(world, "c")
    assert world.state("c") is State.LOADING
    assert world.last(Drain) == Drain("a", 1, "evicted", if_idle=True)
    world.say(Drained("a", 1))
    assert world.workers.loads == ["a", "b", "c"]  # not before it has gone
    world.ended("a")
    assert world.workers.loads == ["a", "b", "c", "c"]
    assert world.last(Lost).model == "a"  # those who wait for c are told of nothing
    world.ready("c")
    assert (world.state("b"), world.state("c"), world.fleet.model("c").generation) == (State.READY, State.READY, 2)


def test_the_second_time_it_fails_and_nobody_else_goes() -> None:
    world = World(max_models=0)
    world.load("a")
    world.load("b")
    world.say(Want("c"))
    no_memory(world, "c")
    world.say(Drained("a", 1))
    world.ended("a")
    no_memory(world, "c")
    assert (world.state("c"), world.fleet.model("c").cause) == (State.FAILED, "out_of_memory")
    assert world.state("b") is State.READY


def test_a_victim_that_is_busy_after_all_stays_and_the_load_is_tried_all_the_same() -> None:
    world = World(max_models=0)
    world.load("a")
    world.say(Want("c"))
    no_memory(world, "c")
    world.say(Busy("a", 1))
    assert (world.state("a"), world.workers.loads) == (State.READY, ["a", "c", "c"])


def test_without_anybody_to_evict_it_is_tried_once_more_at_once() -> None:
    world = World()
    world.say(Want("a"))
    no_memory(world, "a")
    assert world.workers.loads == ["a", "a"]


def test_who_leaves_while_room_is_made_ends_the_load() -> None:
    world = World(max_models=0)
    world.load("a")
    world.say(Want("c"))
    no_memory(world, "c")
    world.say(Unwant("c"))
    assert world.state("c") is State.UNLOADED
    world.say(Drained("a", 1))
    world.ended("a")
    assert world.workers.loads == ["a", "c"]
