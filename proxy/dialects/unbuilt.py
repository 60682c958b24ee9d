"""Fields that would change the output and are not built yet: refused with 501, never ignored in silence.

Each row is a field, and what it may hold without effect. A feature that is built takes its row along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from proxy.errors import Unsupported

Off = Callable[[Any], bool]


def _number(off: Callable[[float], bool]) -> Off:
    return lambda value: isinstance(value, int | float) and off(value)


def _empty(value: Any) -> bool:
    return value in ("", [], {}, False)


_OFF: dict[str, Off] = {
    "lora": _empty,
}


def refuse(body: Mapping[str, Any]) -> None:
    """Raises Unsupported for the first field that asks for what is not built."""
    for field, off in _OFF.items():
        if (value := body.get(field)) is not None and not off(value):
            raise Unsupported(field, field)
