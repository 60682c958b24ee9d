"""Calls whose oldest messages may be left out, so that a long conversation still fits. API.md, 9, `truncate`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from msgspec.structs import replace

from proxy.calls import Call
from proxy.errors import ApiError
from worker.protocol import Chat, Event, Generate

Messages = list[dict[str, Any]]


class Truncated(Call):
    """As Call; a request that its worker finds too long is asked again without what was said first."""

    async def batches(self) -> AsyncGenerator[list[Event], None]:
        while True:
            try:
                async with aclosing(super().batches()) as batches:
                    async for events in batches:
                        yield events
                return
            except ApiError as error:
                if error.code != "context_length_exceeded" or not self._shorten(error):
                    raise

    def _shorten(self, error: ApiError) -> bool:
        (ask,) = self._asks
        assert isinstance(ask, Generate)
        if not isinstance(ask.prompt, Chat):
            return False
        part = error.fields.get("n_ctx", 0) / (error.fields.get("n_prompt_tokens") or 1)
        messages = without_oldest(ask.prompt.messages, min(part, 1.0))
        if len(messages) == len(ask.prompt.messages):
            return False
        self._asks = [replace(ask, prompt=replace(ask.prompt, messages=messages))]
        return True


def without_oldest(messages: Messages, part: float) -> Messages:
    """At least one message less, and about this part of the text; the last message and the system's stay.

    Results of tools go with the call that they answer.
    """
    tail = len(messages) - 1
    while tail > 0 and messages[tail].get("role") == "tool":
        tail -= 1
    sizes = [len(str(message)) for message in messages]
    surplus = sum(sizes) * (1 - part)
    dropped: set[int] = set()
    for index, message in enumerate(messages[:tail]):
        if dropped and surplus <= 0 and message.get("role") != "tool":
            break
        if message.get("role") != "system":
            dropped.add(index)
            surplus -= sizes[index]
    return [message for index, message in enumerate(messages) if index not in dropped]
