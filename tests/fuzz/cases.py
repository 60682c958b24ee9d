"""Requests that are nearly right: an example of each route that has a body, with something done to it."""

# ruff: noqa: E501 - tables of bodies and values read better in long lines

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from proxy.app import ROUTES
from proxy.description.document import described
from proxy.description.words import WORDS

_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {}}}}}
_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 4}}, "required": ["a"]}
_TURNS = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, {"role": "assistant", "content": "a"}]
# Beside each route's own example: bodies with more in them, of which some are refused.
_MORE: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [
        {"messages": [*_TURNS, {"role": "user", "content": "b"}], "tools": [_TOOL], "tool_choice": "auto", "stream": True},
        {"messages": [{"role": "user", "content": "x"}], "response_format": {"type": "json_schema", "json_schema": {"schema": _SCHEMA}}},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [_CALL]}, {"role": "tool", "content": "1", "tool_call_id": "c1"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]},
        {"messages": [{"role": "user", "content": "x"}], "grammar": 'root ::= "a"', "n": 2, "logprobs": True, "top_logprobs": 3},
        {"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": {"a": 1}, "logit_bias": [[1, 2.0]], "samplers": ["top_k"]},
    ],
    "/v1/messages": [
        {"system": [{"type": "text", "text": "s"}], "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}], "stream": True,
         "tools": [{"name": "f", "input_schema": _SCHEMA}], "tool_choice": {"type": "tool", "name": "f"}, "thinking": {"type": "enabled", "budget_tokens": 9}},
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
                      {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "1"}]}]},
    ],
    "/v1/responses": [
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}, {"type": "reasoning", "content": []},
                   {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
                   {"type": "function_call_output", "call_id": "a", "output": "1"}], "stream": True,
         "tools": [{"type": "function", "name": "f", "parameters": {}}], "text": {"format": {"type": "json_schema", "schema": _SCHEMA}}},
    ],
    "/api/chat": [
        {"messages": [{"role": "user", "content": "x", "images": []}, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}],
         "tools": [_TOOL], "format": _SCHEMA, "think": True, "options": {"num_predict": 3, "temperature": 0}, "keep_alive": "5m"},
    ],
    "/api/generate": [{"prompt": "x", "system": "s", "raw": True, "options": {"stop": ["a"]}}],
    "/v1/completions": [{"prompt": ["a", [1, 2], "b"], "echo": True, "stream": True}, {"prompt": "a", "suffix": "b", "logprobs": 2}],
    "/v1/embeddings": [{"input": [[1, 2], "a"], "encoding_format": "base64"}],
    "/rerank": [{"query": "a", "texts": ["b", {"text": "c"}], "top_n": 1, "return_text": True}],
    "/tokenize": [{"content": ["a", 1], "with_pieces": True, "add_special": True}],
    "/models/load": [{"model": "a", "wait": 0, "overrides": {"n_ctx": 512}}],
}  # fmt: skip
_EMPTY = {"/admin/reload", "/api/models/unload"}  # have no body; the latter ends what others run
RAW = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "9" * 400,
    "01",
    "'a'",
    "undefined",
    '"\\ud800"',
    '"\\u0000"',
    '"\x01"',
    "{",
    "]",
)
NASTY: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, -2, 0.5, -0.0, 5.0, 1e308, 2**31, -(2**31) - 1, 2**32, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**30,
    "", " ", "0", "5", "a" * 5000, "é\u0301\u202e\ufeff", "\x00", "\x7f\r\n", "😀" * 50, "../../etc/passwd", "%2e%2e/", "{{ 7 * 7 }}",
    "{% for a in range(9) %}", "<|im_end|>", "root ::= root", "auto", "none", "required", "json", "10m", "-1h", "9999999999h", "null", "NaN",
    [], {}, [[]], [{}], {"": {}}, [None], [0] * 300, [""] * 65, {"type": "object"}, {"type": "nonsense"}, {"$ref": "#"}, {"text": "a"},
    {"type": "text"}, {"type": "image_url", "image_url": 7}, {"type": "function"}, {"function": {"name": ""}}, {"name": "f", "type": "function"},
    {"type": "json_schema", "schema": {"$ref": "#/nowhere"}}, {"pattern": "(a+)+$", "type": "string"}, {"enum": []}, {"anyOf": []}, [[1, False]],
)  # fmt: skip
KINDS = (
    "application/json",
    "text/plain",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "",
    "\xff",
    "a" * 300,
)
_FIELDS = (*WORDS, "model", "name", "unknown", "__class__", "stream_options", "lora", "n_ctx", "priority")


@dataclass(frozen=True)
class Case:
    """One request. `said` is the body before it became bytes, for whoever reads of it."""

    path: str
    body: bytes
    kind: str

    def __str__(self) -> str:
        return f"POST {self.path} {self.kind!r} {self.body[:1500]!r}"


def seeds(skip: frozenset[str] = frozenset()) -> list[tuple[str, dict[str, Any]]]:
    """Every path that is posted to, aliases too, with each of its bodies."""
    found = []
    for path, method, told, alias in described(ROUTES):
        if method != "POST" or path in skip or path in _EMPTY:
            continue
        own = [dict(told.body.example)] if told.body else [{}]
        found += [(path.replace("{id}", "a"), body) for body in own + _MORE.get(alias or path, [])]
    return found


def case(draw: Random, found: list[tuple[str, dict[str, Any]]], models: tuple[str, ...]) -> Case:
    """The next one. Some are left as they are: what is right must be served."""
    path, body = draw.choice(found)
    tree: dict[str, Any] = json.loads(json.dumps(body))
    if draw.random() < 0.9 or "model" in tree:
        tree["model"] = draw.choice(models)
    for _ in range(draw.choice((0, 1, 1, 1, 2, 3, 5))):
        draw.choice(_CHANGES)(draw, tree)
    text = json.dumps(tree, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    if draw.random() < 0.12:
        text = _spoiled(draw, text)
    return Case(path, text, draw.choice(KINDS) if draw.random() < 0.1 else KINDS[0])


# -- changes ----------------------------------------------------------------------------------------------------------


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every container, with each key or index in it."""
    for key, item in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
        yield tree, key
        if isinstance(item, dict | list):
            yield from _places(item)


def _place(draw: Random, tree: Any) -> tuple[Any, Any]:
    return draw.choice(list(_places(tree)) or [(tree, "model")])


def _replace(draw: Random, tree: Any) -> None:
    holder, key = _place(draw, tree)
    holder[key] = _value(draw)


def _remove(draw: Random, tree: Any) -> None:
    holder, key = _place(draw, tree)
    if isinstance(holder, list) or key in holder:
        del holder[key]


def _field(draw: Random, tree: Any) -> None:
    tree[draw.choice(_FIELDS)] = _value(draw)


def _wrap(draw: Random, tree: Any) -> None:
    holder, key = _place(draw, tree)
    if isinstance(holder, dict) and key not in holder:
        return
    for _ in range(draw.choice((1, 1, 1, 2, 2, 70))):
        holder[key] = [holder[key]] if draw.random() < 0.5 else {"type": holder[key]}


def _repeat(draw: Random, tree: Any) -> None:
    holder, _ = _place(draw, tree)
    if isinstance(holder, list):
        holder *= draw.choice((2, 70, 300)) if len(holder) < 10 else 1


def _borrow(draw: Random, tree: Any) -> None:
    """A value from elsewhere in it."""
    (holder, key), (other, at) = _place(draw, tree), _place(draw, tree)
    if isinstance(other, list) or at in other:
        holder[key] = json.loads(json.dumps(other[at]))


_CHANGES: tuple[Callable[[Random, Any], None], ...] = (
    _replace,
    _replace,
    _field,
    _field,
    _remove,
    _wrap,
    _repeat,
    _borrow,
)


def _value(draw: Random, depth: int = 0) -> Any:
    if depth > 2 or draw.random() < 0.85:
        return copy.deepcopy(draw.choice(NASTY))
    if draw.random() < 0.5:
        return [_value(draw, depth + 1) for _ in range(draw.randrange(4))]
    return {draw.choice(_FIELDS): _value(draw, depth + 1) for _ in range(draw.randrange(4))}


def _spoiled(draw: Random, text: bytes) -> bytes:
    """No JSON, or hardly."""
    at = draw.randrange(len(text) + 1)
    match draw.randrange(7):
        case 0:
            return text[:at]
        case 1:
            return text[:at] + bytes([draw.randrange(256)]) + text[at:]
        case 2:
            return text.replace(b":", b":" + draw.choice(RAW).encode() + b",", 1)
        case 3:
            return text.decode("utf-8", "replace").encode(draw.choice(("utf-16", "utf-32", "utf-8-sig")))
        case 4:
            return draw.choice(
                (b"", b"null", b"[]", b'""', b"{}{}", b"[" * 100_000, b'{"a":' * 5000, b"\xff" * 40, b"--x\r\n")
            )
        case 5:
            return text[:-1] + b',"' + draw.choice(_FIELDS).encode() + b'":' + draw.choice(RAW).encode() + b"}"
        case _:
            return text[:-1] + b',"messages":[],"stream":true}'  # twice the same name
