"""The Jinja sandbox for chat templates, with the few additions that templates in the wild rely on. ENGINE.md, 10."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from types import GeneratorType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from worker.chat import bounds
from worker.failure import RequestError

MAX_OUTPUT = 16 * 2**20  # characters


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks what a model wrote, for training; here it only renders its body."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's, with bounds on what a template may take."""

    code_generator_class = bounds.Generator
    intercepted_binops = bounds.BINARY
    joined, weighed = staticmethod(bounds.joined), staticmethod(bounds.weighed)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Lists may grow and shrink: some templates collect with append, and every render has its own copies."""
        if isinstance(obj, list) and attr in ("append", "pop"):
            return True
        return super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "+":
            return bounds.added(left + right)
        bounds.check_binary(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, obj: Any, /, *arguments: Any, **named: Any) -> Any:
        bounds.check_call(obj, arguments)
        return super().call(context, obj, *arguments, **named)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        safe = super().wrap_str_format(value)
        if safe is None:
            return None
        form: str = value.__self__

        def checked(*arguments: Any, **named: Any) -> str:
            values: Mapping[str, Any] = arguments[0] if value.__name__ == "format_map" else named
            text = bounds.Formatter(self).vformat(form, arguments, values)
            bounds.weigh(len(text))
            return text

        return checked

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return bounds.counted(super()._parse(source, name, filename))


def environment() -> jinja2.Environment:
    """A fresh sandbox; templates compiled in it may be rendered from any thread."""
    sandbox = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"])
    sandbox.filters["tojson"] = _to_json
    sandbox.filters = {name: bounds.bounded(name, function) for name, function in sandbox.filters.items()}
    sandbox.filters[bounds.COUNT] = bounds.counted_once
    del sandbox.globals["lipsum"]
    sandbox.globals["raise_exception"] = _raise
    sandbox.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return sandbox


def compiled(sandbox: jinja2.Environment, source: str) -> jinja2.Template:
    """Raises jinja2.TemplateError, whatever is wrong with the source."""
    if len(source) > bounds.MAX_SOURCE:
        raise jinja2.TemplateError(f"longer than {bounds.MAX_SOURCE} characters")
    try:
        with bounds.limited():
            return sandbox.from_string(source)
    except jinja2.TemplateError:
        raise
    except Exception as error:  # nested too deep, a name that Python does not take, …
        raise jinja2.TemplateError(f"{type(error).__name__}: {error}"[:300]) from None


def render(template: jinja2.Template, context: Mapping[str, Any]) -> str:
    """The template's output. Raises RequestError("template_error") with the template's own words."""
    parts: list[str] = []
    try:
        with bounds.limited():
            _render(template, context, parts)
    except RequestError:
        raise
    except Exception as error:  # a template is a program of somebody else's: anything may come
        raise RequestError("template_error", str(error) or type(error).__name__) from None
    return "".join(parts)


def _render(template: jinja2.Template, context: Mapping[str, Any], parts: list[str]) -> None:
    size = 0
    for part in template.generate(**context, date_string=datetime.now().strftime("%d %b %Y")):
        parts.append(part)
        size += len(part)
        if size > MAX_OUTPUT:
            raise RequestError("template_error", f"the chat template gave more than {MAX_OUTPUT} characters")


def _raise(message: str) -> None:
    raise RequestError("template_error", message)


def _to_json(
    value: Any, indent: int | None = None, ensure_ascii: bool = False, separators: Any = None, sort_keys: bool = False
) -> str:
    """As written, without the HTML escapes of Jinja's own filter, which a model has never seen."""
    default: Callable[[Any], Any] = _as_list
    return json.dumps(
        _as_list(value) if isinstance(value, GeneratorType) else value,
        indent=indent, ensure_ascii=ensure_ascii, separators=separators, sort_keys=sort_keys, default=default,
    )  # fmt: skip


def _as_list(value: Any) -> Any:
    if isinstance(value, jinja2.Undefined):
        return None
    return list(value)
