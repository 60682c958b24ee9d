"""What requests about models say: which, and how. API.md, 2.1 and 9."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

Wait = bool | Annotated[float, Meta(ge=0)]


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """`model`: id or alias; "" is the default model, where there is one."""

    model: str = ""


class Load(Named, frozen=True, kw_only=True):
    """`wait`: answered when the model is there; true is as long as a request would wait."""

    wait: Wait = False
    overrides: Any = None
    extra_args: Any = None


class Unload(Named, frozen=True, kw_only=True):
    """`wait`: answered when the model is gone."""

    wait: Wait = False
    force: Any = None


class Fetch(Named, frozen=True, kw_only=True):
    """ "user/repo", "user/repo:QUANT", or a model of the configuration."""


class OllamaNamed(Named, frozen=True, kw_only=True):
    """`name` is the older word for it."""

    name: str = ""

    @property
    def said(self) -> str:
        return self.model or self.name


class OllamaPull(OllamaNamed, frozen=True, kw_only=True):
    """`stream`: progress in lines."""

    stream: bool = True
