"""Messages between proxy and worker, and their framing.

A link is a `multiprocessing.Pipe(duplex=True)`. Its framing is Connection's own (`!i` length, then the payload), so
that either end may be a plain Connection. A payload is one msgpack array: downwards one request, upwards the events of
one step. The first frame in each direction is a Hello. This module imports nothing heavy.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import msgspec

from supervisor.config import Sampling

VERSION = 1
MAX_FRAME = 16 * 2**20


class ProtocolError(Exception):
    """The peer sent what is no frame: too large, or not decodable. The link must be dropped."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """First frame in both directions."""

    version: int
    generation: int


# -- proxy → worker -----------------------------------------------------------------------------------------------


class Chat(msgspec.Struct, frozen=True, array_like=True, tag="chat"):
    """A conversation for the model's chat template. `continue_final`: the last assistant message is continued."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    template_kwargs: dict[str, Any] = {}
    add_generation_prompt: bool = True
    continue_final: bool = False


class Text(msgspec.Struct, frozen=True, array_like=True, tag="text"):
    """A prompt as pieces of text and token ids; special tokens in the text are parsed, BOS is added."""

    pieces: tuple[str | int, ...]


class Generate(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Generate from a prompt. `id` is the proxy's number for it on this link; `request_id` is for logs.

    stream: False sends the whole text as one Delta at the end.
    parse_tools: calls of the chat's tools are split out of the text; parallel_tool_calls: False ends after the first,
    None does so where the chat template shows no second one.
    must_call: names of tools, one of which must be called; () leaves it to the model.
    reasoning_budget: tokens of reasoning after which `reasoning_message` and the end of the reasoning are forced, -1
    for none; reasoning_control: EndReasoning may do the same at any time.
    grammar_triggers: words and tokens that start the grammar, which reads them too; () starts it at once.
    preserved_tokens: spellings of control tokens that are shown as text.
    reasoning_format: "auto" and "deepseek" split reasoning out, "none" does not, "deepseek-legacy" only unstreamed.
    """

    id: int
    request_id: str
    prompt: Chat | Text
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    stream: bool = True
    cache_prompt: bool = True
    return_progress: bool = False
    n_probs: int = -1  # so many of the likeliest tokens beside each token's own probability; -1: none at all
    post_sampling_probs: bool = False
    siblings: tuple[int, ...] = ()  # ids of further choices: same prompt, seed + 1, + 2, …; each has events of its own
    grammar: str = ""  # GBNF; at most one of the two
    json_schema: str = ""  # JSON text
    parse_tools: bool = False
    parallel_tool_calls: bool | None = None
    reasoning_format: str = "none"
    must_call: tuple[str, ...] = ()
    reasoning_budget: int = -1
    reasoning_message: str = ""
    reasoning_control: bool = False
    grammar_triggers: tuple[str | int, ...] = ()
    preserved_tokens: tuple[str, ...] = ()


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Forget a request, whatever it is doing; nothing more is sent for it."""

    id: int


class Tokenize(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Answered by Tokens."""

    id: int
    pieces: tuple[str | int, ...]
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False


class Detokenize(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Answered by Rendered."""

    id: int
    tokens: tuple[int, ...]


class Render(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Apply the chat template; answered by Rendered."""

    id: int
    chat: Chat


class EndReasoning(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """The reasoning of a running request shall end; nothing happens if it does not reason. Not answered."""

    id: int


# -- worker → proxy -----------------------------------------------------------------------------------------------


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """Rendered, tokenized, fits the context: the request will run. A sibling has no prompt tokens of its own."""

    id: int
    prompt_tokens: int


class Started(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """The request has a sequence; `cached` tokens of its prompt were in the KV cache."""

    id: int
    cached: int


class Progress(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Prompt tokens: in all, from the cache, processed so far (cached ones included); milliseconds since Started."""

    id: int
    total: int
    cached: int
    processed: int
    time_ms: float


class Alternative(msgspec.Struct, frozen=True, array_like=True):
    """A token that might have come, its bytes, and its probability or the logarithm of it."""

    id: int
    piece: bytes
    value: float


class Probability(msgspec.Struct, frozen=True, array_like=True):
    """The same of a token that came, and the likeliest ones at its place."""

    id: int
    piece: bytes
    value: float
    top: list[Alternative]


class Delta(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """New text; `tokens` were decoded for it. Cut at whole characters, stop strings held back.

    `probs`, if asked for, are of tokens whose first character has been shown; those cut off by a stop string have none.
    """

    id: int
    text: str
    tokens: int = 1
    probs: list[Probability] | None = None


class Timings(msgspec.Struct, frozen=True, array_like=True):
    """Counts and milliseconds. `prompt_n` excludes `cache_n`; the first token comes with the prompt."""

    cache_n: int = 0
    prompt_n: int = 0
    prompt_ms: float = 0.0
    predicted_n: int = 0
    predicted_ms: float = 0.0


class Finished(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """The request's last event. `reason`: "eos", "word", "limit" (max_tokens) or "context" (context full).

    reasoning_tokens: how many of the tokens were split out as reasoning.
    """

    id: int
    reason: str
    stop_word: str
    timings: Timings
    reasoning_tokens: int = 0


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=15):
    """The request's last event: an API error code (API.md, 1.3), a message, and further fields of the error."""

    id: int
    code: str
    message: str
    fields: dict[str, Any] = {}


class Tokens(msgspec.Struct, frozen=True, array_like=True, tag=16):
    """The answer to Tokenize; `pieces` are the tokens' bytes, if asked for."""

    id: int
    tokens: list[int]
    pieces: list[bytes] | None = None


class Rendered(msgspec.Struct, frozen=True, array_like=True, tag=17):
    """The answer to Detokenize and Render."""

    id: int
    text: str


class Reasoning(msgspec.Struct, frozen=True, array_like=True, tag=18):
    """New text of the model's reasoning; `tokens` were decoded for it."""

    id: int
    text: str
    tokens: int = 1


class CallStart(msgspec.Struct, frozen=True, array_like=True, tag=19):
    """The model calls a tool: the call's number from 0, its id and the tool's name. CallDeltas follow."""

    id: int
    index: int
    call_id: str
    name: str
    tokens: int = 0


class CallDelta(msgspec.Struct, frozen=True, array_like=True, tag=20):
    """A fragment of a call's arguments; together they are a JSON object, as far as the model wrote one."""

    id: int
    index: int
    text: str
    tokens: int = 1


Request = Hello | Generate | Cancel | EndReasoning | Tokenize | Detokenize | Render
Event = (
    Hello | Accepted | Started | Progress | Delta | Finished | Failed | Tokens | Rendered
    | Reasoning | CallStart | CallDelta
)  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_LENGTH = struct.Struct("!i")
In = TypeVar("In")


def encode(payload: Request | list[Event]) -> bytes:
    """One frame, length included. Raises ProtocolError if it is larger than MAX_FRAME."""
    frame = _encoder.encode(payload)
    if len(frame) > MAX_FRAME:
        raise ProtocolError(f"frame of {len(frame)} bytes, limit {MAX_FRAME}")
    return _LENGTH.pack(len(frame)) + frame


class Framer(Generic[In]):
    """Cuts a byte stream into decoded payloads; holds at most one unfinished frame."""

    def __init__(self, kind: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[In] = msgspec.msgpack.Decoder(kind)
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[In]:
        """The payloads that `data` completes. Raises ProtocolError."""
        self._buffer += data
        start, end = 0, len(self._buffer)
        try:
            while end - start >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(self._buffer, start)
                if not 0 <= length <= MAX_FRAME:
                    raise ProtocolError(f"frame of {length} bytes, limit {MAX_FRAME}")
                if end - start - _LENGTH.size < length:
                    break
                start += _LENGTH.size + length
                yield self._decode(start - length, start)
        finally:
            del self._buffer[:start]

    def _decode(self, start: int, end: int) -> In:
        try:
            with memoryview(self._buffer) as view:
                return self._decoder.decode(view[start:end])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"frame not decodable: {error}") from None
