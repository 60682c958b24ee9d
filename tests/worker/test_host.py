"""The host part of a worker, with the echo engine behind it: a real process, real sockets, no llama.cpp."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from supervisor.config import Model
from supervisor.control import ConfigureWorker, LoadFailed, Phase, Ready
from tests.echo_worker import expected
from tests.worker.rig import PATIENCE, Link, Worker, end, generate, text
from worker.protocol import (
    Accepted,
    Cancel,
    Chat,
    Delta,
    Detokenize,
    Failed,
    Look,
    Rendered,
    Seen,
    Started,
    Tokenize,
    Tokens,
)

ENTRY = "tests.echo_worker:main"


def model(file: str = "", **keys: object) -> Model:
    return Model(name="echo", file=file, worker=ENTRY, **keys)  # type: ignore[arg-type]


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker(ENTRY) as worker:
        yield worker


@pytest.fixture(scope="module")
def loaded() -> Iterator[Worker]:
    with Worker(ENTRY) as worker:
        assert isinstance(worker.load(model(parallel=200, n_ctx=40_000)), Ready)
        yield worker


@pytest.fixture
def link(loaded: Worker) -> Iterator[Link]:
    link = loaded.link()
    yield link
    link.connection.close()


def until(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not fact():
        assert time.monotonic() < deadline, "it never became true"


def test_a_standby_answers_pings_and_leaves_when_told(worker: Worker) -> None:
    until(lambda: worker.ping().phase is Phase.STANDBY)
    assert worker.stop() == 0


def test_reply_is_what_the_oracle_says(link: Link) -> None:
    events = link.ask(1, "one two three", max_tokens=7)
    assert isinstance(events[0], Accepted)
    assert isinstance(events[1], Started)
    assert text(events) == "".join(expected("one two three", 7)) == "one two three one two three one"
    assert end(events).reason == "limit"
    assert end(events).timings.predicted_n == 7


def test_chat_echoes_the_last_user_message_once(link: Link) -> None:
    chat = Chat([{"role": "user", "content": "no"}, {"role": "user", "content": [{"type": "text", "text": "a b"}]}])
    events = link.ask(1, chat)
    assert text(events) == "a b"
    assert end(events).reason == "eos"


def test_stop_string_ends_the_reply(link: Link) -> None:
    events = link.ask(1, "one two three", stop=("o th",))
    assert text(events) == "one tw"
    assert (end(events).reason, end(events).stop_word) == ("word", "o th")


def test_without_streaming_there_is_one_delta(link: Link) -> None:
    events = link.ask(1, "a b c d", max_tokens=100, stream=False)
    assert [event.text for event in events if isinstance(event, Delta)] == ["".join(expected("a b c d", 100))]


def test_many_streams_do_not_mix(link: Link) -> None:
    for id in range(150):
        link.send(generate(id, f"s{id} x y", max_tokens=20 + id))
    events = list(link.events(*range(150)))
    for id in range(150):
        mine = [event for event in events if getattr(event, "id", None) == id]
        assert text(mine) == "".join(expected(f"s{id} x y", 20 + id))


def test_a_proxy_that_does_not_read_stops_nobody_and_gets_merged_deltas(loaded: Worker, link: Link) -> None:
    word = "w" * 8_000
    link.send(generate(1, '{"echo": {"rate": 1e6}}' + word, max_tokens=2_500))
    until(lambda: loaded.ping().active == 1)
    until(lambda: loaded.ping().active == 0)  # 20 MB, more than the socket holds
    events = list(link.events(1))
    assert text(events) == "".join(expected(word, 2_500))
    deltas = [event for event in events if isinstance(event, Delta)]
    assert sum(delta.tokens for delta in deltas) == 2_500
    assert len(deltas) < 2_400


def test_cancel_silences_a_request_and_frees_its_place(loaded: Worker, link: Link) -> None:
    link.send(generate(1, '{"echo": {"rate": 50}} x', max_tokens=100_000))
    while not isinstance(link.event(), Delta):
        pass
    link.send(Cancel(1))
    until(lambda: loaded.ping().active == 0)
    assert text(link.ask(2, "still here")) == "still here"


def test_lost_proxy_cancels_its_requests_and_keeps_the_model(loaded: Worker, link: Link) -> None:
    link.send(generate(1, '{"echo": {"rate": 50}} x', max_tokens=100_000))
    until(lambda: loaded.ping().active == 1)
    link.connection.close()
    until(lambda: loaded.ping().active == 0)
    assert text(loaded.link().ask(1, "hello")) == "hello"


def test_garbage_drops_the_link_not_the_process(loaded: Worker, link: Link) -> None:
    link.connection.send_bytes(b"\xc1garbage")
    with pytest.raises(EOFError):
        link.event()
    assert text(loaded.link().ask(1, "hello")) == "hello"


def test_a_proxy_of_another_generation_is_refused(loaded: Worker) -> None:
    link = loaded.link()
    link.send(generate(1, "x"))
    stranger = loaded.link()
    stranger.connection.send_bytes(b"\x93\x00\x01\x07")
    with pytest.raises(EOFError):
        stranger.event()
    assert text(list(link.events(1))) == "x"


def test_prompt_over_the_context_is_refused_with_counts(link: Link) -> None:
    (failed,) = link.ask(1, "x" * 50_000)
    assert isinstance(failed, Failed)
    assert failed.code == "context_length_exceeded"
    assert "exceeds the available context size" in failed.message
    assert failed.fields == {"n_prompt_tokens": 50_000, "n_ctx": 40_000}


def test_template_error_reaches_the_client(link: Link) -> None:
    (failed,) = link.ask(1, Chat([{"role": "unsupported", "content": ""}]))
    assert isinstance(failed, Failed)
    assert failed.code == "template_error"


def test_tokenize_and_back(link: Link) -> None:
    link.send(Tokenize(1, ("héé",), with_pieces=True))
    tokens = link.event()
    assert isinstance(tokens, Tokens)
    assert b"".join(tokens.pieces or []) == "héé".encode()
    link.send(Detokenize(2, tuple(tokens.tokens)))
    assert link.event() == Rendered(2, "héé")


def test_large_text_is_tokenized_beside_the_pings(loaded: Worker, link: Link) -> None:
    link.send(Tokenize(1, ("x" * 3_000_000,)))
    tokens = link.event()
    assert isinstance(tokens, Tokens)
    assert len(tokens.tokens) == 3_000_000


@pytest.mark.parametrize(("kind", "code"), [("permanent", 78), ("temporary", 1)])
def test_failed_load_says_why_and_exits(worker: Worker, kind: str, code: int) -> None:
    assert worker.load(model(f"fail={kind}")) == LoadFailed("load_error", f"told to fail: {kind}", kind == "permanent")
    assert worker.process.wait(PATIENCE) == code


def test_stop_ends_a_load(worker: Worker) -> None:
    worker.tell(ConfigureWorker(model("load=3600"), 1))
    until(lambda: worker.ping().phase is Phase.LOADING)
    assert worker.stop() == 0


def test_load_reports_progress(worker: Worker) -> None:
    worker.tell(ConfigureWorker(model("load=30"), 1))
    seen: list[float] = []
    until(lambda: seen.append(worker.ping().progress) or len({value for value in seen if 0 < value < 1}) > 3)
    assert seen == sorted(seen)


def test_stop_lets_running_streams_finish_then_cuts_them(worker: Worker) -> None:
    worker.load(model("rate=100"))
    link = worker.link()
    link.send(generate(1, "short", max_tokens=20))
    link.send(generate(2, "long", max_tokens=1_000_000))
    events = [link.event()]
    while sum(isinstance(event, Started) for event in events) < 2:
        events.append(link.event())
    began = time.monotonic()
    assert worker.stop(1.0) == 0
    assert time.monotonic() - began > 0.4  # the short one needs half of it
    events += link.events(2)
    short = [event for event in events if getattr(event, "id", 0) == 1]
    assert text(short) == "".join(expected("short", 20))
    assert end(short).reason == "limit"
    last = events[-1]
    assert isinstance(last, Failed)
    assert last.code == "model_unloaded"


def test_sigterm_ends_it_with_zero(worker: Worker) -> None:
    worker.load(model())
    assert worker.terminate() == 0
    assert "Traceback" not in worker.stderr()


def test_without_a_root_it_exits_at_once(worker: Worker) -> None:
    worker.load(model())
    assert worker.leave() == 70


@pytest.mark.parametrize("loaded", [False, True], ids=["standby", "loaded"])
def test_lease_ends_a_worker_whose_root_is_silent(worker: Worker, loaded: bool) -> None:
    if loaded:
        worker.load(model())
    worker.ping(lease=0.5)
    assert worker.process.wait(PATIENCE) == 70


def test_pongs_come_while_python_hangs_but_steps_stand_still(worker: Worker) -> None:
    worker.load(model())
    link = worker.link()
    link.send(generate(1, '{"echo": {"fault": "hang", "at": 2}} a b c'))
    while link.event() != Delta(1, " b"):
        pass
    until(lambda: worker.ping().steps == 2)  # its events may be here before the step has been counted
    time.sleep(0.2)
    assert worker.ping().phase is Phase.DECODE
    assert worker.ping().steps == 2


def test_what_runs_is_told_while_python_hangs(worker: Worker) -> None:
    worker.load(model())
    link = worker.link()
    link.send(generate(1, '{"echo": {"fault": "hang", "at": 1}} a b'))
    while link.event() != Delta(1, "a"):
        pass
    link.send(Look(2))
    assert link.event() == Seen(2, [])


@pytest.mark.parametrize(("fault", "code"), [("exit:3", 3), ("SIGKILL", -9), ("SIGSEGV", -11)])
def test_ordered_deaths(worker: Worker, fault: str, code: int) -> None:
    worker.load(model())
    link = worker.link()
    link.send(generate(1, f'{{"echo": {{"fault": "{fault}", "at": 2}}}} a b c'))
    assert worker.process.wait(PATIENCE) == code


def test_more_requests_than_places_are_all_served(worker: Worker) -> None:
    worker.load(model(parallel=1))
    link = worker.link()
    for id in (1, 2, 3):
        link.send(generate(id, f"w{id}", max_tokens=50))
    events = list(link.events(1, 2, 3))
    for id in (1, 2, 3):
        assert text([event for event in events if getattr(event, "id", None) == id]) == "".join(expected(f"w{id}", 50))
