"""OpenAI's routes. API.md, 4."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from proxy.description.operation import AUTOLOAD, RUNS, Answer, Body, Operation
from proxy.dialects import chat_messages, embeddings, openai_completions, responses
from proxy.dialects.constraint import Formatted
from proxy.dialects.fields import Fields
from proxy.dialects.keep_alive import Kept
from proxy.dialects.lazy_grammar import LazyFields
from proxy.dialects.logprobs import ChatLogprobs, CompletionLogprobs
from proxy.dialects.reasoning import Reasoning
from proxy.routes.control import Control

_CHAT = "Chat"
PROMPT: dict[str, Any] = {"type": ["string", "array", "object"]}
TOOL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "function": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "description": {"type": "string"},
                "parameters": {"type": "object", "description": "a JSON schema"},
            },
            "required": ["name"],
        },
    },
}
CHOICE: dict[str, Any] = {"anyOf": [{"enum": ["auto", "none", "required"]}, {"type": "object"}]}
MESSAGES = {"type": "array", "items": {"$ref": "#/components/schemas/Message"}, "minItems": 1}
CHAT = Body(
    "ChatRequest",
    (Fields, chat_messages.Conversation, ChatLogprobs, Formatted, Reasoning, LazyFields),
    {"messages": [{"role": "user", "content": "Name three colours."}], "max_tokens": 30, "temperature": 0},
    {
        "messages": list[chat_messages.Message],
        "tools": {"type": "array", "items": TOOL},
        "tool_choice": CHOICE,
        "json_schema": {"type": ["object", "boolean"]},
        "reasoning_format": Literal["auto", "deepseek", "deepseek-legacy", "none"],
        "continue_final_message": Literal[True, False, "content", "reasoning_content"],
    },
)


class Alternative(Struct):
    """A token and its probability: `logprob`, or `prob` after the samplers."""

    id: int
    token: str
    bytes: list[int]
    logprob: float | UnsetType = UNSET
    prob: float | UnsetType = UNSET


class TokenProbability(Alternative):
    """A token of the answer, and the likeliest ones at its place."""

    top_logprobs: list[Alternative] | UnsetType = UNSET
    top_probs: list[Alternative] | UnsetType = UNSET


class Timings(Struct):
    """Counts, milliseconds and rates of prompt and answer."""

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float


class PromptProgress(Struct):
    """How far the prompt is, in tokens."""

    total: int
    cache: int
    processed: int
    time_ms: int


class Usage(Struct):
    """Tokens. The prompt's include those that were in the cache."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int]
    completion_tokens_details: dict[str, int] | UnsetType = UNSET


class CalledFunction(Struct):
    """`arguments` are the text of a JSON object, as far as the model wrote one."""

    arguments: str
    name: str | UnsetType = UNSET


class ToolCalled(Struct):
    function: CalledFunction
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    index: int | UnsetType = UNSET


class Said(Struct):
    """The assistant's message, or a part of it."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCalled] | UnsetType = UNSET


class Probabilities(Struct):
    content: list[TokenProbability]


class ChatChoice(Struct):
    index: int
    message: Said
    finish_reason: Literal["stop", "length", "tool_calls"]
    logprobs: Probabilities | UnsetType = UNSET


class ChatDelta(Struct):
    index: int
    delta: Said
    finish_reason: Literal["stop", "length", "tool_calls"] | None
    logprobs: Probabilities | UnsetType = UNSET


class ChatCompletion(Struct):
    """An answer to a chat."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    timings: Timings


class ChatChunk(Struct):
    """A part of it. The last ones have figures; then comes `[DONE]`."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatDelta]
    usage: Usage | UnsetType = UNSET
    timings: Timings | UnsetType = UNSET
    prompt_progress: PromptProgress | UnsetType = UNSET


class TextChoice(Struct):
    index: int
    text: str
    finish_reason: Literal["stop", "length"] | None
    logprobs: dict[str, Any] | None


class TextCompletion(Struct):
    """A completion, or a part of one."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: Usage | UnsetType = UNSET
    timings: Timings | UnsetType = UNSET
    prompt_progress: PromptProgress | UnsetType = UNSET


class Embedding(Struct):
    """One vector; as text it is base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class VectorUsage(Struct):
    prompt_tokens: int
    total_tokens: int


class Embeddings(Struct):
    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: VectorUsage


class InputTokens(Struct):
    object: Literal["response.input_tokens"]
    input_tokens: int


class Controlled(Struct):
    """Whether there was such a completion."""

    success: bool
    message: str | UnsetType = UNSET


class Response(Struct):
    """An answer as a list of items: messages, reasoning, calls of functions."""

    id: str
    object: Literal["response"]
    status: Literal["completed", "incomplete", "in_progress"]
    created_at: int
    model: str
    output: list[dict[str, Any]]
    error: None
    incomplete_details: dict[str, Any] | None
    completed_at: int | UnsetType = UNSET
    usage: dict[str, Any] | UnsetType = UNSET


class ResponseEvent(Struct):
    """One event; `event:` says its type, too."""

    type: str
    sequence_number: int
    response: Response | UnsetType = UNSET
    item: dict[str, Any] | UnsetType = UNSET
    delta: str | UnsetType = UNSET


_TEXT = Body(
    "CompletionRequest",
    (Fields, openai_completions.Completion, CompletionLogprobs, Formatted, LazyFields),
    {"prompt": "The sea is", "max_tokens": 16},
    {"prompt": PROMPT, "json_schema": {"type": ["object", "boolean"]}},
)
RESPONSES = Body(
    "ResponseRequest",
    (Fields, responses.Request),
    {"input": "Name three colours.", "max_output_tokens": 30},
    {"input": {"type": ["string", "array"]}, "tool_choice": CHOICE, "json_schema": {"type": ["object", "boolean"]}},
)
_EMBED = Body("EmbeddingRequest", (embeddings.OpenAiFields, Kept), {"input": ["first", "second"]}, {"input": PROMPT})

OPERATIONS = {
    "POST /v1/chat/completions": Operation(
        _CHAT,
        "The model's answer to a conversation",
        Answer("The answer; with `stream` its parts.", ChatCompletion, record=ChatChunk),
        CHAT,
        (AUTOLOAD,),
        RUNS,
    ),
    "POST /v1/chat/completions/input_tokens": Operation(
        _CHAT, "How many tokens a conversation is", Answer("Their number.", InputTokens), CHAT, (), RUNS
    ),
    "POST /v1/chat/completions/control": Operation(
        _CHAT,
        "Ends the reasoning of a completion that runs",
        Answer("Whether it did.", Controlled),
        Body("ControlRequest", (Control,), {"id": "chatcmpl-1", "action": "reasoning_end"}),
        (),
        RUNS,
        more="It must have been begun with `reasoning_control`.",
    ),
    "POST /v1/completions": Operation(
        "Text",
        "Goes on with a text",
        Answer("The completion; with `stream` its parts.", TextCompletion, record=TextCompletion),
        _TEXT,
        (AUTOLOAD,),
        RUNS,
    ),
    "POST /v1/responses": Operation(
        _CHAT,
        "OpenAI's Responses: the answer as items",
        Answer("The response; with `stream` its events.", Response, record=ResponseEvent),
        RESPONSES,
        (AUTOLOAD,),
        RUNS,
        more="Nothing is stored: `previous_response_id`, `conversation` and `background` are refused with 501.",
    ),
    "POST /v1/responses/input_tokens": Operation(
        _CHAT, "How many tokens such a request is", Answer("Their number.", InputTokens), RESPONSES, (), RUNS
    ),
    "POST /v1/embeddings": Operation(
        "Vectors", "Vectors of texts", Answer("One for each input.", Embeddings), _EMBED, (AUTOLOAD,), RUNS
    ),
}
