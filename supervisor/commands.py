"""What an operator may ask of a model that is there: load, unload. Each is idempotent and answered at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from supervisor import lifecycle
from supervisor.control import Answer, ModelCommand, State
from supervisor.lifecycle import Model


class Models(Protocol):
    """What commands need of the fleet."""

    closing: bool

    def model(self, name: str) -> Model: ...

    def wanted(self, name: str) -> bool: ...

    def apply(self, name: str, event: lifecycle.Event) -> None: ...

    def order(self, name: str) -> None: ...

    def forget(self, name: str) -> None: ...

    def cancel_download(self, name: str) -> None: ...

    def drain(self, name: str, reason: str) -> None: ...

    def publish(self, name: str) -> None: ...

    def overridden(self, name: str) -> Mapping[str, Any]: ...

    def override(self, name: str, settings: dict[str, Any]) -> None: ...


def obey(models: Models, command: ModelCommand) -> Answer:
    """Begins to load or unload; the outcome shows in the model's state."""
    return _load(models, command) if command.verb == "load" else _unload(models, command)


def _load(models: Models, command: ModelCommand) -> Answer:
    name, model = command.model, models.model(command.model)
    if models.closing:
        return Answer(command.ticket, "shutting_down", "the server is shutting down")
    if command.overrides and command.overrides != models.overridden(name):
        return _load_otherwise(models, command)
    if model.state in (State.READY, State.LOADING):
        models.publish(name)
        return Answer(command.ticket, already=True)
    if model.state is State.FAILED and (not command.admin or model.stuck):
        return Answer(command.ticket, "model_failed", model.message)
    models.apply(name, lifecycle.Cleared())
    models.order(name)
    return Answer(command.ticket)


def _load_otherwise(models: Models, command: ModelCommand) -> Answer:
    """With other settings than it has, or would have; a load that is there goes for it."""
    name, model = command.model, models.model(command.model)
    if model.stuck:
        return Answer(command.ticket, "model_failed", model.message)
    models.override(name, command.overrides)
    if model.state is State.READY:
        models.drain(name, "reload")
    else:
        models.apply(name, lifecycle.Cancelled("reload"))
        models.apply(name, lifecycle.Cleared())
    models.order(name)
    return Answer(command.ticket)


def _unload(models: Models, command: ModelCommand) -> Answer:
    name, state = command.model, models.model(command.model).state
    if state is State.DOWNLOADING:
        models.forget(name)
        models.cancel_download(name)
        return Answer(command.ticket)
    if state is State.READY:
        models.drain(name, "requested")
        return Answer(command.ticket)
    if not models.wanted(name) and state not in (State.LOADING, State.BACKOFF):
        models.publish(name)
        return Answer(command.ticket, already=True)
    models.forget(name)
    if state is State.LOADING:
        models.apply(name, lifecycle.Cancelled("requested"))
    elif state is State.BACKOFF:
        models.apply(name, lifecycle.Elapsed())
    return Answer(command.ticket)
