"""GET /openapi.json and /docs: complete, and for everybody. That answers are as described the harness checks."""

from __future__ import annotations

import re
from typing import Any

import pytest

from proxy.app import ROUTES
from proxy.auth import PUBLIC
from proxy.description.document import OPERATIONS, described, document, undescribed
from proxy.description.operation import Access, Operation
from proxy.description.schemas import nullable
from proxy.description.words import WORDS
from supervisor.config import Server
from tests.proxy.described import description, fits, operation, resolved
from tests.proxy.harness import Harness, settings
from tests.proxy.test_edges import KEYS


def test_every_route_is_described() -> None:
    assert undescribed(ROUTES) == []
    paths = {(path, method) for path, methods in description()["paths"].items() for method in methods}
    assert len(paths) == sum(len((route.methods or set()) - {"HEAD"}) for route in ROUTES)


def test_everything_described_is_a_route() -> None:
    told = {f"{method} {alias or path}" for path, method, _, alias in described(ROUTES)}
    assert set(OPERATIONS) == told


def test_aliases_are_told_like_their_first_name() -> None:
    assert operation("POST", "/chat/completions")["x-alias-of"] == "/v1/chat/completions"  # type: ignore[index]
    names = [found["operationId"] for methods in description()["paths"].values() for found in methods.values()]
    assert len(names) == len(set(names))


def test_all_references_lead_somewhere() -> None:
    def walk(node: Any) -> None:
        if isinstance(node, dict):
            assert resolved(node) is not None
        for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            walk(inner)

    walk(description())


def test_each_field_of_a_generation_request_is_explained() -> None:
    fields = resolved(operation("POST", "/v1/chat/completions")["requestBody"]["content"]["application/json"]["schema"])  # type: ignore[index]
    assert set(fields["properties"]) - set(WORDS) == set()
    assert fields["required"] == ["messages"]
    bounded = {"type": "number", "minimum": 0, "maximum": 1}
    assert fields["properties"]["top_p"] == {"anyOf": [bounded, {"type": "null"}], "description": WORDS["top_p"]}


@pytest.mark.parametrize(("name", "told"), sorted(OPERATIONS.items()))
def test_examples_fit(name: str, told: Operation) -> None:
    found = operation(*name.split(" "))
    if told.body is not None and found is not None:
        content = found["requestBody"]["content"]["application/json"]
        assert content["example"] == ([told.body.example] if told.body.many else told.body.example)
        fits(content["example"], content["schema"], name)


def test_what_needs_a_key_says_so() -> None:
    for path, method, told, _ in described(ROUTES):
        public = told.access is Access.PUBLIC
        assert public == (path in PUBLIC), path
        assert (description()["paths"][path][method.lower()].get("security") == []) == public
    assert "admin = true" in operation("POST", "/admin/reload")["description"]  # type: ignore[index]


def test_null_is_absent() -> None:
    assert nullable({"type": "string"}) == {"type": ["string", "null"]}
    assert nullable({"$ref": "#/x"}) == {"anyOf": [{"$ref": "#/x"}, {"type": "null"}]}
    assert nullable({"enum": [1]}) == {"anyOf": [{"enum": [1]}, {"type": "null"}]}
    assert nullable({}) == {}


async def test_it_is_served_to_everybody_and_once() -> None:
    async with Harness(settings(keys=KEYS)) as server:
        response = await server.client.get("/openapi.json")
        assert response.json() == document(ROUTES, "")
        again = await server.client.get("/openapi.json", headers={"if-none-match": response.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


async def test_the_page_runs_nothing_but_itself() -> None:
    async with Harness(settings(server=Server(root_path="/llm"))) as server:
        response = await server.client.get("/llm/docs/")
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert len(response.content) < 60_000
        assert not re.search(r"(src|href)=.?http|@import|url\([\"'h/]", response.text)
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert (await server.client.get("/llm/openapi.json")).json()["servers"] == [{"url": "/llm"}]
