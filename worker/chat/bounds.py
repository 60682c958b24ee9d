"""What a chat template may take: characters, items, digits, and seconds of a processor. It came with a model file.

Jinja has no endless loop, but loops in loops are as good as one, and `'x' * 10 ** 10` is shorter. So what can make
much of little looks at its operands first, every turn of a loop, every call and every operation counts, and what they
make is weighed.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.sandbox import SandboxedFormatter

from supervisor import resident

SECONDS = 3.0  # of processor time, for one rendering; a conversation of 16 MiB takes some 0.1 (measured)
MAX_TEXT = 16 * 2**20  # characters of any text on the way
MAX_ITEMS = 2**20  # of any list on the way
MAX_BITS = 4096  # of any integer
MAX_WIDTH = 10_000  # to which anything is filled up
MAX_SOURCE = 2**20  # characters of a template
MAX_GROWTH = 2**30  # bytes by which the process may grow during a rendering
_OFTEN = 64  # counts between two looks at the clock
_MUCH = 2**25  # characters and items made between two looks at the memory

COUNT = "count turns"  # the filter that does so; no template can spell it
SEQUENCES = (str, list, tuple)
_SMALL = 4096  # characters or items that are not worth counting
BINARY = frozenset(("+", "*", "**", "%"))
_FILLING = frozenset(("center", "ljust", "rjust", "zfill", "expandtabs"))
_WIDE = frozenset(
    ("center", "indent", "batch", "slice", "wordwrap", "truncate", "round", "tojson", "urlize", "xmlattr", "pprint")
)
_NUMBER = re.compile(r"[0-9]+")


class TooMuch(Exception):
    """The template wants more than it may have."""


class _Clock(threading.local):
    """When the rendering in this thread must be over, in seconds of the thread's own processor time."""

    due = float("inf")
    counts = 0
    made = 0  # characters and items, since memory was looked at
    before = 0  # bytes that the process had


_clock = _Clock()


@contextmanager
def limited() -> Iterator[None]:
    """A rendering; not one within another."""
    _clock.due, _clock.counts = time.thread_time() + SECONDS, 0
    _clock.made, _clock.before = 0, _resident()
    try:
        yield
    finally:
        _clock.due = float("inf")


def tick() -> None:
    """One turn of a loop, one call, one operation. Raises TooMuch."""
    _clock.counts += 1
    if _clock.counts % _OFTEN == 0 and time.thread_time() > _clock.due:
        raise TooMuch(f"the chat template took more than {SECONDS:g} s")


def weigh(size: int) -> None:
    """So many characters or items have been made, or will be. Raises TooMuch."""
    _clock.made += size
    if _clock.made > _MUCH:
        _clock.made = 0
        if time.thread_time() > _clock.due:
            raise TooMuch(f"the chat template took more than {SECONDS:g} s")
        if _resident() - _clock.before > MAX_GROWTH:
            raise TooMuch(f"the chat template took more than {MAX_GROWTH >> 20} MiB of memory")


def _resident() -> int:
    memory = resident.look(os.getpid())
    return memory.resident if memory else 0


@pass_context
def counted_once(context: Any, value: Any) -> None:
    """A filter that is evaluated at each turn: what knows the context is not reckoned beforehand."""
    tick()


# -- operations ------------------------------------------------------------------------------------------------------


def check_binary(operator: str, left: Any, right: Any) -> None:
    """Raises TooMuch if the result would be too large."""
    tick()
    match operator:
        case "*":
            _check_product(left, right)
        case "**":
            if isinstance(left, int) and isinstance(right, int):
                _fits(0, left.bit_length() * max(0, right))
        case "%":
            if isinstance(left, str):
                check_widths(left)
                _fits(left, len(left) + _length(right))
        case _:
            pass


def check_call(function: Any, arguments: Sequence[Any]) -> None:
    """A method of a text that would make it too long. Raises TooMuch."""
    tick()
    text, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
    if not isinstance(text, str):
        return
    weigh(len(text))
    if name in _FILLING:
        check_numbers(arguments)
    elif name == "replace":
        check_replace(text, arguments)
    elif name == "join" and arguments and isinstance(arguments[0], list | tuple):
        _fits(text, sum(_length(item) + len(text) for item in arguments[0]))
    elif name == "translate" and arguments and isinstance(arguments[0], Mapping):
        _fits(text, len(text) * max([1, *(_length(item) for item in arguments[0].values())]))


def bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that looks at its arguments first."""
    skipped = 1 if hasattr(function, "jinja_pass_arg") else 0

    def checked(*arguments: Any, **named: Any) -> Any:
        tick()
        value, given = arguments[skipped], [*arguments[skipped + 1 :], *named.values()]
        if name in _WIDE:
            check_numbers(given)
        elif name == "format":
            check_widths(str(value))
        elif name == "replace":
            check_replace(str(value), given)
        elif name == "join" and isinstance(value, list | tuple):
            _fits("", sum(_length(item) + sum(map(_length, given)) for item in value))
        result = function(*arguments, **named)
        if isinstance(result, SEQUENCES):
            weigh(len(result))
        return result

    if skipped:
        checked.jinja_pass_arg = function.jinja_pass_arg  # type: ignore[attr-defined]
    return checked


def check_numbers(arguments: Sequence[Any]) -> None:
    for value in arguments:
        if isinstance(value, int) and abs(value) > MAX_WIDTH:
            raise TooMuch(f"the chat template fills up to {value:.3g}; at most {MAX_WIDTH}")


def check_widths(form: str) -> None:
    """Of a format: no number in it may be large, nor come from elsewhere."""
    if "*" in form and "%" in form:
        raise TooMuch("the chat template formats to a width that is given elsewhere")
    if any(len(digits) > 5 or int(digits) > MAX_WIDTH for digits in _NUMBER.findall(form)):
        raise TooMuch(f"the chat template formats to more than {MAX_WIDTH}")


def check_replace(text: str, arguments: Sequence[Any]) -> None:
    if len(arguments) >= 2 and isinstance(arguments[0], str):
        _fits(text, len(text) + (text.count(arguments[0])) * _length(arguments[1]))


def added(total: Any) -> Any:
    """Of the operator +, which at most doubles; looked at afterwards, as templates add texts all the time."""
    if type(total) is str and len(total) <= _SMALL:
        return total
    if isinstance(total, SEQUENCES) and len(total) > _SMALL:
        tick()
        _fits(total, len(total))
    return total


def joined(parts: Sequence[Any]) -> str:
    """Of the operator ~."""
    texts = [str(part) for part in parts]
    if (size := sum(map(len, texts))) > _SMALL:
        tick()
        _fits("", size)
    return "".join(texts)


def _check_product(left: Any, right: Any) -> None:
    for sequence, times in ((left, right), (right, left)):
        if isinstance(sequence, SEQUENCES) and isinstance(times, int):
            _fits(sequence, len(sequence) * max(0, times))
    if isinstance(left, int) and isinstance(right, int):
        _fits(0, left.bit_length() + right.bit_length())


def _fits(kind: Any, size: int) -> None:
    limit, unit = (
        (MAX_TEXT, "characters") if isinstance(kind, str)
        else (MAX_BITS, "bits") if isinstance(kind, int)
        else (MAX_ITEMS, "items")
    )  # fmt: skip
    if size > limit:
        raise TooMuch(f"the chat template makes more than {limit} {unit}")
    weigh(size)


def _length(value: Any) -> int:
    return len(value) if isinstance(value, SEQUENCES) else 32


# -- what the sandbox is made of -------------------------------------------------------------------------------------


class Formatter(SandboxedFormatter):
    """`"{:>9}".format(x)`."""

    def format_field(self, value: Any, format_spec: str) -> Any:
        check_widths(format_spec)
        return super().format_field(value, format_spec)


class Generator(CodeGenerator):
    """Has the operator ~ look at what it joins, and weighs slices, which Jinja hands to Python."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        cut = isinstance(node.arg, nodes.Slice)
        self.write("environment.weighed(" if cut else "")
        super().visit_Getitem(node, frame)
        self.write(")" if cut else "")


def weighed(value: Any) -> Any:
    """Of a slice."""
    tick()
    if isinstance(value, SEQUENCES):
        weigh(len(value))
    return value


def counted(tree: nodes.Template) -> nodes.Template:
    """Every turn of a loop, every call of a macro and of a block counts."""
    for node in tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block)):
        count = nodes.Filter(nodes.Const(None), COUNT, [], [], None, None, lineno=node.lineno)
        node.body = [nodes.ExprStmt(count, lineno=node.lineno), *node.body]  # type: ignore[attr-defined]
    assert tree.environment is not None, "the parser has set it"
    tree.set_environment(tree.environment)
    return tree
