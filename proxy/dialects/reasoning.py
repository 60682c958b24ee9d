"""How much a model may reason, and who ends it. API.md, 6."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Budget = Annotated[int, Meta(ge=-1, le=2**31 - 1)]
MAX_MESSAGE = 4096  # characters; each is decoded


class Reasoning(msgspec.Struct, frozen=True, kw_only=True):
    """The first of the two names counts; -1: no limit, 0: none at all."""

    reasoning_budget_tokens: Budget | None = None
    thinking_budget_tokens: Budget | None = None
    reasoning_budget_message: Annotated[str, Meta(max_length=MAX_MESSAGE)] = ""
    reasoning_control: bool = False

    @property
    def budget(self) -> int:
        found = (self.reasoning_budget_tokens, self.thinking_budget_tokens)
        return next((each for each in found if each is not None), -1)
