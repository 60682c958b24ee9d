"""Turns a parsed TOML or JSON tree into frozen, typed structs, with errors a person can act on.

One converter serves the configuration file (unknown keys are errors with a near miss) and request bodies (unknown
keys are ignored, null means absent). The types are ordinary msgspec structs; ranges stand in `msgspec.Meta`.
"""

from __future__ import annotations

import datetime
import difflib
import functools
import json
import math
import re
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec.structs import FieldInfo

T = TypeVar("T")
Path = tuple[str | int, ...]

_NAMES: dict[object, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "true or false",
    type(None): "null",
    dict: "table",
}
_INT64 = 2**63
_LONGEST = 500 * 3600.0  # epoll takes at most 2³¹ milliseconds, 596 hours
_SHOWN = 60  # characters of a value in an error
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_DURATION = re.compile(rf"(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?")
_SIZE = re.compile(rf"{_NUMBER} ?(B|KiB|MiB|GiB|TiB|kB|KB|MB|GB|TB)?")
_UNITS = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


class Invalid(ValueError):
    """A value that does not fit. `path` leads to it, `expected` says what may stand there, `hint` a way out or ''.

    `reason` is the text without the path, for callers that spell the place in their own way.
    """

    def __init__(self, path: Path, expected: str, got: object, hint: str = "") -> None:
        self.path, self.expected, self.got, self.hint = path, expected, got, hint
        super().__init__(f"{dotted(path) or 'value'}: {self.reason}")

    @property
    def reason(self) -> str:
        return f"expected {self.expected}, got {show(self.got)}{self.hint and '; ' + self.hint}"


class Missing(Invalid):
    """A required field that is absent."""

    def __init__(self, path: Path, expected: str, hint: str = "") -> None:
        super().__init__(path, expected, None, hint)

    @property
    def reason(self) -> str:
        return f"required ({self.expected}), but missing{self.hint and '; ' + self.hint}"


class Parsed:
    """Marks an annotated type whose text form is parsed: `Annotated[float, Parsed("duration", parse)]`."""

    def __init__(self, expected: str, parse: Callable[[object], object]) -> None:
        self.expected, self.parse = expected, parse


def parse_duration(value: object) -> float:
    """Seconds from "90s", "10m", "1h30m", "300ms" or a number of seconds; at most 500 hours. Raises ValueError."""
    seconds = -1.0
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)) and any(match.groups()):
        h, m, s, ms = (float(group or 0) for group in match.groups())
        seconds = h * 3600 + m * 60 + s + ms / 1000
    elif isinstance(value, int | float) and not isinstance(value, bool) and value <= _LONGEST:
        seconds = float(value)
    if not 0 <= seconds <= _LONGEST:
        raise ValueError
    return seconds


def parse_positive(value: object) -> float:
    """As parse_duration, but above 0: for a timeout or an interval that 0 would turn into a busy loop."""
    if seconds := parse_duration(value):
        return seconds
    raise ValueError


def parse_size(value: object) -> int:
    """Bytes from "64MiB", "22GB" or a number of bytes, below 2⁶³. Raises ValueError."""
    size = -1
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        whole, _, fraction = match[1].partition(".")
        unit = _UNITS[match[2] or "B"]
        size = int(whole) * unit + int(float(f"0.{fraction or 0}") * unit)
    if not 0 <= size < _INT64:
        raise ValueError
    return size


Duration = Annotated[float, Parsed('duration like "90s", "10m" or "1h30m", at most "500h"', parse_duration)]
PositiveDuration = Annotated[float, Parsed('duration above 0 like "90s" or "1h30m", at most "500h"', parse_positive)]
Size = Annotated[int, Parsed('size like "64MiB" or a number of bytes', parse_size)]


def dotted(path: Path) -> str:
    """`("messages", 2, "content")` → `messages[2].content`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def show(value: object) -> str:
    """What came, in the spelling of JSON, short: the cost does not grow with the value."""
    text = ""
    for piece in _spell(value):
        text += piece
        if len(text) > _SHOWN:
            text = f"{text[: _SHOWN - 3]}..."
            break
    return text.encode("utf-8", "backslashreplace").decode()


def _spell(value: object) -> Iterator[str]:
    match value:
        case None:
            yield "null"
        case str():
            yield json.dumps(value[: _SHOWN + 1], ensure_ascii=False)
        case bool() | float():
            yield json.dumps(value)
        case int():
            yield str(value) if abs(value) < 10**_SHOWN else "a huge integer"
        case Mapping():
            yield "{"
            for index, (key, item) in enumerate(value.items()):
                yield f"{',' if index else ''}{json.dumps(str(key)[: _SHOWN + 1], ensure_ascii=False)}:"
                yield from _spell(item)
            yield "}"
        case list() | tuple():
            yield "["
            for index, item in enumerate(value):
                yield "," if index else ""
                yield from _spell(item)
            yield "]"
        case datetime.date() | datetime.time():
            yield value.isoformat()
        case _:
            yield repr(value)


def near(word: str, known: list[str]) -> str:
    """`did you mean "n_ctx"?`, or "" if nothing known comes close. Case and - for _ do not count as differences."""
    plain = {name.lower().replace("-", "_"): name for name in known}
    close = difflib.get_close_matches(word.lower().replace("-", "_"), plain, n=1, cutoff=0.6)
    return f'did you mean "{plain[close[0]]}"?' if close else ""


def describe(kind: Any) -> str:
    """What may stand at a place of this type, in words, with its legal range."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        for mark in args[1:]:
            if isinstance(mark, Parsed):
                return mark.expected
            if isinstance(mark, msgspec.Meta):
                return f"{describe(args[0])}{_range(mark)}"
        return describe(args[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe(arg) for arg in args if arg is not type(None)))
    if origin in (list, tuple):
        return f"list of {describe(args[0])}"
    if origin is dict or (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return "table"
    if args:  # Literal
        return " or ".join(show(arg) for arg in args)
    return _NAMES.get(kind, "value")


def convert(value: object, kind: Any, *, path: Path = (), strict: bool = True) -> Any:
    """`value` as an instance of `kind`, a struct, container or scalar type.

    strict: unknown keys raise, as in a configuration file. Otherwise they are ignored and null counts as absent, as
    in a request body. A float with an integral value counts as an integer. Raises Invalid or Missing with the path.
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        for mark in args[1:]:
            if isinstance(mark, Parsed):
                return _parse(value, mark, path)
        if get_origin(args[0]) in (list, tuple, dict):
            convert(value, args[0], path=path, strict=strict)
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _struct(value, kind, path, strict)
    elif origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise Invalid(path, describe(kind), value)
        items = (convert(item, args[0], path=(*path, index), strict=strict) for index, item in enumerate(value))
        return origin(items)
    elif origin is dict:
        if not isinstance(value, Mapping):
            raise Invalid(path, describe(kind), value)
        return {key: convert(item, args[1], path=(*path, key), strict=strict) for key, item in value.items()}
    elif origin in (Union, types.UnionType):
        return _union(value, kind, path, strict)
    return _leaf(value, kind, path)


def _struct(value: object, kind: type[msgspec.Struct], path: Path, strict: bool) -> Any:
    if not isinstance(value, Mapping):
        raise Invalid(path, "table", value)
    fields, hints = _shape(kind)
    found: dict[str, object] = {}
    for key, item in value.items():
        field = fields.get(key)
        if field is None:
            if strict:
                raise Invalid((*path, key), "a known key", item, near(str(key), list(fields)))
        elif item is not None or strict:
            found[field.name] = convert(item, hints[field.name], path=(*path, key), strict=strict)
    for name, field in fields.items():
        if field.required and field.name not in found:
            raise Missing((*path, name), describe(hints[field.name]))
    return kind(**found)


@functools.cache
def _shape(kind: type[msgspec.Struct]) -> tuple[dict[str, FieldInfo], dict[str, Any]]:
    """The fields by their names in the file, and their types: what costs most, and never changes."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    return fields, get_type_hints(kind, include_extras=True)


def _union(value: object, kind: Any, path: Path, strict: bool) -> Any:
    if value is None and type(None) in get_args(kind):
        return None
    deepest: Invalid | None = None
    for option in get_args(kind):
        if option is type(None):
            continue
        try:
            return convert(value, option, path=path, strict=strict)
        except Invalid as error:
            if len(error.path) > len(path) and (deepest is None or len(error.path) > len(deepest.path)):
                deepest = error
    raise deepest or Invalid(path, describe(kind), value)


def _parse(value: object, mark: Parsed, path: Path) -> object:
    try:
        return mark.parse(value)
    except ValueError:
        raise Invalid(path, mark.expected, value) from None


def _leaf(value: object, kind: Any, path: Path) -> Any:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Invalid(path, describe(kind), value)
        if value.is_integer() and _is_integer(kind):
            value = int(value)
    if isinstance(value, int) and not -_INT64 <= value < _INT64:
        raise Invalid(path, f"{describe(kind)}, in 64 bits", value)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise Invalid(path, describe(kind), value) from None


def _is_integer(kind: Any) -> bool:
    return kind is int or (get_origin(kind) is Annotated and get_args(kind)[0] is int)


def _range(meta: msgspec.Meta) -> str:
    if meta.description:
        return f" {meta.description}"
    if meta.ge is not None and meta.le is not None:
        return f" from {meta.ge} to {meta.le}"
    for word, bound in (("≥", meta.ge), (">", meta.gt), ("≤", meta.le), ("<", meta.lt)):
        if bound is not None:
            return f" {word} {bound}"
    if meta.min_length:
        return ", not empty"
    return ""
