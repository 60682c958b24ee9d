"""llama.cpp's own routes. API.md, 7."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from proxy.description.openai import CHAT, PROMPT, PromptProgress, Timings, TokenProbability
from proxy.description.operation import AUTOLOAD, MODEL, NAMED, READS, RUNS, Access, Answer, Body, Operation, Parameter
from proxy.dialects import embeddings, infill, llama, native_completion, rerank
from proxy.dialects.constraint import Formatted
from proxy.dialects.fields import Scale
from proxy.dialects.keep_alive import Kept
from proxy.dialects.lazy_grammar import LazyFields
from proxy.dialects.management import Named


class NativeCompletion(Struct):
    """A completion; several prompts or `n` give a list of them."""

    index: int | UnsetType = UNSET
    content: str | UnsetType = UNSET
    tokens: list[int] | UnsetType = UNSET
    stop: bool | UnsetType = UNSET
    id_slot: int | UnsetType = UNSET
    tokens_predicted: int | UnsetType = UNSET
    tokens_evaluated: int | UnsetType = UNSET
    model: str | UnsetType = UNSET
    generation_settings: dict[str, Any] | UnsetType = UNSET
    prompt: str | UnsetType = UNSET
    has_new_line: bool | UnsetType = UNSET
    truncated: bool | UnsetType = UNSET
    stop_type: Literal["none", "eos", "limit", "word"] | UnsetType = UNSET
    stopping_word: str | UnsetType = UNSET
    tokens_cached: int | UnsetType = UNSET
    timings: Timings | UnsetType = UNSET
    prompt_progress: PromptProgress | UnsetType = UNSET
    completion_probabilities: list[TokenProbability] | UnsetType = UNSET


class Adapter(Struct):
    """One of [models.NAME].lora; what its file does not say is empty."""

    id: int
    path: str
    scale: float
    task_name: str
    prompt_prefix: str


class Done(Struct):
    success: Literal[True]


class NativeEmbedding(Struct):
    """One row, or one for each token where the model does not pool."""

    index: int
    embedding: list[list[float]]


class Ranked(Struct):
    index: int
    relevance_score: float
    document: dict[str, str] | UnsetType = UNSET


class Ranking(Struct):
    """The best first."""

    model: str
    object: Literal["list"]
    usage: dict[str, int]
    results: list[Ranked]


class TeiRanked(Struct):
    """What a request with `texts` is given."""

    index: int
    score: float
    text: str | UnsetType = UNSET


class Piece(Struct):
    """A token; `piece` is its text, or its bytes where they are no text alone."""

    id: int
    piece: str | list[int]


class Tokens(Struct):
    tokens: list[int] | list[Piece]


class Content(Struct):
    content: str


class Prompt(Struct):
    prompt: str


class Settings(Struct):
    params: dict[str, Any]
    n_ctx: int


class Props(Struct):
    """What the server, or one model, does where a request does not say; more fields with `model` than without."""

    build_info: str
    model_alias: str
    model_path: str
    default_generation_settings: Settings
    ui_settings: dict[str, Any]
    ui: bool
    is_sleeping: bool
    cors_proxy_enabled: bool
    role: Literal["router"] | UnsetType = UNSET
    total_slots: int | UnsetType = UNSET
    modalities: dict[str, bool] | UnsetType = UNSET
    chat_template: str | UnsetType = UNSET
    is_loaded: bool | UnsetType = UNSET


class Slot(Struct):
    """A place for a sequence; more fields once it has had a task."""

    id: int
    model: str
    n_ctx: int
    speculative: bool
    is_processing: bool
    id_task: int | UnsetType = UNSET
    n_prompt_tokens: int | UnsetType = UNSET
    n_prompt_tokens_processed: int | UnsetType = UNSET
    n_prompt_tokens_cache: int | UnsetType = UNSET
    params: dict[str, Any] | UnsetType = UNSET
    next_token: list[dict[str, Any]] | UnsetType = UNSET


_OBJECT: dict[str, Any] = {"type": ["object", "boolean"]}
_TEXTS: dict[str, Any] = {"type": "array", "items": {"type": ["string", "object"]}, "minItems": 1}
_COMPLETED = Answer(
    "The completion, or a list of them; with `stream` its parts.",
    NativeCompletion | list[NativeCompletion],
    record=NativeCompletion,
)
_TEXT, _TOKENS = "Text", "Tokens"

OPERATIONS = {
    "POST /completion": Operation(
        _TEXT,
        "llama.cpp's own completion",
        _COMPLETED,
        Body(
            "NativeCompletionRequest",
            (native_completion.NativeFields, native_completion.Prompted, Formatted, LazyFields),
            {"prompt": "The sea is", "n_predict": 16},
            {"prompt": PROMPT, "json_schema": _OBJECT},
        ),
        (AUTOLOAD,),
        RUNS,
    ),
    "POST /infill": Operation(
        _TEXT,
        "What belongs between a prefix and a suffix",
        _COMPLETED,
        Body(
            "InfillRequest",
            (native_completion.NativeFields, infill.Hole, Formatted, LazyFields),
            {"input_prefix": "def add(a, b):\n    return ", "input_suffix": "\n", "n_predict": 16},
            {"json_schema": _OBJECT},
        ),
        (AUTOLOAD,),
        RUNS,
    ),
    "POST /embedding": Operation(
        "Vectors",
        "Vectors of texts, in llama.cpp's shape",
        Answer("One for each input.", list[NativeEmbedding]),
        Body(
            "NativeEmbeddingRequest",
            (embeddings.NativeFields, Kept),
            {"content": "first"},
            {"content": PROMPT, "input": PROMPT},
        ),
        (AUTOLOAD,),
        RUNS,
    ),
    "POST /rerank": Operation(
        "Vectors",
        "How well documents answer a query",
        Answer("The best first; in TEI's shape if the request has `texts`.", Ranking | list[TeiRanked]),
        Body(
            "RerankRequest",
            (rerank.RerankFields, Kept),
            {"query": "colour", "documents": ["the colour red", "a fox"]},
            {"documents": _TEXTS, "texts": _TEXTS},
        ),
        (AUTOLOAD,),
        RUNS,
    ),
    "POST /tokenize": Operation(
        _TOKENS,
        "The tokens of a text",
        Answer("Their ids; with `with_pieces` their texts, too.", Tokens),
        Body("TokenizeRequest", (llama.TokenizeRequest, Named), {"content": "The sea is"}, {"content": PROMPT}),
        (AUTOLOAD,),
        RUNS,
    ),
    "POST /detokenize": Operation(
        _TOKENS,
        "The text of tokens",
        Answer("It.", Content),
        Body("DetokenizeRequest", (llama.DetokenizeRequest, Named), {"tokens": [72, 105]}),
        (AUTOLOAD,),
        RUNS,
    ),
    "POST /apply-template": Operation(
        _TOKENS,
        "A conversation as the prompt that the model is given",
        Answer("It.", Prompt),
        Body("TemplateRequest", CHAT.kinds, {"messages": CHAT.example["messages"]}, CHAT.instead),
        (AUTOLOAD,),
        RUNS,
    ),
    "GET /props": Operation(
        "Server",
        "What the server, or one model, does where a request does not say",
        Answer("Facts and defaults. Loads nothing.", Props),
        query=(MODEL,),
        refuses=(*NAMED, 503),
    ),
    "POST /props": Operation("Server", "Not possible", Answer("Never."), refuses=(*READS, 501)),
    "GET /slots": Operation(
        "Server",
        "What runs at the sequence places of loaded models",
        Answer("A row for each place. Never what was said there.", list[Slot]),
        query=(MODEL, Parameter("fail_on_no_slot", "1: 503 if none is idle")),
        refuses=(*NAMED, 501, 503),
    ),
    "POST /slots/{id}": Operation(
        "Server", "States of slots in files: not built", Answer("Never."), refuses=(*READS, 501), access=Access.ADMIN
    ),
    "GET /lora-adapters": Operation(
        "Server",
        "The LoRA adapters of a model",
        Answer("How much each counts where a request does not say, loaded or not. Loads nothing.", list[Adapter]),
        query=(MODEL,),
        refuses=NAMED,
    ),
    "POST /lora-adapters": Operation(
        "Server",
        "How much each LoRA adapter of a model counts",
        Answer("It holds for requests from now on that do not say.", Done),
        Body("Scale", (Scale,), {"id": 0, "scale": 0.5}, many=True),
        query=(MODEL,),
        refuses=(*READS, 503),
        access=Access.ADMIN,
        more="What is not in the list counts 0. In every replica, and in later loads, until the configuration changes.",
    ),
}
