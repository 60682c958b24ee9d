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


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """Text from elsewhere in a project, and the name of its file."""

    text: str
    filename: str = ""


class Infill(msgspec.Struct, frozen=True, array_like=True, tag="infill"):
    """A hole between prefix and suffix, to be filled by a model with FIM tokens. Cut to fit, the far ends first.

    `extra` is context from elsewhere, `prompt` the beginning of what fills the hole; `room` are tokens of the context
    that are kept free for the reply, -1 for as many as seem fair.
    """

    prefix: str
    suffix: str
    extra: tuple[Chunk, ...] = ()
    prompt: str = ""
    room: int = -1


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
    t_max_predict_ms: ends at the first line break so long after the first token; n_indent: at the first line that is
    indented less, the first one aside; -1 and 0 are off.
    details: Accepted has the prompt's text, Finished the Details.
    lora: ids and scales of the LoRA adapters to compute it with, which are all that count then; None: as configured.
    """

    id: int
    request_id: str
    prompt: Chat | Text | Infill
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
    t_max_predict_ms: int = -1
    n_indent: int = 0
    return_tokens: bool = False  # Delta has the ids of its tokens
    details: bool = False
    priority: int = 0  # higher goes first
    owner: str = ""  # requests of one owner share their turn with those of the others
    must_call: tuple[str, ...] = ()
    reasoning_budget: int = -1
    reasoning_message: str = ""
    reasoning_control: bool = False
    grammar_triggers: tuple[str | int, ...] = ()
    preserved_tokens: tuple[str, ...] = ()
    lora: tuple[tuple[int, float], ...] | None = None


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


class Count(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """How many tokens this conversation is as a prompt, of any length; answered by Counted."""

    id: int
    chat: Chat


class Embed(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Vectors of inputs, each of text and token ids like Text. Answered by Accepted, Started, Vectors and Finished.

    normalize: -1 not at all, 0 the largest value is 32760, 2 Euclidean, another p its p-norm; None as the model says.
    dimensions: so many first ones of each vector, 0 for all. truncate: what is too long is cut, else refused.
    per_token: one vector for each token is fine, as a model without pooling gives them; else that is refused.
    field: what the client calls them, for errors.
    """

    id: int
    request_id: str
    inputs: tuple[tuple[str | int, ...], ...]
    normalize: int | None = None
    dimensions: int = 0
    truncate: bool = False
    per_token: bool = False
    field: str = "input"


class Rerank(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """How well each document answers the query. Answered like Embed; the first number of a vector is the score."""

    id: int
    request_id: str
    query: str
    documents: tuple[str, ...]
    truncate: bool = False
    field: str = "documents"


class Look(msgspec.Struct, frozen=True, array_like=True, tag=40):
    """What runs at the sequence places? Answered at once, by Seen."""

    id: int


class EndReasoning(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """The reasoning of a running request shall end; nothing happens if it does not reason. Not answered."""

    id: int


# -- worker → proxy -----------------------------------------------------------------------------------------------


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """Rendered, tokenized, fits the context: the request will run. A sibling has no prompt of its own."""

    id: int
    prompt_tokens: int
    prompt: str = ""


class Started(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """The request has a sequence, at the place `slot`; `cached` tokens of its prompt were in the KV cache."""

    id: int
    cached: int
    slot: int = -1


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
    ids: list[int] | None = None


class Timings(msgspec.Struct, frozen=True, array_like=True):
    """Counts and milliseconds. `prompt_n` excludes `cache_n`; the first token comes with the prompt."""

    cache_n: int = 0
    prompt_n: int = 0
    prompt_ms: float = 0.0
    predicted_n: int = 0
    predicted_ms: float = 0.0


class Details(msgspec.Struct, frozen=True, array_like=True):
    """With which parameters a reply was made, every one and the seed that was drawn; tokens in the KV cache now.

    `lora`: ids and scales of the adapters that had an effect.
    """

    sampling: Sampling
    cached: int
    new_line: bool
    lora: tuple[tuple[int, float], ...] = ()


class Finished(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """The request's last event. `reason`: "eos", "word", "context" (full), or "limit" (of tokens, time, indent).

    It is "done" when the last vector has been sent. reasoning_tokens: how many tokens were split out as reasoning.
    """

    id: int
    reason: str
    stop_word: str
    timings: Timings
    details: Details | None = None
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


class Counted(msgspec.Struct, frozen=True, array_like=True, tag=29):
    """The answer to Count."""

    id: int
    tokens: int


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A sequence place, and the task that it has or had last; task 0: it never had one.

    prompt: tokens of the prompt, of which `cached` were in the KV cache and `processed` had to be computed so far;
    decoded: tokens generated; remain: those that may follow, -1 for as many as there is room.
    """

    id: int
    n_ctx: int = 0
    busy: bool = False
    task: int = 0
    prompt: int = 0
    processed: int = 0
    cached: int = 0
    decoded: int = 0
    remain: int = 0
    new_line: bool = False
    sampling: Sampling | None = None
    lora: tuple[tuple[int, float], ...] = ()


class Seen(msgspec.Struct, frozen=True, array_like=True, tag=41):
    """The answer to Look."""

    id: int
    places: list[Place]


class Vector(msgspec.Struct, frozen=True, array_like=True, tag=21):
    """Numbers of one input, counted from 0: little-endian float32, in rows of `width`.

    An input has one row, or one per token; what is too large for one event follows in further ones.
    """

    id: int
    input: int
    width: int
    data: bytes


Request = Hello | Generate | Cancel | EndReasoning | Tokenize | Detokenize | Render | Embed | Rerank | Count | Look
Event = (
    Hello | Accepted | Started | Progress | Delta | Finished | Failed | Tokens | Rendered
    | Reasoning | CallStart | CallDelta | Vector | Counted | Seen
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
