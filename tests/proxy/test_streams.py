"""Streams that outlive their client: what is kept, for whom, how long, and that nothing of it is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import aclosing
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.conversations import OVERHEAD, Conversations, meant
from proxy.peers import AskDrop, AskStream
from proxy.resumption import Found
from proxy.sse import NDJSON, SSE
from proxy.tape import Lost, Tape
from supervisor.config import Resume, Server
from supervisor.control import Death, Died, Finding, Inquired, Inquiry, State, Unwant, Want
from tests.proxy.harness import FakeWorker, Harness, settings, until
from tests.proxy.test_clients import Client
from tests.proxy.test_edges import KEYS
from worker.protocol import Accepted, Delta, Finished, Started, Timings

ID = {"x-conversation-id": "c1"}
STREAM = "/v1/stream?conv_id=c1"


# -- the tape ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=40)), st.integers(1, 60), st.integers(0, 200), st.integers(1, 50))
def test_a_tape_gives_exactly_what_follows_or_says_that_it_is_gone(
    parts: list[bytes], limit: int, start: int, most: int
) -> None:
    tape, whole = Tape(limit), b"".join(parts)
    for part in parts:
        tape.write(part)
    assert (tape.end, tape.size) == (len(whole), min(limit, len(whole)))
    if start < len(whole) - limit:
        with pytest.raises(Lost):
            tape.read(start, most)
    else:
        assert tape.read(start, most) == whole[start : start + most]


class FakeCall:
    """What a conversation needs of a call."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []

    def cancel(self, error: Exception) -> bool:
        self.errors.append(error)
        return True


def begin(home: Conversations, id: str, owner: str = "") -> Any:
    return home.begin(owner, id, FakeCall(), SSE)  # type: ignore[arg-type]


def body(data: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def rest(kept: Any, start: int) -> bytes:
    async with aclosing(kept.follow(start)) as parts:
        return b"".join([part async for part in parts])


@given(st.lists(st.binary(max_size=9), max_size=12), st.lists(st.tuples(st.integers(0, 12), st.integers(0, 80))))
def test_whoever_comes_when_and_from_where_ever_gets_exactly_the_rest(
    parts: list[bytes], comers: list[tuple[int, int]]
) -> None:
    async def scenario() -> None:
        home = Conversations(Resume())
        kept, whole, readers = begin(home, "a"), b"".join(parts), []
        for moment in range(len(parts) + 1):
            for after, place in comers:
                if min(after, len(parts)) == moment:
                    start = min(place, kept.tape.end)
                    readers.append((start, asyncio.ensure_future(rest(kept, start))))
            await asyncio.sleep(0)
            await kept.send(body(parts[moment]) if moment < len(parts) else body(b"", more=False))
        for start, reader in readers:
            assert await reader == whole[start:]
        assert await rest(kept, 0) == whole

    asyncio.run(scenario())


# -- the bounds -------------------------------------------------------------------------------------------------------


async def test_what_has_ended_goes_first_then_old_bytes_and_each_owner_has_its_own_room() -> None:
    home = Conversations(Resume(memory=3 * OVERHEAD + 1000))
    other = begin(home, "x", "bob")
    await other.send(body(b"y" * 900, more=False))
    first, second, third = (begin(home, id, "alice") for id in "abc")
    await first.send(body(b"1" * 400))
    await second.send(body(b"2" * 400, more=False))
    await third.send(body(b"3" * 600))
    assert [each.conversation_id for each in home.lookup("alice", ["a", "b", "c"])] == ["a", "c"]  # b had ended
    await third.send(body(b"4" * (OVERHEAD + 600)))
    assert (first.tape.floor, first.tape.end, third.tape.floor) == (400, 400, 200)
    with pytest.raises(Lost):
        await rest(first, 0)
    assert home.find("bob", "x") is other
    assert home.find("alice", "x") is None


async def test_a_reader_that_is_too_slow_loses_its_place_and_the_stream_goes_on() -> None:
    home = Conversations(Resume(buffer=100))
    kept = begin(home, "a")
    async with aclosing(kept.follow(0)) as slow:
        await kept.send(body(b"x" * 60))
        assert [await anext(slow), await anext(slow)] == [b"", b"x" * 60]
        await kept.send(body(b"y" * 150))
        with pytest.raises(Lost):
            await anext(slow)
    assert kept.tape.floor == 110
    assert not kept.ended


async def test_what_has_ended_is_kept_for_a_while_and_then_forgotten() -> None:
    home = Conversations(Resume(ttl=0.05))
    kept = begin(home, "a")
    await kept.send(body(b"x", more=False))
    assert home.find("", "a") is kept
    await until(lambda: home.find("", "a") is None)


async def test_one_that_nobody_reads_is_cancelled_unless_somebody_comes_in_time() -> None:
    home = Conversations(Resume(detached=0.05))
    call = FakeCall()
    kept = home.begin("", "a", call, SSE)  # type: ignore[arg-type]
    reader = asyncio.ensure_future(rest(kept, 0))
    await asyncio.sleep(0.1)
    assert call.errors == []
    reader.cancel()
    await until(lambda: call.errors)
    assert "nobody came back within 0.05 s" in str(call.errors[0])


@pytest.mark.parametrize(
    ("id", "asked", "same"),
    [
        ("u", "u", True), ("u::m", "u", True), ("u", "u::m", True), ("u::m", "u::n", False), ("u2", "u", False),
        ("u:m", "u", False),
    ],
)  # fmt: skip
def test_ids_with_and_without_a_model(id: str, asked: str, same: bool) -> None:
    assert meant(id, asked) is same


async def test_the_exact_id_counts_before_its_kin() -> None:
    home = Conversations(Resume())
    bare, with_model = begin(home, "u"), begin(home, "u::m")
    assert (home.find("", "u"), home.find("", "u::m"), home.find("", "u::n")) == (bare, with_model, bare)
    home.drop("", "u", "test")
    assert [each.conversation_id for each in home.lookup("", ["u"])] == ["u::m"]
    home.drop("", "u", "test")
    assert home.lookup("", ["u"]) == []


# -- over HTTP --------------------------------------------------------------------------------------------------------


class Leaver(Client):
    """A raw client with a conversation's id, that reads a while and leaves."""

    def __init__(self, server: Harness, **more: Any) -> None:
        super().__init__(server, headers="x-conversation-id: c1\r\n", stream=True, **more)

    @property
    def body(self) -> bytes:
        """What of the answer's body has come, without the marks of its chunks; whole chunks only."""
        data, found = self.received.partition(b"\r\n\r\n")[2], b""
        while (size := data.partition(b"\r\n"))[1]:
            length = int(size[0], 16)
            if not length or len(size[2]) < length:
                break
            found, data = found + size[2][:length], size[2][length + 2 :]
        return found


def conversations(server: Harness) -> Conversations:
    return server.proxy.services.result().resumption.kept


async def left_in_the_middle(server: Harness, worker: FakeWorker, number: int = 1) -> tuple[Any, bytes]:
    """A stream whose client has left after some of it: what was asked, and what that client had got."""
    client = Leaver(server)
    ask = await worker.next(number)
    worker.send(Accepted(ask.id, 7), Started(ask.id, 3), Delta(ask.id, "one "))
    await client.read(lambda data: b'"content":"one "' in data)
    client.leave()
    return ask, client.body


def finish(worker: FakeWorker, ask: Any, *texts: str) -> None:
    deltas = [Delta(ask.id, text) for text in texts]
    worker.send(*deltas, Finished(ask.id, "eos", "", Timings(3, 4, 1.0, 1 + len(texts), 1.0)))


async def test_a_client_that_comes_back_gets_exactly_what_it_has_missed() -> None:
    async with Harness() as server:
        worker = await server.attach()
        ask, had = await left_in_the_middle(server, worker)
        async with server.client.stream("GET", f"{STREAM}&from={len(had)}") as response:
            assert response.status_code == 200
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            finish(worker, ask, "two ", "three")
            found = await response.aread()
        whole = await server.client.get(STREAM)
        assert had + found == whole.content
        assert whole.text.endswith("data: [DONE]\n\n")
        assert whole.text.count('"content":"one "') == whole.text.count("three") == 1
        again = await server.client.get("/v1/stream?conv_id=c1", headers={"last-event-id": str(len(had))})
        assert again.content == found
        assert worker.cancelled == []
        (row,) = (await server.client.get("/activity")).json()["recent"]
        assert (row["outcome"], row["status"], row["generated"]) == ("ok", 200, 3)


async def test_a_stream_cut_anywhere_and_put_together_is_the_uncut_one() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = asyncio.ensure_future(server.client.post("/v1/chat/completions", headers=ID, json=asked()))
        ask = await worker.next()
        worker.send(Accepted(ask.id, 7), Started(ask.id, 3), Delta(ask.id, "äöü€"))
        finish(worker, ask, "🙂", "end")
        whole = (await task).content
        for cut in range(0, len(whole) + 1, 61):
            assert whole[:cut] + (await server.client.get(f"{STREAM}&from={cut}")).content == whole
        assert (await server.client.get(f"{STREAM}&from={len(whole)}")).content == b""


def asked(**more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hi"}], "stream": True} | more


async def test_what_is_wrong_is_told() -> None:
    async with Harness() as server:
        worker = await server.attach()
        ask, _ = await left_in_the_middle(server, worker)
        wrong = {"": "conv_id", "?conv_id=": "conv_id", "?conv_id=c1&from=-1": "from", "?conv_id=c1&from=x": "from"}
        for query, param in (wrong | {"?conv_id=c1&from=99999999": "from"}).items():
            response = await server.client.get(f"/v1/stream{query}")
            assert (response.status_code, response.json()["error"]["param"]) == (400, param)
        finish(worker, ask)


async def test_an_offset_that_is_no_longer_kept_is_lost() -> None:
    async with Harness(settings(resume=Resume(buffer=4096))) as server:
        worker = await server.attach()
        ask, _ = await left_in_the_middle(server, worker)
        finish(worker, ask, "x" * 4096)
        await until(lambda: conversations(server).lookup("", ["c1"])[0].is_done)
        response = await server.client.get(STREAM)
        assert response.status_code == 400
        assert "Stream offset lost" in response.json()["error"]["message"]


async def test_it_belongs_to_the_key_that_began_it() -> None:
    async with Harness(settings("ab", keys=KEYS)) as server:
        worker = await server.attach("ab")
        alice, root = {"x-api-key": "alice"}, {"x-api-key": "root"}
        task = asyncio.ensure_future(
            server.client.post("/v1/chat/completions", headers=ID | alice, json=asked(model="ab"))
        )
        worker.reply(await worker.next(), "ok")
        mine = await task
        assert (await server.client.get(STREAM, headers=root)).status_code == 404
        assert (await server.client.delete(STREAM, headers=root)).status_code == 204
        look = {"conversation_ids": ["c1"]}
        assert (await server.client.post("/v1/streams/lookup", headers=root, json=look)).json() == []
        assert (await server.client.get(STREAM, headers=alice)).content == mine.content
        (known,) = (await server.client.post("/v1/streams/lookup", headers=alice, json=look)).json()
        assert (known["conversation_id"], known["is_done"], known["total_bytes"]) == ("c1", True, len(mine.content))
        assert known["started_at"] <= known["completed_at"] <= time.time()


@pytest.mark.parametrize("stream", [True, False])
async def test_delete_ends_it_and_forgets_it(stream: bool) -> None:
    async with Harness() as server:
        worker = await server.attach()
        body = asked(stream=stream)
        task = asyncio.ensure_future(server.client.post("/v1/chat/completions", headers=ID, json=body))
        ask = await worker.next()
        assert (await server.client.delete(STREAM)).status_code == 204
        assert (await task).json()["error"]["code"] == "cancelled"
        await until(lambda: worker.cancelled == [ask.id])
        assert (await server.client.get(STREAM)).status_code == 404
        assert (await server.client.delete(STREAM)).status_code == 204


async def test_one_that_waits_survives_its_client_and_tells_that_it_is_not_there_yet() -> None:
    async with Harness() as server:
        client = Leaver(server)
        await server.heard(Want)
        client.leave()
        await until(lambda: conversations(server).find("", "c1")._clock)  # type: ignore[union-attr]
        response = await server.client.get(STREAM)
        assert (response.status_code, response.headers["retry-after"]) == (503, "2")
        assert server.count(Unwant) == 0
        worker = await server.attach()
        worker.reply(await worker.next(), "ok")
        await until(lambda: conversations(server).lookup("", ["c1"])[0].is_done)
        assert '"content":"ok"' in (await server.client.get(STREAM)).text


async def test_one_that_fails_before_its_head_is_answered_and_not_kept() -> None:
    async with Harness() as server:
        task = asyncio.ensure_future(server.client.post("/v1/chat/completions", headers=ID, json=asked()))
        await server.heard(Want)
        await server.change(state=State.FAILED, cause="file_corrupt")
        assert (await task).json()["error"]["code"] == "model_failed"
        assert (await server.client.get(STREAM)).status_code == 404


async def test_a_new_request_of_the_same_id_takes_its_place() -> None:
    async with Harness() as server:
        worker = await server.attach()
        ask, _ = await left_in_the_middle(server, worker)
        task = asyncio.ensure_future(server.client.post("/v1/chat/completions", headers=ID, json=asked()))
        second = await worker.next(2)
        await until(lambda: worker.cancelled == [ask.id])
        worker.reply(second, "new")
        assert (await server.client.get(STREAM)).content == (await task).content


async def test_a_worker_that_dies_ends_it_with_an_error_for_whoever_comes_back() -> None:
    async with Harness() as server:
        worker = await server.attach()
        _, had = await left_in_the_middle(server, worker)
        server.lose("crashed")
        found = await server.client.get(f"{STREAM}&from={len(had)}")
        assert '"code":"worker_died"' in found.text
        assert "[DONE]" not in found.text


async def test_one_that_nobody_comes_back_for_is_cancelled() -> None:
    async with Harness(settings(resume=Resume(detached=0.05))) as server:
        worker = await server.attach()
        ask, _ = await left_in_the_middle(server, worker)
        await until(lambda: worker.cancelled == [ask.id])
        assert '"code":"cancelled"' in (await server.client.get(STREAM)).text
        (row,) = (await server.client.get("/activity")).json()["recent"]
        assert row["outcome"] == "cancelled"


async def test_turned_off_it_ends_with_its_client_but_delete_finds_it() -> None:
    async with Harness(settings(resume=Resume(enabled=False))) as server:
        worker = await server.attach()
        first, _ = await left_in_the_middle(server, worker)
        await until(lambda: worker.cancelled == [first.id])
        assert (await server.client.get(STREAM)).status_code == 404
        Leaver(server)
        second = await worker.next(2)
        assert (await server.client.delete(STREAM)).status_code == 204
        await until(lambda: worker.cancelled == [first.id, second.id])


async def test_the_cause_is_told_where_a_proxy_has_died() -> None:
    async with Harness() as server:
        assert "cause" not in (await server.client.get(STREAM)).json()["error"]
        server.tell(Died(Death("proxy-0", time.time(), "killed", "proxy-0 was ended by SIGKILL", -9), 1))
        await until(lambda: server.proxy.services.result().feed.deaths)
        response = await server.client.get(STREAM)
        assert (response.status_code, response.json()["error"]["cause"]) == (404, "proxy_died")
        assert "SIGKILL" in response.json()["error"]["message"]


async def test_an_id_that_is_none_is_refused() -> None:
    async with Harness() as server:
        response = await server.client.post(
            "/v1/chat/completions", headers={"x-conversation-id": "x" * 513}, json=asked()
        )
        assert (response.status_code, response.json()["error"]["param"]) == (400, "X-Conversation-Id")


async def test_other_formats_come_back_with_their_own_type() -> None:
    async with Harness() as server:
        worker = await server.attach()
        task = asyncio.ensure_future(server.client.post("/api/chat", headers=ID, json=asked(model="m")))
        worker.reply(await worker.next(), "ok")
        whole, again = await task, await server.client.get(STREAM)
        assert (again.content, again.headers["content-type"]) == (whole.content, NDJSON.media_type.decode())
        head = await server.client.head(STREAM)
        assert (head.status_code, head.headers["content-type"]) == (200, NDJSON.media_type.decode())


# -- several proxies --------------------------------------------------------------------------------------------------


class Pair:
    """Two proxies, and this test as their root."""

    def __init__(self, one: Harness, other: Harness) -> None:
        self.of = (one, other)
        self._done = {id(one): 0, id(other): 0}
        for harness, peer in ((one, other), (other, one)):
            harness.passed = lambda message, fds, peer=peer, harness=harness: self.pass_on(harness, peer, message, fds)  # type: ignore[misc]

    @staticmethod
    def pass_on(here: Harness, there: Harness, message: Any, fds: list[int]) -> None:
        if isinstance(message, Inquiry):
            here.tell(Inquired(message.ticket, 1))
        if isinstance(message, Inquiry | Finding):
            there.tell(message, *fds)


async def test_a_stream_is_read_through_another_proxy_to_its_end() -> None:
    config = settings(server=Server(proxies=2))
    async with Harness(config) as one, Harness(config) as other:
        Pair(one, other)
        worker = await one.attach()
        ask, had = await left_in_the_middle(one, worker)
        async with other.client.stream("GET", f"{STREAM}&from={len(had)}") as response:
            assert response.status_code == 200
            finish(worker, ask, "two ", "three")
            found = await response.aread()
        whole = await one.client.get(STREAM)
        assert had + found == whole.content
        (known,) = (await other.client.post("/v1/streams/lookup", json={"conversation_ids": ["c1"]})).json()
        assert known["total_bytes"] == len(whole.content)
        beyond = await other.client.get(f"{STREAM}&from=9999999")
        assert beyond.status_code == 400
        assert (await other.client.delete(STREAM)).status_code == 204
        assert (await one.client.get(STREAM)).status_code == 404
        assert (await other.client.get(STREAM)).status_code == 404


async def test_a_new_request_at_another_proxy_takes_its_place() -> None:
    config = settings(server=Server(proxies=2))
    async with Harness(config) as one, Harness(config) as other:
        Pair(one, other)
        worker, second = await one.attach(), await other.attach()
        ask, _ = await left_in_the_middle(one, worker)
        task = asyncio.ensure_future(other.client.post("/v1/chat/completions", headers=ID, json=asked()))
        second.reply(await second.next(), "new")
        whole = await task
        await until(lambda: worker.cancelled == [ask.id])
        assert (await one.client.get(STREAM)).content == whole.content


async def test_a_reader_at_another_proxy_that_leaves_is_noticed() -> None:
    config = settings(server=Server(proxies=2), resume=Resume(detached=0.05))
    async with Harness(config) as one, Harness(config) as other:
        Pair(one, other)
        worker = await one.attach()
        client = Leaver(one)
        ask = await worker.next()
        worker.send(Accepted(ask.id, 7), Started(ask.id, 3), Delta(ask.id, "one "))
        await client.read(lambda data: b'"content":"one "' in data)
        async with other.client.stream("GET", STREAM) as response:
            client.leave()
            await asyncio.sleep(0.15)  # longer than nobody may read
            assert worker.cancelled == []
            assert response.status_code == 200
        await until(lambda: worker.cancelled == [ask.id])


async def test_a_keeper_that_dies_is_no_end() -> None:
    async with Harness(settings(server=Server(proxies=2))) as server:
        import socket

        near, far = socket.socketpair()
        task = asyncio.ensure_future(server.client.get(STREAM))
        inquiry = await server.heard(Inquiry)
        assert msgspec.msgpack.decode(inquiry.payload, type=AskStream) == AskStream("", "c1", 0)
        server.tell(Inquired(inquiry.ticket, 1))
        answer = msgspec.msgpack.encode(Found("here", SSE.media_type, 9))
        server.tell(Finding(inquiry.ticket, answer, 0), far.fileno())
        far.close()
        near.sendall(b"\0\0\0\x04data")
        near.close()
        with pytest.raises(httpx.RemoteProtocolError):
            await task


async def test_a_descriptor_that_comes_too_late_is_closed() -> None:
    async with Harness(settings(server=Server(proxies=2))) as server:
        read, write = os.pipe()
        server.tell(Finding(99, b"", 0), read)
        os.close(read)

        def nobody_reads() -> bool:
            try:
                return not os.write(write, b"x")
            except BrokenPipeError:
                return True

        await until(nobody_reads)
        os.close(write)


def test_the_question_of_a_drop_says_whose_it_is() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(AskDrop("a", "c", "why")), type=AskDrop).exactly is False
