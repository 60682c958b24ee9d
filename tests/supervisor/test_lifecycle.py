from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor import config, lifecycle
from supervisor.control import Facts, State
from supervisor.lifecycle import (
    AttachLinks,
    Cancelled,
    Cleared,
    DownloadBegun,
    DownloadEnded,
    DrainBegun,
    DrainedOut,
    Elapsed,
    EndStreams,
    Event,
    Exited,
    Hung,
    Loaded,
    MakeRoom,
    Model,
    Place,
    Refused,
    Reopened,
    RoomMade,
    StartWorker,
    StopWorker,
    Unkillable,
    WantAgain,
)

POLICY = lifecycle.Policy(config.Restart(jitter=0.0), random.Random(1))


def after(*events: Event, at: float = 0.0) -> tuple[Model, list[lifecycle.Action]]:
    """The model and the last step's actions after these events, one second apart."""
    model, actions = Model("m"), []
    for number, event in enumerate(events):
        model, actions = lifecycle.step(model, event, at + number, POLICY)
    return model, actions


READY = (Place(), Loaded(Facts()))


@pytest.mark.parametrize(
    ("events", "state", "actions"),
    [
        ((Place(),), State.LOADING, [StartWorker(1)]),
        (READY, State.READY, [AttachLinks()]),
        ((*READY, DrainBegun("evicted")), State.DRAINING, []),
        ((*READY, DrainBegun("evicted"), Reopened()), State.READY, [AttachLinks()]),
        ((*READY, DrainBegun("evicted"), DrainedOut(), Exited(0)), State.UNLOADED, []),
        ((Place(), Cancelled("unwanted")), State.STOPPING, [StopWorker("cancel")]),
        ((Place(), Cancelled("unwanted"), Loaded(Facts())), State.STOPPING, []),
        ((Place(), Cancelled("unwanted"), Exited(-9)), State.UNLOADED, []),
        ((*READY, Exited(-9), Elapsed()), State.UNLOADED, []),
        ((*READY, Exited(-9), Place()), State.LOADING, [StartWorker(2)]),
        ((*READY, Cleared()), State.READY, []),
        ((DownloadBegun(),), State.DOWNLOADING, []),
        ((DownloadBegun(), Place()), State.DOWNLOADING, []),
        ((DownloadBegun(), DownloadEnded(), Place()), State.LOADING, [StartWorker(1)]),
        ((DownloadBegun(), DownloadEnded("no room")), State.FAILED, []),
        ((DownloadBegun(), DownloadEnded("cancelled", cancelled=True)), State.UNLOADED, []),
        ((DownloadBegun(), DownloadEnded("no room"), DownloadBegun()), State.DOWNLOADING, []),
        ((*READY, DownloadBegun()), State.READY, []),
    ],
)
def test_transitions(events: tuple[Event, ...], state: State, actions: list[lifecycle.Action]) -> None:
    model, performed = after(*events)
    assert model.state is state
    assert performed == actions


def test_a_killed_worker_backs_off_and_its_streams_end_and_it_comes_back() -> None:
    model, actions = after(*READY, Exited(-9))
    assert (model.state, model.cause, model.signal, model.exit_code) == (State.BACKOFF, "killed", "SIGKILL", -9)
    assert model.retry_at == pytest.approx(2.5)
    assert actions == [EndStreams("killed", "the worker was ended by SIGKILL"), WantAgain()]


def test_a_place_is_refused_before_the_back_off_is_over() -> None:
    dead, _ = after(*READY, Exited(-9))
    early, actions = lifecycle.step(dead, Place(), 2.4, POLICY)
    assert early is dead
    assert actions == []


def test_a_corrupt_file_fails_at_once_with_the_reason() -> None:
    model, _ = after(Place(), Refused("file_corrupt", "bad magic", permanent=True), Exited(78))
    assert (model.state, model.cause, model.message) == (State.FAILED, "file_corrupt", "bad magic")


def test_exit_78_without_a_word_fails_at_once() -> None:
    assert after(Place(), Exited(78))[0].state is State.FAILED


def test_a_second_refusal_fails_the_model() -> None:
    refusal = Refused("load_error", "no", permanent=False)
    model, _ = after(Place(), refusal, Exited(1))
    assert model.state is State.BACKOFF
    model, _ = after(Place(), refusal, Exited(1), Place(), refusal, Exited(1))
    assert (model.state, model.cause) == (State.FAILED, "load_error")


NO_MEMORY = (Place(), Refused("out_of_memory", "no", permanent=False), Exited(1))


@pytest.mark.parametrize("told", [NO_MEMORY, (Place(), Exited(-9, out_of_memory=True))])
def test_a_load_that_runs_out_of_memory_stays_loading_and_is_tried_once_more(told: tuple[Event, ...]) -> None:
    model, actions = after(*told)
    assert (model.state, model.makes_room, actions) == (State.LOADING, True, [MakeRoom()])
    model, actions = after(*told, RoomMade())
    assert (model.state, model.generation, actions) == (State.LOADING, 2, [StartWorker(2)])
    model, _ = after(*told, RoomMade(), *told[1:])
    assert model.state is State.FAILED
    assert model.cause in ("out_of_memory", "oom_killed")
    model, _ = after(*told, RoomMade(), *told[1:], Cleared(), *told)
    assert model.state is State.LOADING  # another load has a retry of its own


def test_a_retry_that_succeeds_leaves_nothing_behind() -> None:
    model, actions = after(*NO_MEMORY, RoomMade(), Loaded(Facts()))
    assert (model.state, model.cause, model.refusals, actions) == (State.READY, "", 0, [AttachLinks()])


def test_a_load_without_a_process_is_cancelled_at_once() -> None:
    model, actions = after(*NO_MEMORY, Cancelled("unwanted"))
    assert (model.state, model.makes_room, actions) == (State.UNLOADED, False, [])


def test_the_cause_of_an_earlier_load_is_not_that_of_this_one() -> None:
    model, _ = after(*NO_MEMORY, RoomMade(), *NO_MEMORY[1:], Cleared(), Place(), Exited(1))
    assert (model.state, model.cause) == (State.BACKOFF, "exited")


def test_restart_intensity_is_exact() -> None:
    events: list[Event] = []
    for _ in range(POLICY.restart.max_deaths):
        events += [Place(), Loaded(Facts()), Exited(-11)]
    model = Model("m")
    now = 0.0
    for event in events:
        now = max(now, model.retry_at or 0.0)
        model, _ = lifecycle.step(model, event, now, POLICY)
    assert model.state is State.BACKOFF
    for event in (Place(), Loaded(Facts()), Exited(-11)):
        now = max(now, model.retry_at or 0.0)
        model, _ = lifecycle.step(model, event, now, POLICY)
    assert (model.state, model.cause) == (State.FAILED, "restart_limit")
    assert "SIGSEGV" in model.message


def test_a_hung_model_is_killed_and_counts_as_a_death() -> None:
    model, actions = after(*READY, Hung("no pong for 11 s"))
    assert actions == [EndStreams("hung", "no pong for 11 s"), StopWorker("hung")]
    model, _ = lifecycle.step(model, Exited(-9), 4.0, POLICY)
    assert (model.state, model.cause, model.message) == (State.BACKOFF, "hung", "no pong for 11 s")


def test_an_unkillable_process_keeps_its_place_until_it_goes() -> None:
    model, _ = after(*READY, Hung("stuck"), Unkillable())
    assert model.state is State.FAILED
    assert model.stuck
    assert lifecycle.step(model, Cleared(), 9.0, POLICY)[0] is model
    assert lifecycle.step(model, Exited(-9), 9.0, POLICY)[0].state is State.UNLOADED


def test_a_planned_stop_is_no_death() -> None:
    model, _ = after(*READY, DrainBegun("requested"), DrainedOut(), Exited(-9))
    assert (model.state, model.exit_code, model.cause) == (State.UNLOADED, 0, "")
    assert model.history.deaths == ()


def test_clearing_a_failed_model_forgets_its_deaths() -> None:
    model, _ = after(Place(), Exited(78), Cleared())
    assert model.state is State.UNLOADED
    assert model.history.deaths == ()


def test_an_illegal_move_raises() -> None:
    with pytest.raises(lifecycle.IllegalTransition, match="UNLOADED → READY"):
        lifecycle.move(Model("m"), State.READY, 0.0)


EVENTS = st.sampled_from(
    [
        Place(),
        Loaded(Facts()),
        Refused("out_of_memory", "x", False),
        Refused("load_error", "x", False),
        RoomMade(),
        DrainBegun("evicted"),
        Reopened(),
        DrainedOut(),
        Cancelled("unwanted"),
        Hung("x"),
        Unkillable(),
        Elapsed(),
        Cleared(),
        DownloadBegun(),
        DownloadEnded(),
        DownloadEnded("no room"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(EVENTS, st.booleans(), st.floats(0, 40)), max_size=40))
def test_any_order_of_events_is_legal_and_at_most_one_process_lives(script: list[tuple[Event, bool, float]]) -> None:
    model, alive, now = Model("m"), 0, 0.0
    for event, dies, pause in script:
        now += pause
        chosen = Exited(-9) if dies and alive else event
        if isinstance(chosen, Exited):
            alive -= 1
        model, actions = lifecycle.step(model, chosen, now, POLICY)
        alive += sum(isinstance(action, StartWorker) for action in actions)
        assert alive in (0, 1)
        lives = model.state in (State.LOADING, State.READY, State.DRAINING, State.STOPPING) or model.stuck
        assert bool(alive) == (lives and not model.makes_room)
        assert model.state is not State.BACKOFF or model.retry_at is not None


def test_a_failed_download_says_why() -> None:
    model, _ = after(DownloadBegun(), DownloadEnded("no room"))
    assert (model.cause, model.message) == ("download_error", "no room")
