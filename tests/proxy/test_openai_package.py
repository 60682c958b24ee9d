"""The `openai` package against one proxy: its classes for errors, lists of models, parsing, and a client that stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai
import pydantic
import pytest
from msgspec.structs import replace

from supervisor.config import Admission
from supervisor.control import State
from tests.proxy.harness import Harness, settings, until
from tests.proxy.test_edges import KEYS, key
from worker.protocol import Accepted, Delta, Started

QUESTION = [{"role": "user", "content": "hi"}]


@asynccontextmanager
async def speaking(server: Harness, api_key: str = "none") -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"http://127.0.0.1:{server.port}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=api_key, max_retries=0, timeout=30) as client:
        yield client


async def test_models_are_listed_and_shown() -> None:
    async with Harness(settings("a", "b")) as server, speaking(server) as client:
        assert [model.id async for model in client.models.list()] == ["a", "b"]
        assert (await client.models.retrieve("b-alias")).id == "b"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("c")


async def test_who_stops_reading_stops_the_worker() -> None:
    async with Harness() as server, speaking(server) as client:
        worker = await server.attach()
        task = asyncio.ensure_future(
            client.chat.completions.create(model="m", messages=QUESTION, stream=True)  # type: ignore[call-overload]
        )
        ask = await worker.next()
        worker.send(Accepted(ask.id, 7), Started(ask.id, 3), Delta(ask.id, "one"))
        stream = await task
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        await until(lambda: worker.cancelled == [ask.id])


async def test_an_answer_is_parsed_by_a_class() -> None:
    class City(pydantic.BaseModel):
        name: str

    async with Harness() as server, speaking(server) as client:
        worker = await server.attach()
        task = asyncio.ensure_future(
            client.chat.completions.parse(model="m", messages=QUESTION, response_format=City)  # type: ignore[arg-type]
        )
        ask = await worker.next()
        assert '"name"' in ask.json_schema
        worker.reply(ask, '{"name":', '"Paris"}')
        assert (await task).choices[0].message.parsed == City(name="Paris")


async def test_each_error_has_the_class_that_the_package_has_for_it() -> None:
    slow = replace(key("slow"), requests_per_minute=1)
    config = settings("ab", "b", keys=(*KEYS, slow), admission=Admission(autoload=False))
    async with Harness(config) as server:

        async def error(api_key: str, model: str) -> openai.APIStatusError:
            async with speaking(server, api_key) as client:
                with pytest.raises(openai.APIStatusError) as found:
                    await client.chat.completions.create(model=model, messages=QUESTION)  # type: ignore[arg-type]
                return found.value

        async def described(api_key: str, model: str) -> tuple[type[openai.APIStatusError], str | None]:
            found = await error(api_key, model)
            return type(found), found.code

        assert await described("wrong", "ab") == (openai.AuthenticationError, "invalid_api_key")
        assert await described("alice", "b") == (openai.NotFoundError, "model_not_found")
        assert await described("alice", "ab") == (openai.BadRequestError, "model_not_loaded")
        await error("slow", "ab")
        assert await described("slow", "ab") == (openai.RateLimitError, "key_rate_limited")
        await server.change("ab", state=State.FAILED, cause="file_corrupt")
        assert await described("alice", "ab") == (openai.InternalServerError, "model_failed")
        async with speaking(server, "alice") as client:
            with pytest.raises(openai.PermissionDeniedError):
                await client.get("/../admin/deaths", cast_to=object)
            with pytest.raises(openai.InternalServerError) as unsupported:
                await client.audio.transcriptions.create(model="ab", file=b"x")
            assert unsupported.value.code == "unsupported_feature"
