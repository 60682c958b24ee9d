"""Ollama's routes. API.md, 9."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from proxy.description.openai import PROMPT, TOOL, TokenProbability
from proxy.description.operation import AUTOLOAD, LINES, LOOKS, READS, RUNS, Access, Answer, Body, Operation
from proxy.dialects import ollama, ollama_embed
from proxy.dialects.keep_alive import Kept
from proxy.dialects.logprobs import ChatLogprobs
from proxy.dialects.management import OllamaNamed, OllamaPull

_TAG = "Ollama"


class Details(Struct):
    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class OllamaModel(Struct):
    name: str
    model: str
    size: int
    digest: str
    details: Details
    modified_at: str | UnsetType = UNSET
    capabilities: list[str] | UnsetType = UNSET
    size_vram: int | UnsetType = UNSET
    expires_at: str | UnsetType = UNSET
    context_length: int | UnsetType = UNSET


class OllamaModels(Struct):
    models: list[OllamaModel]


class Version(Struct):
    version: str
    commit: str
    build_date: str


class Shown(Struct):
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]
    template: str
    parameters: str
    modified_at: str
    modelfile: str


class OllamaMessage(Struct):
    role: Literal["assistant"]
    content: str
    thinking: str | UnsetType = UNSET
    tool_calls: list[dict[str, Any]] | UnsetType = UNSET


class _Line(Struct, kw_only=True):
    model: str
    created_at: str
    done: bool
    done_reason: Literal["stop", "length", "load", "unload"] | UnsetType = UNSET
    logprobs: list[TokenProbability] | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET


class OllamaChat(_Line, kw_only=True):
    """An answer, or a line of it; the last line, `done`, has counts, and times in nanoseconds."""

    message: OllamaMessage


class OllamaGenerated(_Line, kw_only=True):
    """The same, with the text at the top."""

    response: str
    thinking: str | UnsetType = UNSET


class Embedded(Struct):
    model: str
    embeddings: list[list[float]]
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET


class EmbeddedOne(Struct):
    embedding: list[float]


class PullLine(Struct):
    """How far a download is; the last one says `success`, or has an `error`."""

    status: str | UnsetType = UNSET
    digest: str | UnsetType = UNSET
    total: int | UnsetType = UNSET
    completed: int | UnsetType = UNSET
    error: str | UnsetType = UNSET


class Beside(Struct, kw_only=True):
    """Fields of a chat completion that stand beside Ollama's own."""

    tools: list[dict[str, Any]] = []
    chat_template_kwargs: dict[str, Any] = {}


_BESIDE = (Beside, ChatLogprobs, Kept)
_FORMAT: dict[str, Any] = {"anyOf": [{"enum": ["", "json"]}, {"type": "object"}]}
_THINK: dict[str, Any] = {"enum": [True, False, "", "low", "medium", "high", "max"]}
_TOOLS: dict[str, Any] = {"type": "array", "items": TOOL}
_SAYS: dict[str, Any] = {"tools": _TOOLS, "format": _FORMAT, "think": _THINK, "options": ollama.Options}

OPERATIONS = {
    "GET /api/version": Operation(_TAG, "The version that clients compare", Answer("It.", Version), refuses=LOOKS),
    "GET /api/tags": Operation(_TAG, "All models", Answer("Their facts.", OllamaModels), refuses=LOOKS),
    "GET /api/ps": Operation(
        _TAG, "Loaded models", Answer("The one that stays longest first.", OllamaModels), refuses=LOOKS
    ),
    "POST /api/show": Operation(
        _TAG,
        "A model's facts, from its file's header; loads nothing",
        Answer("They.", Shown),
        Body("ShowRequest", (OllamaNamed,), {"model": "smollm2"}),
        (),
        READS,
    ),
    "POST /api/chat": Operation(
        _TAG,
        "The model's answer to a conversation",
        Answer("Lines; with `stream: false` one object.", OllamaChat, record=OllamaChat, stream=LINES),
        Body(
            "OllamaChatRequest",
            (ollama.Chat, *_BESIDE),
            {"messages": [{"role": "user", "content": "Name three colours."}], "stream": False},
            _SAYS,
        ),
        (AUTOLOAD,),
        RUNS,
        more="No messages: the model is only loaded; with `keep_alive: 0` unloaded.",
    ),
    "POST /api/generate": Operation(
        _TAG,
        "The model's answer to a prompt",
        Answer("Lines; with `stream: false` one object.", OllamaGenerated, record=OllamaGenerated, stream=LINES),
        Body(
            "OllamaGenerateRequest",
            (ollama.Generate, *_BESIDE),
            {"prompt": "Why is the sky blue?", "stream": False},
            _SAYS,
        ),
        (AUTOLOAD,),
        RUNS,
        more="No prompt: the model is only loaded; with `keep_alive: 0` unloaded.",
    ),
    "POST /api/embed": Operation(
        _TAG,
        "Vectors of texts",
        Answer("One for each input.", Embedded),
        Body("OllamaEmbedRequest", (ollama_embed.EmbedFields, Kept), {"input": ["first", "second"]}, {"input": PROMPT}),
        (AUTOLOAD,),
        RUNS,
    ),
    "POST /api/embeddings": Operation(
        _TAG,
        "The vector of a text, the older way",
        Answer("It.", EmbeddedOne),
        Body("OllamaEmbeddingsRequest", (ollama_embed.OldFields, Kept), {"prompt": "first"}, {"prompt": PROMPT}),
        (AUTOLOAD,),
        RUNS,
    ),
    "POST /api/pull": Operation(
        _TAG,
        "Fetches a model from the Hugging Face hub",
        Answer("Lines of progress; with `stream: false` the last one.", PullLine, record=PullLine, stream=LINES),
        Body("OllamaPullRequest", (OllamaPull,), {"model": "hf.co/user/repo:Q4_K_M"}),
        (),
        (*READS, 409, 503),
        Access.ADMIN,
    ),
    "DELETE /api/delete": Operation(
        _TAG,
        "Deletes a model that was fetched",
        Answer("It is gone.", media="text/plain"),
        Body("OllamaDeleteRequest", (OllamaNamed,), {"model": "user/repo:Q4_K_M"}),
        (),
        (*READS, 503),
        Access.ADMIN,
    ),
}
