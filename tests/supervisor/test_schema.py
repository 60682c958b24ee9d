"""The converter: what it takes, what it says when it refuses, and that it never raises anything but Invalid."""

from __future__ import annotations

import datetime
import math
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from supervisor.config import Key, Model, Sampling, Server
from supervisor.schema import (
    Duration,
    Invalid,
    Missing,
    PositiveDuration,
    Size,
    convert,
    describe,
    dotted,
    near,
    parse_duration,
    parse_size,
    show,
)

Port = Annotated[int, Meta(ge=1, le=65535)]


class Part(msgspec.Struct, frozen=True):
    text: str
    weight: float = 1.0


class Thing(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    count: int = 1
    port: Port = 80
    mode: Literal["auto", "on"] = "auto"
    flag: bool | None = None
    parts: tuple[Part, ...] = ()
    words: Annotated[list[str], Meta(min_length=1)] = []
    origins: tuple[str, ...] | Literal["*"] = "*"
    bias: dict[str, float] = {}
    timeout: Duration = 1.0
    interval: PositiveDuration = 1.0
    limit: Size = 1
    extra: Any = None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("300ms", 0.3),
        ("1.5s", 1.5),
        ("1h2m3s4ms", 3723.004),
        ("0s", 0),
        ("500h", 1_800_000),
        (0, 0),
        (7, 7),
        (0.25, 0.25),
    ],
)
def test_duration_is_read(value: object, seconds: float) -> None:
    assert parse_duration(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        *("", "10", "s", "1x", "1 s", "-1s", "30m1h", "1e3s", "٣s", "501h", "9" * 400 + "h", "1s\n"),
        *(-1, -0.5, True, None, [], math.nan, math.inf, 10**400, 1e308),
    ],
)
def test_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        parse_duration(value)


@pytest.mark.parametrize("value", ["0s", 0, 0.0, "0h0m"])
def test_positive_duration_refuses_zero(value: object) -> None:
    assert convert(value, Duration) == 0
    with pytest.raises(Invalid, match="duration above 0"):
        convert(value, PositiveDuration)


@given(
    st.integers(0, 99),
    st.integers(0, 9999),
    st.integers(0, 99999),
    st.integers(0, 999),
    st.sets(st.sampled_from("hmst")),
)
def test_duration_round_trip(h: int, m: int, s: int, ms: int, units: set[str]) -> None:
    given_units = {"h": (h, "h", 3600), "m": (m, "m", 60), "s": (s, "s", 1), "t": (ms, "ms", 0.001)}
    chosen = [given_units[unit] for unit in "hmst" if unit in units]
    text = "".join(f"{number}{unit}" for number, unit, _ in chosen)
    if text:
        assert parse_duration(text) == pytest.approx(sum(number * factor for number, _, factor in chosen))
    else:
        with pytest.raises(ValueError, match=r"^$"):
            parse_duration(text)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("64MiB", 64 * 2**20),
        ("22GB", 22 * 10**9),
        ("1.5KiB", 1536),
        ("0.5 GiB", 2**29),
        ("1kB", 1000),
        ("10B", 10),
        ("512", 512),
        (4096, 4096),
        (0, 0),
        ("9007199254740993B", 9007199254740993),
    ],
)
def test_size_is_read(value: object, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize(
    "value",
    ["", "MiB", "-1B", "1.MiB", "1PiB", "1mib", "8B\n", "9" * 30 + "TiB", "9" * 5000, -1, 1.0, True, None, 2**63],
)
def test_size_is_refused(value: object) -> None:
    with pytest.raises(Invalid, match=r"^value: expected size like"):
        convert(value, Size)


@given(st.integers(0, 2**63 - 1), st.sampled_from(["", "B", "kB", "KiB", "MB", "MiB", "GB", "GiB", "TB", "TiB"]))
def test_size_round_trip(number: int, unit: str) -> None:
    power = {"": 1, "B": 1}.get(unit) or (1024 if "i" in unit else 1000) ** ("kKMGT".index(unit[0]) or 1)
    if number * power < 2**63:
        assert parse_size(f"{number}{unit}") == number * power
    else:
        with pytest.raises(ValueError, match=r"^$"):
            parse_size(f"{number}{unit}")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "value: expected table, got 5"),
        ({}, "name: required (string), but missing"),
        ({"name": 1}, "name: expected string, got 1"),
        ({"name": "x", "cuont": 1}, 'cuont: expected a known key, got 1; did you mean "count"?'),
        ({"name": "x", "Count": 1}, 'Count: expected a known key, got 1; did you mean "count"?'),
        ({"name": "x", "zzz": [1, 2]}, "zzz: expected a known key, got [1,2]"),
        ({"name": "x", "count": "8k"}, 'count: expected integer, got "8k"'),
        ({"name": "x", "count": 1.5}, "count: expected integer, got 1.5"),
        ({"name": "x", "count": True}, "count: expected integer, got true"),
        ({"name": "x", "count": 2**64}, f"count: expected integer, in 64 bits, got {2**64}"),
        ({"name": "x", "port": 0}, "port: expected integer from 1 to 65535, got 0"),
        ({"name": "x", "mode": "of"}, 'mode: expected "auto" or "on", got "of"'),
        ({"name": "x", "flag": "yes"}, 'flag: expected true or false, got "yes"'),
        ({"name": "x", "parts": {}}, "parts: expected list of table, got {}"),
        ({"name": "x", "parts": [{"text": "a"}, 7]}, "parts[1]: expected table, got 7"),
        ({"name": "x", "parts": [{"text": "a", "weight": "b"}]}, 'parts[0].weight: expected number, got "b"'),
        ({"name": "x", "parts": [{"text": "a", "weight": math.nan}]}, "parts[0].weight: expected number, got NaN"),
        ({"name": "x", "words": []}, "words: expected list of string, not empty, got []"),
        ({"name": "x", "words": ["a", 2]}, "words[1]: expected string, got 2"),
        ({"name": "x", "origins": "all"}, 'origins: expected list of string or "*", got "all"'),
        ({"name": "x", "origins": ["a", 1]}, "origins[1]: expected string, got 1"),
        ({"name": "x", "bias": {"a": "b"}}, 'bias.a: expected number, got "b"'),
        ({"name": "x", "timeout": -1}, f"timeout: expected {describe(Duration)}, got -1"),
    ],
)
def test_error_says_place_expectation_and_value(value: object, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        convert(value, Thing)
    assert str(caught.value) == message
    assert str(caught.value) == f"{dotted(caught.value.path) or 'value'}: {caught.value.reason}"


def test_missing_is_invalid_with_its_path() -> None:
    with pytest.raises(Missing) as caught:
        convert({"name": "x", "parts": [{}]}, Thing)
    assert caught.value.path == ("parts", 0, "text")


def test_request_bodies_ignore_unknown_keys_and_null() -> None:
    body = {"name": "x", "zzz": 1, "count": None, "parts": [{"text": "a", "zzz": None}]}
    assert convert(body, Thing, strict=False) == Thing(name="x", parts=(Part("a"),))


def test_null_counts_as_missing_in_a_request_body() -> None:
    with pytest.raises(Missing, match="name: required"):
        convert({"name": None}, Thing, strict=False)


def test_integral_float_is_an_integer_and_integer_a_number() -> None:
    thing = convert({"name": "x", "count": 3.0, "parts": [{"text": "a", "weight": 2}]}, Thing)
    assert type(thing.count) is int
    assert type(thing.parts[0].weight) is float


keys = st.text() | st.sampled_from(Thing.__struct_fields__)
json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(keys, inner),
    max_leaves=12,
)


def near_misses(kind: type[msgspec.Struct]) -> st.SearchStrategy[dict[str, Any]]:
    """Trees with the struct's own keys, so that the values are looked at."""
    return st.dictionaries(st.sampled_from(kind.__struct_fields__), json_like)


def is_sound(error: Invalid) -> bool:
    """Its text can be sent and is short."""
    return bool(str(error).encode()) and len(error.reason) < 1000


kinds = st.sampled_from([Thing, Server, Key, Model, Sampling, Part, int, str])


@given(near_misses(Thing) | json_like, kinds, st.booleans())
def test_arbitrary_trees_raise_nothing_but_invalid(tree: object, kind: Any, strict: bool) -> None:
    try:
        assert isinstance(convert(tree, kind, strict=strict), kind)
    except Invalid as error:
        sound = is_sound(error)
    else:
        sound = True
    assert sound


@settings(deadline=None)
@given(st.data(), st.sampled_from([Server, Key, Model, Sampling]), st.booleans())
def test_configuration_tables_raise_nothing_but_invalid(data: st.DataObject, kind: Any, strict: bool) -> None:
    tree = data.draw(near_misses(kind))
    try:
        convert(tree, kind, strict=strict)
    except Invalid as error:
        sound = is_sound(error)
    else:
        sound = True
    assert sound


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1.5, "1.5"),
        ("ü\n", '"ü\\n"'),
        ({"a": [1, "b", {}]}, '{"a":[1,"b",{}]}'),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        ("x" * 1000, '"' + "x" * 56 + "..."),
        ([0] * 10**6, "[" + "0," * 28 + "..."),
        pytest.param(10**5000, "a huge integer", id="huge"),
        ("\ud800", '"\\ud800"'),
    ],
)
def test_show_is_short_and_printable(value: object, text: str) -> None:
    assert show(value) == text


def test_show_survives_deep_nesting() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert show(deep) == "[" * 57 + "..."
    while deep:  # freeing it at once would recurse
        deep = deep.pop()


@pytest.mark.parametrize(
    ("word", "hint"),
    [("n_ctxx", 'did you mean "n_ctx"?'), ("N-CTX", 'did you mean "n_ctx"?'), ("zzz", ""), ("", "")],
)
def test_near_miss(word: str, hint: str) -> None:
    assert near(word, ["n_ctx", "threads"]) == hint


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Port, "integer from 1 to 65535"),
        (Annotated[float, Meta(gt=0)], "number > 0"),
        (Annotated[int, Meta(ge=0)], "integer ≥ 0"),
        (int | None, "integer"),
        (dict[str, int], "table"),
        (list[Part], "list of table"),
        (Literal["a", 1], '"a" or 1'),
        (Size, 'size like "64MiB" or a number of bytes'),
    ],
)
def test_describe(kind: Any, words: str) -> None:
    assert describe(kind) == words
