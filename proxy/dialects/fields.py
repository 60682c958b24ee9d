"""The generation fields that every completion and chat route takes. API.md, 5.

Fields extends Sampling, so a parameter that is added there is accepted here, with its legal range.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from proxy.dialects.keep_alive import KeepAlive, Ttl
from proxy.errors import BadRequest
from supervisor.config import Sampling
from supervisor.schema import Invalid, Missing, Path, convert, dotted

MAX_STOPS = 64
MAX_SCALES = 256
Tokens = Annotated[int, Meta(ge=-1, le=2**31 - 1)]
Choices = Annotated[int, Meta(ge=1, le=200)]  # at most what `parallel` may be; a model knows its own
S = TypeVar("S", bound=msgspec.Struct)


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    include_usage: bool = False


Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How much a LoRA adapter of the model counts; 0: not at all."""

    id: Count
    scale: Annotated[float, Meta(ge=-1000, le=1000)]


class Fields(Sampling, frozen=True, kw_only=True):
    """What a client may say about generation; null and unknown fields count as absent."""

    model: str = ""
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    n_predict: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    typ_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=MAX_STOPS, description=f"(at most {MAX_STOPS})")] = ""
    cache_prompt: bool = True
    return_progress: bool = False
    return_tokens: bool = False
    verbose: bool = False
    t_max_predict_ms: Tokens = -1
    n_indent: Count = 0
    n_keep: Tokens = 0  # this and the next three are hints, or have no effect without a context shift
    n_discard: Count = 0
    n_cache_reuse: Count = 0
    id_slot: Tokens = -1
    grammar: str = ""
    json_schema: Any = None
    n: Choices | None = None
    n_cmpl: Choices | None = None
    n_probs: Annotated[int, Meta(ge=0, le=1000)] = 0
    post_sampling_probs: bool = False
    timings_per_token: bool = False
    sse_ping_interval: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    keep_alive: KeepAlive | None = None
    ttl: Ttl | None = None
    lora: Annotated[list[Scale], Meta(max_length=MAX_SCALES, description=f"(at most {MAX_SCALES})")] | None = None

    @property
    def sampling(self) -> Sampling:
        """The sampling parameters alone; the first of the three names for the number of tokens counts."""
        found = {name: getattr(self, name) for name in Sampling.__struct_fields__}
        limits = (self.n_predict, self.max_completion_tokens, self.max_tokens)
        found["max_tokens"] = next((limit for limit in limits if limit is not None), None)
        found["typical_p"] = self.typ_p if self.typical_p is None else self.typical_p
        return Sampling(**found)

    @property
    def adapters(self) -> tuple[tuple[int, float], ...] | None:
        """Id and scale of the LoRA adapters that count, and no other does; None: as the model says."""
        return None if self.lora is None else tuple((each.id, each.scale) for each in self.lora)

    @property
    def kept(self) -> float | None:
        """For how many seconds the model is to be kept after its last use, negative for ever; None: as it is."""
        return self.ttl if self.keep_alive is None else self.keep_alive

    @property
    def siblings(self) -> tuple[int, ...]:
        """A place for the number of each choice after the first; the link fills them in."""
        return (0,) * ((self.n or self.n_cmpl or 1) - 1)

    @property
    def stops(self) -> tuple[str, ...]:
        words = [self.stop] if isinstance(self.stop, str) else self.stop
        return tuple(word for word in words if word)


def typed(body: object, kind: type[S], path: Path = ()) -> S:
    """The body, or a part of it at `path`, as a struct. Raises BadRequest that names the field and what is legal."""
    try:
        found: S = convert(body, kind, path=path, strict=False)
        return found
    except Invalid as error:
        raise refused(error) from None


def refused(error: Invalid) -> BadRequest:
    """The error of a parser in a client's words: JSON has objects, not tables."""
    text = str(error).replace("expected table", "expected an object").replace("(table)", "(object)")
    text = text.replace("list of table", "list of objects")
    code = "missing_field" if isinstance(error, Missing) else "invalid_value"
    return BadRequest(text, dotted(error.path) or None, code)


def bad(path: Path, expected: str, got: Any) -> BadRequest:
    """An error about one value, where the types alone cannot say it."""
    return refused(Invalid(path, expected, got))
