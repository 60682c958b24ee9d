"""What stands before the app: a base path, TLS, reverse proxies that are believed, bounds of a body."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest

from supervisor.config import Server
from tests.proxy.harness import CHAT, WITHIN, Harness, settings

CERTIFICATES = Path(__file__).parent.parent / "certificates"


# -- base path --------------------------------------------------------------------------------------------------------


async def test_everything_is_below_the_base_path() -> None:
    async with Harness(settings(server=Server(root_path="/llm/a"))) as server:
        worker = await server.attach()
        assert (await server.client.get("/llm/a/health")).json() == {"status": "ok"}
        assert (await server.client.get("/llm/a/v1/models/")).json()["data"][0]["id"] == "m"
        task = server.post("/llm/a/v1/messages", messages=CHAT["messages"])
        worker.reply(await worker.next(), "ok")
        assert (await task).json()["type"] == "message"
        for path in ("/health", "/", "/llm", "/llm/ab/health"):
            response = await server.client.get(path)
            assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")
        error = (await server.client.get("/llm/a/v1/messages")).json()
        assert error["type"] == "error"  # in the dialect of the path below


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/llm", "/llm/"),
        ("/llm/upstream/m", "/llm/upstream/m/"),
        ("/llm/upstream/m/", "/llm/"),
    ],
)
async def test_redirects_stay_below_it(path: str, location: str) -> None:
    async with Harness(settings(server=Server(root_path="/llm"))) as server:
        response = await server.client.get(path)
        assert response.headers["location"] == location
        assert 300 < response.status_code < 309


# -- TLS --------------------------------------------------------------------------------------------------------------


async def test_a_certificate_makes_it_https() -> None:
    files = {"tls_cert": str(CERTIFICATES / "cert.pem"), "tls_key": str(CERTIFICATES / "key.pem")}
    trust = ssl.create_default_context(cafile=files["tls_cert"])
    async with (
        Harness(settings(server=Server(**files))) as server,
        httpx.AsyncClient(verify=trust, base_url=f"https://127.0.0.1:{server.port}", timeout=WITHIN) as client,
    ):
        worker = await server.attach()
        assert (await client.get("/health")).json() == {"status": "ok"}
        with pytest.raises(httpx.HTTPError):
            await server.client.get("/health")
        server.client = client
        task = server.post(stream=True)
        worker.reply(await worker.next(), "ok")
        assert (await task).text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01", b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"])
async def test_a_handshake_has_no_more_time_than_headers(sent: bytes) -> None:
    files = {"tls_cert": str(CERTIFICATES / "cert.pem"), "tls_key": str(CERTIFICATES / "key.pem")}
    async with Harness(settings(server=Server(**files, header_timeout=0.2))) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionError):
                assert b"HTTP/" not in await reader.read()
        writer.close()


# -- reverse proxies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("believed", "client"),
    [((), "127.0.0.1"), (("10.0.0.0/8",), "127.0.0.1"), (("127.0.0.0/8",), "203.0.113.7"), (("*",), "203.0.113.7")],
)
async def test_only_a_reverse_proxy_that_is_known_says_who_asks(
    believed: tuple[str, ...], client: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Harness(settings(server=Server(forwarded_allow_ips=believed))) as server:
        with caplog.at_level(logging.INFO, "proxy.access"):
            await server.client.get("/health", headers={"x-forwarded-for": "203.0.113.7"})
        assert f"client={client}" in caplog.text


# -- bounds -----------------------------------------------------------------------------------------------------------


def deep(levels: int) -> Any:
    return json.loads("[" * levels + "]" * levels)


async def test_bounds_of_a_body() -> None:
    async with Harness(settings(server=Server(max_depth=8, max_messages=3))) as server:
        worker = await server.attach()
        task = server.post(metadata=deep(7))
        worker.reply(await worker.next(), "ok")
        assert (await task).status_code == 200
        error = (await server.post(metadata=deep(8))).json()["error"]
        assert (error["code"], "8 levels" in error["message"]) == ("invalid_json", True)
        many = CHAT["messages"] * 4
        bodies: list[tuple[str, dict[str, Any], str]] = [
            ("/v1/chat/completions", {"messages": many}, "messages"),
            ("/v1/messages", {"messages": many}, "messages"),
            ("/v1/responses", {"input": many}, "input"),
        ]
        for path, body, param in bodies:
            error = (await server.post(path, **body)).json()["error"]
            assert error["param"] == param
            assert "at most 3 entries, got 4" in error["message"]
