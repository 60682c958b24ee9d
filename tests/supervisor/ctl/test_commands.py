"""Commands whose routes are young: reload, rm; and pull, with its events. A stand-in speaks for the server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.supervisor.ctl.standin import Asked, Ctl, Ran, Route, StandIn

Capture = pytest.CaptureFixture[str]
NAME, ID = "user/repo", "user/repo:Q4_K_M"
URL = "https://hub/user/repo/model-Q4_K_M.gguf"


def run(capsys: Capture, routes: dict[str, Route], *words: str) -> tuple[Ran, StandIn]:
    with StandIn(routes) as server:
        return Ctl(capsys, "--url", f"http://127.0.0.1:{server.port}")(*words), server


# -- reload -----------------------------------------------------------------------------------------------------------


def test_reload_says_what_has_changed(capsys: Capture) -> None:
    answer = {"success": True, "added": ["a"], "removed": ["b"], "changed": ["c", "d"], "restarting": ["d"]}
    routes: dict[str, Route] = {"POST /admin/reload": lambda asked: asked.answer(answer)}
    ran, _ = run(capsys, routes, "reload")
    assert ran.code == 0
    assert ran.out.splitlines()[:3] == ["a: new", "b: gone", "c: changed"]
    assert ran.out.splitlines()[3].startswith("d: changed while loaded")
    assert len(ran.out.splitlines()) == 4
    ran, _ = run(capsys, routes, "reload", "--json")
    assert ran.json == answer


def test_reload_of_the_same_and_of_a_wrong_file(capsys: Capture) -> None:
    nothing = {"success": True, "added": [], "removed": [], "changed": [], "restarting": []}
    ran, _ = run(capsys, {"POST /admin/reload": lambda asked: asked.answer(nothing)}, "reload")
    assert (ran.code, ran.out) == (0, "reloaded; no model has changed\n")
    text = "models.toml: [models.a].n_ctx: expected int"
    ran, _ = run(capsys, {"POST /admin/reload": lambda asked: asked.refuse(400, "config_invalid", text)}, "reload")
    assert (ran.code, ran.err) == (1, f"ctl: {text}\n")


@pytest.mark.parametrize(
    ("words", "route"),
    [
        (("reload",), "/admin/reload"),
        (("rm", "a"), "DELETE /models"),
        (("pull", "a/b"), "/models/sse"),
        (("pull", "a/b", "--no-wait"), "POST /models"),
    ],
)
def test_a_server_that_does_not_know_a_route_is_no_riddle(capsys: Capture, words: tuple[str, ...], route: str) -> None:
    ran, _ = run(capsys, {}, *words)
    assert (ran.code, "this server has no" in ran.err, route in ran.err) == (1, True, True)


# -- rm ---------------------------------------------------------------------------------------------------------------


def test_rm_deletes(capsys: Capture) -> None:
    ran, server = run(capsys, {"DELETE /models": lambda asked: asked.answer({"success": True})}, "rm", ID)
    assert (ran.code, ran.out) == (0, f"{ID}: deleted\n")
    assert server.asked[0].query == "model=user%2Frepo%3AQ4_K_M"


def test_rm_of_what_cannot_be_deleted_or_is_unknown(capsys: Capture) -> None:
    routes: dict[str, Route] = {
        "DELETE /models": lambda asked: asked.refuse(404, "model_not_found", 'model "smolm2" not found'),
        "GET /models": lambda asked: asked.answer({"data": [{"id": "smollm2", "aliases": ["default"]}]}),
    }
    ran, _ = run(capsys, routes, "rm", "smolm2")
    assert (ran.code, ran.err) == (1, 'ctl: model "smolm2" not found; did you mean "smollm2"?\n')
    routes = {"DELETE /models": lambda asked: asked.refuse(403, "not_removable", "it is in the configuration")}
    ran, _ = run(capsys, routes, "rm", "a")
    assert (ran.code, ran.err) == (77, "ctl: it is in the configuration\n")


def test_unload_by_force_says_so_to_the_server(capsys: Capture) -> None:
    routes: dict[str, Route] = {"POST /models/unload": lambda asked: asked.answer({"success": True})}
    ran, server = run(capsys, routes, "unload", "a", "--force")
    assert (ran.code, ran.out, server.asked[0].body) == (0, "a: unloading\n", {"model": "a", "force": True})


# -- pull -------------------------------------------------------------------------------------------------------------


def record(event: str, data: dict[str, Any], model: str = ID, number: int = 1) -> str:
    return f"id: boot.{number}\ndata: {json.dumps({'model': model, 'event': event, 'data': data})}\n\n"


def progress(done: int, number: int = 1) -> str:
    return record("download_progress", {"progress": {URL: {"done": done, "total": 100}}}, number=number)


class Hub:
    """A server whose downloads go as told: each connection to the events gets the next of `scripts`."""

    def __init__(self, *scripts: list[str], refuse: Callable[[Asked], None] | None = None, value: str = "") -> None:
        self.scripts, self.refuse, self.value = list(scripts), refuse, value
        self.asked_for, self.ids = threading.Event(), list[str]()
        self.named: dict[str, str] = {}

    @property
    def routes(self) -> dict[str, Route]:
        state = {"id": ID, "status": {"value": self.value}}
        found: dict[str, Route] = {"GET /models/sse": self.events, "POST /models": self.begin}
        return found | ({f"GET /models/{NAME}": lambda asked: asked.answer(state)} if self.value else {})

    def begin(self, asked: Asked) -> None:
        assert asked.body == {"model": NAME}
        self.asked_for.set()
        self.refuse(asked) if self.refuse else asked.answer({"success": True} | self.named)

    def events(self, asked: Asked) -> None:
        self.ids.append(asked.headers.get("last-event-id", ""))
        send = asked.stream()
        assert self.asked_for.wait(90)  # who asks first and listens then may miss the end
        for text in self.scripts.pop(0):
            send(text)


NOISE = [
    ": ping\n\n",
    record("status_change", {"status": "loaded"}, "a"),
    record("download_failed", {}, "user/other:x"),
]


def test_pull_waits_for_the_end(capsys: Capture) -> None:
    script = [*NOISE, progress(10), progress(90), record("download_finished", {}), progress(99)]
    ran, server = run(capsys, Hub(script).routes, "pull", NAME)
    assert (ran.code, ran.out, ran.err) == (0, f"{ID}: downloaded\n", "")
    assert [asked.method for asked in server.asked] == ["GET", "POST"]


def test_pull_follows_a_model_that_is_configured_under_a_name_of_its_own(capsys: Capture) -> None:
    hub = Hub([progress(10), record("download_finished", {}, "mine")])
    hub.named = {"model": "mine"}
    ran, _ = run(capsys, hub.routes, "pull", NAME)
    assert (ran.code, ran.out) == (0, "mine: downloaded\n")


def test_pull_as_json_is_its_events(capsys: Capture) -> None:
    script = [*NOISE, progress(10), record("download_finished", {})]
    ran, _ = run(capsys, Hub(script).routes, "pull", NAME, "--json")
    assert ran.lines == [
        {"model": ID, "event": "download_progress", "data": {"progress": {URL: {"done": 10, "total": 100}}}},
        {"model": ID, "event": "download_finished", "data": {}},
    ]


def test_a_download_that_fails_is_1_with_its_reason(capsys: Capture) -> None:
    hub = Hub([progress(10), record("download_failed", {"message": "no space left on device"})])
    ran, _ = run(capsys, hub.routes, "pull", NAME)
    assert (ran.code, ran.out, ran.err) == (1, "", f"ctl: {ID}: no space left on device\n")


def test_a_refused_download_is_told_at_once(capsys: Capture) -> None:
    hub = Hub([], refuse=lambda asked: asked.refuse(404, "repo_not_found", "user/repo: no such repository"))
    ran, _ = run(capsys, hub.routes, "pull", NAME)
    assert (ran.code, ran.err) == (1, "ctl: user/repo: no such repository\n")


def test_what_is_there_already_is_no_error_and_what_is_on_its_way_is_followed(capsys: Capture) -> None:
    def exists(asked: Asked) -> None:
        asked.refuse(409, "model_exists", "it exists")

    ran, _ = run(capsys, Hub([], refuse=exists, value="unloaded").routes, "pull", NAME)
    assert (ran.code, ran.out) == (0, f"{ID}: there already\n")
    hub = Hub([progress(50), record("download_finished", {})], refuse=exists, value="downloading")
    ran, _ = run(capsys, hub.routes, "pull", NAME)
    assert (ran.code, ran.out) == (0, f"{ID}: downloaded\n")


def test_a_connection_that_breaks_is_made_again_from_the_last_event(capsys: Capture) -> None:
    hub = Hub([progress(10, 7)], [progress(60, 8), record("download_finished", {}, number=9)], value="downloading")
    ran, _ = run(capsys, hub.routes, "pull", NAME)
    assert (ran.code, ran.out) == (0, f"{ID}: downloaded\n")
    assert hub.ids == ["", "boot.7"]


def test_an_end_that_nobody_saw_is_found_by_looking(capsys: Capture) -> None:
    ran, _ = run(capsys, Hub([progress(10)], [], value="unloaded").routes, "pull", NAME)
    assert (ran.code, ran.out) == (0, f"{ID}: downloaded\n")


def test_events_that_always_end_at_once_are_given_up(capsys: Capture) -> None:
    hub = Hub(*[[] for _ in range(20)], value="downloading")
    ran, _ = run(capsys, hub.routes, "pull", NAME)
    assert (ran.code, "may go on in the server" in ran.err) == (69, True)
    assert len(hub.ids) == 6


def test_pull_need_not_wait(capsys: Capture) -> None:
    ran, server = run(capsys, Hub().routes, "pull", NAME, "--no-wait")
    assert (ran.code, ran.out) == (0, f"{NAME}: downloading\n")
    assert [asked.path for asked in server.asked] == ["/models"]


# -- status -----------------------------------------------------------------------------------------------------------


def test_status_needs_no_more_than_the_list(capsys: Capture) -> None:
    """A key may see only that, and another server may know only that."""
    one = {"id": "a", "aliases": [], "status": {"value": "loaded"}, "runtime": None}
    routes: dict[str, Route] = {
        "GET /models": lambda asked: asked.answer({"data": [one]}),
        "GET /metrics": lambda asked: asked.refuse(403, "endpoint_not_allowed", "no"),
    }
    ran, _ = run(capsys, routes, "status")
    assert ran.code == 0
    assert ran.out.splitlines()[1].split()[:2] == ["a", "loaded"]
