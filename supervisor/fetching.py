"""What the fleet needs of whoever fetches models and deletes them: supervisor.store, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from supervisor.control import Answer, Entry, ModelCommand


class Fetcher(Protocol):
    """What fetches models and deletes them."""

    def obey(self, command: ModelCommand, reply: Callable[[Answer], None]) -> None: ...

    def files(self, name: str) -> Mapping[str, tuple[int, int]]: ...

    def cancel(self, name: str) -> None: ...

    def wanted(self, entry: Entry) -> None: ...

    def gone(self, name: str) -> None: ...


class Nobody:
    """Nothing can be fetched."""

    def obey(self, command: ModelCommand, reply: Callable[[Answer], None]) -> None:
        reply(Answer(command.ticket, "unsupported_feature", "this server fetches no models"))

    def files(self, name: str) -> Mapping[str, tuple[int, int]]:
        return {}

    def cancel(self, name: str) -> None: ...

    def wanted(self, entry: Entry) -> None: ...

    def gone(self, name: str) -> None: ...
