"""Another configuration, as a proxy asks for it and takes it over; loads with other settings."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from proxy.limits import Limits
from supervisor.config import Admission, Key, Model
from supervisor.control import Answer, ModelCommand, Reconfigure, Reload, Reloaded
from tests.proxy.harness import Harness, settings, until
from tests.proxy.test_catalog import KEYS, listed

ROOT, USER = {"authorization": "Bearer root"}, {"authorization": "Bearer user"}


async def test_only_an_admin_has_the_configuration_read_again() -> None:
    async with Harness(settings("a", keys=KEYS)) as server:
        refused = await server.client.post("/admin/reload", headers=USER)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "admin_required")
        assert server.count(Reload) == 0
        task = asyncio.ensure_future(server.client.post("/admin/reload", headers=ROOT))
        asked = await server.heard(Reload)
        server.tell(Reloaded(asked.ticket, added=("x",), changed=("a",), restarting=("a",)))
        answer = await task
        expected = {"success": True, "added": ["x"], "removed": [], "changed": ["a"], "restarting": ["a"]}
        assert (answer.status_code, answer.json()) == (200, expected)


async def test_what_is_wrong_is_said_with_file_table_and_key() -> None:
    async with Harness() as server:
        task = asyncio.ensure_future(server.client.post("/admin/reload"))
        asked = await server.heard(Reload)
        server.tell(Reloaded(asked.ticket, "x.toml: [models.m].n_ctx: no", "models.m", "n_ctx"))
        error = (await task).json()["error"]
        assert (error["status"], error["code"], error["file"]) == (400, "config_invalid", "test")
        assert (error["table"], error["key"]) == ("models.m", "n_ctx")
        assert "no" in error["message"]


async def test_keys_come_and_go() -> None:
    async with Harness(settings("a", "b", keys=KEYS)) as server:
        assert await listed(server, authorization="Bearer user") == ["a"]
        services = server.proxy.services.result()
        more = (KEYS[0], replace(KEYS[1], models=("b",)))
        server.tell(Reconfigure(replace(server.config, keys=more)))
        await until(lambda: services.config.keys == more)
        assert await listed(server, authorization="Bearer user") == ["b"]
        server.tell(Reconfigure(replace(server.config, keys=KEYS[:1])))
        await until(lambda: services.config.keys == KEYS[:1])
        assert (await server.client.get("/models", headers=USER)).status_code == 401
        assert (await server.client.get("/models", headers=ROOT)).status_code == 200


async def test_watchers_come_back_with_their_key_when_keys_change() -> None:
    async with (
        Harness(settings("a", keys=KEYS)) as server,
        server.client.stream("GET", "/models/sse", headers=USER) as stream,
    ):
        lines = stream.aiter_lines()
        await anext(lines)
        server.tell(Reconfigure(replace(server.config, keys=KEYS[:1])))
        assert [line async for line in lines]  # to its end


async def test_limits_of_admission_count_at_once() -> None:
    async with Harness(settings("a")) as server:
        services = server.proxy.services.result()
        fresh = replace(server.config, admission=Admission(autoload=False, default_model="a"))
        server.tell(Reconfigure(fresh))
        await until(lambda: services.config.admission == fresh.admission)
        answer = await server.post(model="a")
        assert answer.json()["error"]["code"] == "model_not_loaded"
        server.tell(Reconfigure(replace(server.config, admission=Admission(max_queue=1))))
        await until(lambda: services.config.admission.max_queue == 1)
        waiting = server.post(model="a")
        await until(lambda: services.models.gates["a"].queued)
        assert (await server.post(model="a")).json()["error"]["code"] == "queue_full"
        waiting.cancel()


async def test_models_get_their_variants() -> None:
    async with Harness(settings("a")) as server:
        server.tell(Reconfigure(replace(server.config, variants={"v": Model(name="v", base="a")})))
        await until(lambda: "v" in server.proxy.services.result().models.names)
        assert await listed(server) == ["a", "v"]


def test_what_a_key_has_used_outlives_a_reload() -> None:
    limited = replace(KEYS[0], requests_per_minute=2, concurrency=1)
    limits = Limits([limited], clock=lambda: 0.0)
    limits.admit(limited)
    limits.reconfigure([replace(limited, concurrency=5)])
    account = limits.accounts["root"]
    assert (account.running, account.requests and account.requests.level, account.key.concurrency) == (1, 1.0, 5)
    limits.reconfigure([replace(limited, requests_per_minute=9)])
    assert limits.accounts["root"].requests is not None
    assert limits.accounts["root"].requests.level == 9.0


def test_a_request_with_a_key_that_went_is_refused() -> None:
    limits = Limits(KEYS)
    limits.reconfigure(KEYS[:1])
    with pytest.raises(Exception, match="valid no more"):
        limits.admit(KEYS[1])


@pytest.mark.parametrize(
    ("keys", "allowed", "headers", "said", "code"),
    [
        (KEYS, False, ROOT, {"n_ctx": 9}, "overrides_disabled"),
        (KEYS, True, USER, {"n_ctx": 9}, "admin_required"),
        ((), True, {}, {"n_ctx": 9}, "admin_required"),
        (KEYS, True, ROOT, {"n_ctx": "x"}, "invalid_value"),
        (KEYS, True, ROOT, {"path": "/etc/passwd"}, "invalid_value"),
        (KEYS, True, ROOT, [], "invalid_value"),
    ],
)
async def test_overrides_that_are_refused(
    keys: tuple[Key, ...], allowed: bool, headers: dict[str, str], said: Any, code: str
) -> None:
    admission = Admission(allow_load_overrides=allowed)
    async with Harness(settings("a", keys=keys, admission=admission)) as server:
        answer = await server.client.post("/models/load", json={"model": "a", "overrides": said}, headers=headers)
        assert answer.json()["error"]["code"] == code
        assert answer.json()["error"]["param"].startswith("overrides")
        assert server.count(ModelCommand) == 0


async def test_overrides_reach_the_root_and_are_shown() -> None:
    async with Harness(settings("a", keys=KEYS, admission=Admission(allow_load_overrides=True))) as server:
        body = {"model": "a", "overrides": {"n_ctx": 9.0, "kv": "q8_0", "threads": None}}
        task = asyncio.ensure_future(server.client.post("/models/load", json=body, headers=ROOT))
        command = await server.heard(ModelCommand)
        assert command.overrides == {"n_ctx": 9, "kv": "q8_0"}
        server.tell(Answer(command.ticket))
        assert (await task).json() == {"success": True}
        await server.change("a", overrides={"n_ctx": 9})
        shown = (await server.client.get("/models/a", headers=ROOT)).json()
        assert shown["status"]["overrides"] == {"n_ctx": 9}
        refused = await server.client.post("/models/load", json={"model": "a", "extra_args": ["-c"]}, headers=ROOT)
        assert refused.status_code == 501
