"""Memory for request bodies that are on their way or being parsed: bounded for all clients of this process together."""

from __future__ import annotations

from types import TracebackType

from proxy.errors import ApiError


class Bodies:
    """`limit`: bytes. Only what has come counts: who announces much and sends nothing takes nothing from others."""

    def __init__(self, limit: int) -> None:
        self.limit, self.held = limit, 0

    def hold(self) -> Held:
        """Room for one body, given back at the end of the `with`."""
        return Held(self)


class Held:
    def __init__(self, bodies: Bodies) -> None:
        self._bodies, self._size = bodies, 0

    def grow(self, size: int) -> None:
        """So many bytes more. Raises ApiError if there is no room for them."""
        if self._bodies.held + size > self._bodies.limit:
            text = f"the bodies of all requests that are being read exceed {self._bodies.limit} bytes"
            raise ApiError("queue_full", f"{text} ([server].max_bodies); try again", limit=self._bodies.limit)
        self._bodies.held += size
        self._size += size

    def __enter__(self) -> Held:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bodies.held -= self._size
        self._size = 0
