"""A real model behind two proxies: native completions, and figures that are right whichever proxy is asked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.server import PATIENCE, SMOLLM2, Server, Stream, until

TWO = "proxies = 2\n" + SMOLLM2.format(name="small") + "n_ctx = 512\npreload = true\n" + SMOLLM2.format(name="other")
COUNT = {"model": "small", "prompt": "1, 2, 3, 4,", "temperature": 0, "n_predict": 8}


TIMINGS: list[dict[str, float]] = []  # of all completions so far
ASKED: Counter[str] = Counter()  # which requests they came from, by path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("views"), TWO) as running:
        until(lambda: running.state("small") == "ready")
        yield running


def fresh(server: Server, path: str) -> httpx.Response:
    """By a connection of its own, which any proxy may take."""
    response = httpx.get(f"{server.url}{path}", timeout=PATIENCE, verify=False)
    assert response.status_code == 200, response.text
    return response


def post(server: Server, path: str, **body: Any) -> Any:
    response = httpx.post(f"{server.url}{path}", json=body, timeout=PATIENCE, verify=False)
    assert response.status_code == 200, response.text
    return response.json()


def complete(server: Server, **more: Any) -> Any:
    """A native completion, whose timings are kept for the test that compares them with the metrics."""
    found = post(server, "/completion", **COUNT | more)
    ASKED["/completion"] += 1
    TIMINGS.extend(each["timings"] for each in (found if isinstance(found, list) else [found]))
    return found


def figures(server: Server) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(fresh(server, "/metrics").text)
    samples = [sample for family in families for sample in family.samples]
    return {(_short(s.name), *(s.labels[label] for label in sorted(s.labels))): s.value for s in samples}


def _short(name: str) -> str:
    return name.removeprefix("llama_supervisor_")


def test_a_native_completion_streamed_and_whole(server: Server) -> None:
    whole = complete(server, return_tokens=True, stop=[" 9"])
    assert whole["content"] == " 5, 6, 7, 8,"[: len(whole["content"])]
    assert whole["content"].startswith(" 5, 6")
    assert (whole["prompt"], whole["tokens_evaluated"]) == ("1, 2, 3, 4,", 11)
    assert whole["generation_settings"]["temperature"] == 0
    assert post(server, "/detokenize", model="small", tokens=whole["tokens"])["content"] == whole["content"]
    again = whole["generation_settings"] | {"model": "small", "prompt": COUNT["prompt"], "stream": True}
    text = httpx.post(f"{server.url}/completions", json=again, timeout=PATIENCE, verify=False).text
    *parts, last = [json.loads(line[6:]) for line in text.split("\n\n") if line]
    TIMINGS.append(last["timings"])
    ASKED["/completions"] += 1
    assert "".join(part["content"] for part in parts) == whole["content"]
    assert [token for part in parts for token in part["tokens"]] == whole["tokens"]
    assert {name: last[name] for name in ("stop", "stop_type", "tokens_cached", "truncated")} == {
        name: whole[name] for name in ("stop", "stop_type", "tokens_cached", "truncated")
    }
    many = complete(server, prompt=["One", "Two"], n=2)
    assert [each["prompt"] for each in many] == ["One", "One", "Two", "Two"]


def test_a_full_context_is_truncated(server: Server) -> None:
    found = complete(server, prompt=[1] * 508, n_predict=-1, ignore_eos=True)
    assert (found["truncated"], found["stop_type"]) == (True, "limit")
    assert found["tokens_evaluated"] + found["tokens_predicted"] == 512


def test_every_proxy_has_the_same_figures_and_they_are_those_of_the_requests(server: Server) -> None:
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda n: complete(server, prompt=f"{n} is"), range(6)))
    wanted = {
        ("llamacpp:tokens_predicted_total", "small"): sum(each["predicted_n"] for each in TIMINGS),
        ("llamacpp:prompt_tokens_total", "small"): sum(each["prompt_n"] for each in TIMINGS),
        ("llamacpp:prompt_tokens_cached_total", "small"): sum(each["cache_n"] for each in TIMINGS),
        ("tokens_total", "", "completion", "small"): sum(each["predicted_n"] for each in TIMINGS),
        ("ttft_seconds_count", "small"): sum(ASKED.values()),
        **{("requests_total", path, "", "small", "200"): count for path, count in ASKED.items()},
    }
    until(lambda: wanted.items() <= figures(server).items(), what="the figures of the requests")
    for _ in range(6):
        assert wanted.items() <= figures(server).items()
    found = figures(server)
    assert found["model_state", "small", "ready"] == found["loads_total", "small", "ok"] == 1
    assert found["memory_bytes", "resident", "small"] > 100e6
    assert 0 <= found["pong_age_seconds", "small"] < PATIENCE
    assert found["inter_token_seconds_count", "small"] > 0


def test_what_a_worker_has_counted_last_is_not_lost_with_it(server: Server) -> None:
    complete(server)
    post(server, "/models/unload", model="small", wait=True)
    found = figures(server)
    assert found["llamacpp:tokens_predicted_total", "small"] == sum(each["predicted_n"] for each in TIMINGS)
    assert found["evictions_total", "small", "requested"] == 1
    assert ("llamacpp:requests_processing", "small") not in found
    complete(server)


def test_looking_loads_nothing(server: Server) -> None:
    for path in ("/metrics", "/slots", "/slots?model=other", "/queue", "/requests", "/activity", "/props?model=other"):
        fresh(server, path)
    assert server.state("other") == "unloaded"


def test_a_running_request_is_seen_and_cancelled_through_any_proxy(server: Server) -> None:
    stream = Stream(server, "small", "Tell a very long story.", max_tokens=-1, ignore_eos=True)
    until(lambda: stream.text)
    for _ in range(6):
        (row,) = fresh(server, "/requests").json()
        assert (row["model"], row["state"]) == ("small", "generating")
        (queue,) = [each for each in fresh(server, "/queue").json()["models"] if each["model"] == "small"]
        assert (queue["in_flight"], queue["queued"]) == (1, 0)
    (slot,) = [each for each in fresh(server, "/slots?model=small").json() if each["is_processing"]]
    assert slot["next_token"][0]["n_decoded"] > 0
    assert slot["params"]["ignore_eos"] is True
    post(server, f"/requests/{row['completion_id']}/cancel")
    until(lambda: stream.error)
    assert stream.error is not None
    assert stream.error["code"] == "cancelled"
    until(lambda: not any(each["is_processing"] for each in fresh(server, "/slots").json()))
    for _ in range(4):
        last = fresh(server, "/activity").json()["recent"][-1]
        assert (last["id"], last["outcome"]) == (row["id"], "cancelled")


def test_counters_outlive_workers_and_proxies(server: Server) -> None:
    before = figures(server)
    for role in ("w:small", "proxy-0"):
        old = server.kill(role)
        until(lambda role=role, old=old: server.pid(role) not in (None, old))
        until(server.healthy)
    until(lambda: server.state("small") == "ready")
    post(server, "/completion", **COUNT)
    tokens = ("llamacpp:tokens_predicted_total", "small")
    until(lambda: figures(server)[tokens] >= before[tokens] + 8)
    found = figures(server)
    kept = [name for name in before if name[0].endswith("_total") and not name[0].startswith("requests")]
    assert all(found[name] >= before[name] for name in kept)
    assert found["proxy_restarts_total",] == 1
    assert sum(count for name, count in found.items() if name[0] == "restarts_total") == 1
