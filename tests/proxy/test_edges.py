"""The edge of the app: keys, web pages, bodies, paths, and what broken requests get."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from proxy import connection
from supervisor.config import Key, Server
from supervisor.control import Answer, ModelCommand, State
from tests.proxy.harness import CHAT, WITHIN, Harness, loaded, settings, until


def key(name: str, **more: Any) -> Key:
    return Key(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), **more)


KEYS = (key("alice", models=("a*",)), key("root", admin=True))


async def raw(server: Harness, data: bytes) -> bytes:
    """What comes back for these bytes until the server closes or has answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(data)
    head = await asyncio.wait_for(reader.read(65536), WITHIN)
    writer.close()
    return head


# -- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": "Basic !!!"}, 401),
        ({"authorization": "Bearer alice"}, 200),
        ({"authorization": "bearer alice"}, 200),
        ({"x-api-key": "alice"}, 200),
        ({"authorization": "Basic " + base64.b64encode(b"me:alice").decode()}, 200),
    ],
)
async def test_a_key_is_needed_where_keys_are_configured(headers: dict[str, str], status: int) -> None:
    async with Harness(settings("ab", "b", keys=KEYS)) as server:
        response = await server.client.get("/v1/models", headers=headers)
        assert response.status_code == status
        if status == 401:
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert response.headers["www-authenticate"] == "Bearer"
        else:
            assert [model["id"] for model in response.json()["data"]] == ["ab"]
        assert (await server.client.get("/health")).status_code == 200
        assert (await server.client.options("/v1/models")).status_code == 200


async def test_a_model_outside_the_keys_scope_does_not_exist() -> None:
    async with Harness(settings("ab", "b", keys=KEYS)) as server:
        server.client.headers["authorization"] = "Bearer alice"
        for response in (
            await server.post(model="b"),
            await server.client.get("/v1/models/b"),
            await server.client.post("/models/load", json={"model": "b"}),
            await server.client.get("/props?model=b"),
        ):
            assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


async def test_only_admins_see_log_tails_and_paths() -> None:
    status = loaded("ab", state=State.FAILED, log_tail=("secret",), cause="crashed")
    async with Harness(settings("ab", keys=KEYS), status) as server:
        texts = [(await server.client.get("/models", headers={"x-api-key": who})).text for who in ("alice", "root")]
        assert ["secret" in text for text in texts] == [False, True]


# -- web pages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "evil.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"origin": "http://localhost:3000", "sec-fetch-site": "cross-site"}, 200),
        ({"origin": "http://127.0.0.1:1"}, 200),
        ({"host": "[::1]:8080"}, 200),
        ({"host": "192.168.1.7"}, 200),
        ({"host": "box.internal:8080", "origin": "http://box.internal:8080"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
    ],
)
async def test_without_keys_foreign_pages_are_refused(headers: dict[str, str], status: int) -> None:
    async with Harness(settings(server=Server(allowed_hosts=("box.internal",)))) as server:
        response = await server.client.get("/v1/models", headers=headers)
        assert response.status_code == status
        assert (await server.client.get("/health", headers=headers)).status_code == 200


async def test_cors_marks_answers_and_errors_for_allowed_origins() -> None:
    async with Harness() as server:
        for path, status in (("/v1/models", 200), ("/nope", 404)):
            response = await server.client.get(path, headers={"origin": "http://localhost:3000"})
            assert response.status_code == status
            assert response.headers["access-control-allow-origin"] == "http://localhost:3000"
            assert response.headers["access-control-allow-credentials"] == "true"
            assert "X-Request-Id" in response.headers["access-control-expose-headers"]
        response = await server.client.get("/health", headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in response.headers
        asked = {"origin": "http://localhost:1", "access-control-request-headers": "authorization, x-a, bad header"}
        response = await server.client.options("/anything", headers=asked)
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["access-control-allow-headers"] == "authorization, x-a"


# -- paths ------------------------------------------------------------------------------------------------------------


async def test_paths_methods_and_ids() -> None:
    async with Harness(settings("a/b:c")) as server:
        get = server.client.get
        for path in ("/v1/models/a/b:c", "/v1/models/a%2Fb%3Ac", "/models/a/b:c/", "/models/a/b:c-alias"):
            assert (await get(path)).json()["id"] == "a/b:c"
        assert (await get("/v1/models/")).status_code == 200
        assert (await server.client.head("/v1/models")).status_code == 200
        response = await get("/v1/chat/completions")
        assert (response.status_code, response.headers["allow"]) == (405, "POST")
        response = await server.client.delete("/v1/models")
        assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")
        assert (await get("/nope")).json()["error"]["code"] == "not_found"
        response = await get("/health", headers={"x-request-id": "my-id.1"})
        assert response.headers["x-request-id"] == "my-id.1"
        assert response.headers["server"] == "llama-supervisor"
        response = await get("/health", headers={"x-request-id": "bad id"})
        assert response.headers["x-request-id"] != "bad id"


async def test_health_needs_the_roots_voice() -> None:
    async with Harness(settings("m", "b"), loaded("m"), loaded("b", state=State.FAILED)) as server:
        assert (await server.client.get("/v1/health")).json() == {"status": "ok"}
        assert (await server.client.get("/health?strict=1")).status_code == 503
        server.proxy.services.result().lease.heard -= 11
        assert (await server.client.get("/health")).json()["error"]["code"] == "starting"
        await server.ping(1)
        await until(lambda: server.proxy.services.result().root_silence < 10)
        assert (await server.client.get("/health")).status_code == 200


async def test_props_never_fail_and_tell_defaults() -> None:
    async with Harness() as server:
        props = (await server.client.get("/props?autoload=false")).json()
        assert (props["role"], props["models_autoload"]) == ("router", True)
        props = (await server.client.get("/props?model=m")).json()
        assert props["is_loaded"] is False
        assert props["default_generation_settings"]["params"]["temperature"] == 0.8
        await server.attach()
        props = (await server.client.get("/props?model=m")).json()
        assert (props["is_loaded"], props["total_slots"]) == (True, 4)


@pytest.mark.parametrize(("verb", "goal"), [("load", State.READY), ("unload", State.UNLOADED)])
async def test_load_and_unload_are_the_roots_decisions(verb: str, goal: State) -> None:
    async with Harness() as server:
        task = server.post(f"/models/{verb}", model="m-alias")
        command = await server.heard(ModelCommand)
        assert (command.verb, command.model, command.admin) == (verb, "m", True)
        server.tell(Answer(command.ticket, already=True))
        assert (await task).json() == {"success": True, "already": True}
        await server.change(state=State.LOADING)
        task = server.post(f"/models/{verb}", model="m", wait=5)
        command = await server.heard(ModelCommand, 2)
        server.tell(Answer(command.ticket))
        await server.change(state=goal)
        assert (await task).json()["status"]["state"] == goal
        task = server.post(f"/models/{verb}", model="m", wait=True)
        command = await server.heard(ModelCommand, 3)
        server.tell(Answer(command.ticket, "model_failed", "no"))
        assert (await task).status_code == 503


async def test_a_load_that_fails_while_it_is_awaited() -> None:
    async with Harness(settings(), loaded(state=State.LOADING, facts=None)) as server:
        task = server.post("/models/load", model="m", wait=True)
        server.tell(Answer((await server.heard(ModelCommand)).ticket))
        await server.change(state=State.FAILED, cause="file_corrupt")
        assert (await task).json()["error"]["cause"] == "file_corrupt"


# -- bodies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"{", "invalid_json", None),
        (b'{"messages": NaN}', "invalid_json", None),
        (b'{"a": 1e999}', "invalid_json", None),
        (b'["\\ud800"]', "invalid_json", None),
        (b"\xff\xfe", "invalid_json", None),
        (b"[]", "invalid_value", None),
        (b"", "missing_field", "messages"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "invalid_json", None),
        (b"[" * 100_000, "invalid_json", None),
        (b'{"messages":[],"max_tokens":123456789012345678901234567890}', "invalid_value", "max_tokens"),
    ],
)
async def test_bodies_that_are_no_request(body: bytes, code: str, param: str | None) -> None:
    async with Harness() as server:
        response = await server.client.post("/v1/chat/completions", content=body)
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (400, code, param)


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_refused_in_time(declared: bool) -> None:
    async def chunks() -> Any:
        for _ in range(64):
            yield b"x" * 1024

    async with Harness(settings(server=Server(max_body=16384))) as server:
        response = await server.client.post("/v1/completions", content=b"x" * 65536 if declared else chunks())
        assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")
        assert response.json()["error"]["limit"] == 16384
        answer = await raw(server, b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n")
        assert answer == b"" or b" 403 " in answer or b" 413 " in answer
        answer = await raw(server, b"POST /tokenize HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n")
        assert b" 413 " in answer  # nothing of the body has come


async def test_a_body_that_does_not_come_is_a_timeout() -> None:
    async with Harness(settings(server=Server(body_timeout=0.05))) as server:
        answer = await raw(server, b"POST /tokenize HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"body_timeout" in answer


async def test_headers_that_are_slow_or_huge_end_the_connection() -> None:
    async with Harness(settings(server=Server(max_headers=2000))) as server:
        huge = b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 3_000 + b"\r\n\r\n"
        answer = await raw(server, huge)
        assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
        assert b"[server].max_headers" in answer
        assert b" 400 " in await raw(server, b"NONSENSE\r\n\r\n")
    async with Harness(settings(server=Server(header_timeout=0.1))) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nhost: loc")
        silent, other = await asyncio.open_connection("127.0.0.1", server.port)
        for unanswered in (reader, silent):
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(unanswered.read(), WITHIN) == b""
        writer.close()
        other.close()


async def test_connections_beyond_the_bound_are_told_so() -> None:
    async with Harness(settings(server=Server(max_connections=2))) as server:
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
        await until(lambda: server.proxy._server and len(server.proxy._server.server_state.connections) == 2)
        response = await server.client.get("/health")
        assert (response.status_code, response.json()["error"]["code"]) == (429, "queue_full")
        for sock in idle:
            sock.close()


async def test_a_bug_of_ours_shows_only_its_request_id(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with Harness() as server:
        monkeypatch.setattr(server.proxy.services.result().models, "gates", None)
        response = await server.client.get("/v1/models")
        assert response.status_code == 500
        assert response.json()["error"]["message"] == f"internal error; request id {response.headers['x-request-id']}"
        assert "AttributeError" in caplog.text
        monkeypatch.undo()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = [
    "messages", "prompt", "content", "tokens", "model", "stream", "stop", "tools", "tool_choice", "max_tokens",
    "temperature", "response_format", "chat_template_kwargs", "logit_bias", "stream_options", "n", "wait", "seed",
]  # fmt: skip
PATHS = ["/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize", "/apply-template", "/models/load"]


async def test_no_body_makes_a_500() -> None:
    async with Harness(settings("a", "b")) as server:  # two models: nothing is admitted without a name
        found: list[tuple[str, dict[str, Any]]] = []

        @hypothesis_settings(max_examples=150, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.sampled_from(PATHS), st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=5))
        def collect(path: str, body: dict[str, Any]) -> None:
            found.append((path, body))

        collect()
        for path, body in found:
            body.pop("model", None) if body.get("model") in ("a", "b") else None
            content = json.dumps(body).encode("utf-8", "surrogatepass")
            response = await server.client.post(path, content=content)
            assert response.status_code in (400, 404, 501), (path, body, response.text)


async def test_a_chat_client_that_sends_everything_is_served() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}, {"type": "web_search"}]
    body = CHAT | {
        "tools": tools, "tool_choice": "auto", "return_progress": True, "sse_ping_interval": 1, "stream": True,
        "timings_per_token": True, "reasoning_format": "auto", "reasoning_control": True, "backend_sampling": False,
        "temperature": None, "stop": None, "logit_bias": {}, "response_format": {"type": "text"}, "n": 1,
    }  # fmt: skip
    async with Harness() as server:
        worker = await server.attach()
        server.client.headers["x-conversation-id"] = "1"
        task = server.post(**body)
        ask = await worker.next()
        assert ask.prompt.tools == tools[:1]
        worker.reply(ask, "ok")
        response = await task
        assert response.status_code == 200
        assert "[DONE]" in response.text


async def test_a_connection_for_which_there_is_no_descriptor_to_spare_is_closed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Harness() as server:
        assert (await server.client.get("/health")).status_code == 200
        monkeypatch.setattr(connection, "room", lambda: 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(1), 30) == b""
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        assert (await server.client.get("/health")).status_code == 200  # on the connection that it has


@pytest.mark.parametrize(("limit", "room"), [(1024, 768), (256, 192), (-1, 2**60)])
def test_clients_do_not_take_the_last_descriptors(limit: int, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (limit, limit))
    assert connection.room() == room or (limit < 0 and connection.room() > room)
