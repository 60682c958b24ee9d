"""POST /api/chat and /api/generate. API.md, 9."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from proxy.dialects import openai_completions, translated
from proxy.dialects.chat_messages import Function
from proxy.dialects.fields import Fields, bad, typed
from proxy.dialects.ollama_reply import ChatShape, GenerateShape, OllamaReply, Shape
from proxy.dialects.reply import Plan
from proxy.errors import BadRequest, Unsupported

_EFFORTS = ("low", "medium", "high", "max")
_BESIDE = ("model", "tools", "logprobs", "top_logprobs", "keep_alive", "ttl", "chat_template_kwargs")
_SAID = {*Fields.__struct_fields__} - {"model", "stream", "n", "n_cmpl", "keep_alive", "ttl"}


class Options(Fields, frozen=True, kw_only=True):
    """The generation fields, in a table of their own. What only a load could change is ignored: two clients that
    disagree would have the model loaded anew with every request."""

    num_predict: int | None = None


class Template(msgspec.Struct, frozen=True, kw_only=True):
    chat_template_kwargs: dict[str, Any] = msgspec.field(default_factory=dict)


class Call(msgspec.Struct, frozen=True, kw_only=True):
    function: Function
    id: str = ""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    role: str
    content: str = ""
    thinking: str = ""
    images: list[str] = msgspec.field(default_factory=list)
    tool_calls: list[Call] = msgspec.field(default_factory=list)
    tool_name: str = ""
    tool_call_id: str = ""


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """What both routes take."""

    model: str = ""
    stream: bool = True
    format: Any = None
    think: Any = None
    options: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def thinks(self) -> bool:
        """Whether thinking is asked for, so that the model must be able to."""
        return self.think not in (None, False, "")


class Chat(Common, frozen=True, kw_only=True):
    messages: list[Message] = msgspec.field(default_factory=list)
    truncate: bool = True


class Generate(Common, frozen=True, kw_only=True):
    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    raw: bool = False
    images: list[str] = msgspec.field(default_factory=list)
    context: list[Any] = msgspec.field(default_factory=list)


@dataclass(frozen=True)
class Parsed:
    """A request. `plan` None: it only loads its model, or unloads it."""

    fields: Fields
    stream: bool
    shape: Shape
    plan: Plan | None
    thinks: bool = False


def chat(body: dict[str, Any], request_id: str) -> Parsed:
    """The body of POST /api/chat. Raises BadRequest, Unsupported."""
    request = typed(body, Chat)
    fields, shape = _fields(body, request), ChatShape()
    if not request.messages:
        return Parsed(typed(fields, Fields), request.stream, shape, None)
    found = translated.Conversation()
    for index, message in enumerate(request.messages):
        _add(message, f"messages[{index}]", found)
    plan = translated.plan(fields, found, request_id, partial(OllamaReply, shape), truncates=request.truncate)
    return Parsed(plan.fields, request.stream, shape, plan, request.thinks)


def generate(body: dict[str, Any], request_id: str) -> Parsed:
    """The body of POST /api/generate. Raises BadRequest, Unsupported."""
    request = typed(body, Generate)
    for name in ("template", "context", "suffix"):
        if getattr(request, name):
            raise Unsupported(name, name)
    fields, shape = _fields(body, request), GenerateShape()
    if not request.prompt and not request.images:
        return Parsed(typed(fields, Fields), request.stream, shape, None)
    if request.raw:
        plan = _raw(fields | {"prompt": request.prompt}, request_id, shape)
    else:
        plan = translated.plan(fields, _prompted(request), request_id, partial(OllamaReply, shape))
    return Parsed(plan.fields, request.stream, shape, plan, request.thinks)


def _prompted(request: Generate) -> translated.Conversation:
    """A prompt as a conversation."""
    found = translated.Conversation()
    if request.system:
        found.add("system", "system", request.system)
    found.add("prompt", "user", _content(request.prompt, request.images))
    return found


def _raw(body: dict[str, Any], request_id: str, shape: Shape) -> Plan:
    """A prompt that no template touches."""
    if body.pop("logprobs", None):
        body["n_probs"] = body.pop("top_logprobs", None) or 0
    plan = openai_completions.parse(body, request_id)
    return Plan(plan.fields, plan.asks, [], lambda model, fields, _: OllamaReply(shape, model, fields))


def _add(message: Message, place: str, found: translated.Conversation) -> None:
    more: dict[str, Any] = {}
    if message.thinking:
        more["reasoning_content"] = message.thinking
    if message.tool_calls:
        calls = enumerate(message.tool_calls)
        more["tool_calls"] = [
            translated.call(call.id or f"call_{index}", call.function.name, call.function.arguments or {})
            for index, call in calls
        ]
    if message.tool_name:
        more["name"] = message.tool_name
    if message.tool_call_id:
        more["tool_call_id"] = message.tool_call_id
    found.add(place, message.role, _content(message.content, message.images), **more)


def _content(text: str, images: list[str]) -> str | list[dict[str, Any]]:
    if not images:
        return text
    shown = [{"type": "image_url", "image_url": {"url": image}} for image in images]
    return [{"type": "text", "text": text}, *shown]


def _fields(body: dict[str, Any], request: Common) -> dict[str, Any]:
    """The body of a chat completion, its messages aside."""
    options = typed(request.options, Options, ("options",))
    found = {name: value for name, value in request.options.items() if name in _SAID}
    if options.num_predict is not None:
        found["n_predict"] = -1 if options.num_predict == -2 else options.num_predict
        typed(found, Fields, ("options",))
    found |= {name: body[name] for name in _BESIDE if body.get(name) is not None}
    return found | {"stream": request.stream} | _format(request.format) | _think(request.think, found)


def _format(format: Any) -> dict[str, Any]:
    if format in (None, ""):
        return {}
    if format == "json":
        return {"response_format": {"type": "json_object"}}
    if isinstance(format, dict):
        return {"response_format": {"type": "json_schema", "schema": format}}
    raise bad(("format",), '"json" or a JSON schema', format)


def _think(think: Any, body: dict[str, Any]) -> dict[str, Any]:
    if think is None or think == "":
        return {}
    if isinstance(think, bool):
        kwargs = typed(body, Template).chat_template_kwargs
        return {"chat_template_kwargs": {"enable_thinking": think} | kwargs}
    if think in _EFFORTS:
        return {"reasoning_effort": think}
    raise BadRequest('think: expected true, false, "low", "medium" or "high"', "think")
