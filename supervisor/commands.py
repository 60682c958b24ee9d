"""What an operator may ask of a model that is there: load, unload, scale. Each is idempotent and answered at once.

Of a model with several replicas, "load" is about the first, unless another one serves, and "unload" about all.
"""

from __future__ import annotations

from collections.abc import Callable

from supervisor import lifecycle
from supervisor.control import Answer, ModelCommand, State
from supervisor.lifecycle import Model
from supervisor.machines import Machines
from supervisor.stock import Stock

_THERE = (State.READY, State.LOADING)


class Operator:
    """Carries out commands. `call_off` takes back what was wanted of a replica, and tells those who wait."""

    def __init__(self, stock: Stock, machines: Machines, call_off: Callable[[str], None]) -> None:
        self._stock, self._machines, self._call_off = stock, machines, call_off

    def obey(self, command: ModelCommand) -> Answer:
        """Begins to load or unload, the outcome shows in the model's state; or sets scales."""
        match command.verb:
            case "load":
                return self._load(command)
            case "scale":
                return self._scale(command)
            case _:
                return self._unload(command)

    def _scale(self, command: ModelCommand) -> Answer:
        """Of its LoRA adapters; loads nothing."""
        stock = self._stock
        said: list[tuple[int, float]] = command.overrides["lora"]
        model = stock.entry(command.model).model
        for index, (id, _) in enumerate(said):
            if not 0 <= id < len(model.adapters):
                return Answer(command.ticket, "invalid_value", f"[{index}].id: the model has no adapter {id}")
        stock.scales.set(model, dict(said))
        for each in stock.replicas(command.model):
            self._machines.scale(each.name)
        return Answer(command.ticket)

    def _load(self, command: ModelCommand) -> Answer:
        name, stock = command.model, self._stock
        model, replicas = stock.models[name], stock.replicas(name)
        if stock.closing:
            return Answer(command.ticket, "shutting_down", "the server is shutting down")
        if command.overrides and command.overrides != stock.overrides.of(name):
            return self._load_otherwise(command, replicas)
        if any(each.state in _THERE for each in replicas):
            self._machines.publish(name)
            return Answer(command.ticket, already=True)
        if model.state is State.FAILED and (not command.admin or model.stuck):
            return Answer(command.ticket, "model_failed", model.message)
        for each in replicas:
            self._machines.apply(each.name, lifecycle.Cleared())
        stock.want(name).ordered = True
        return Answer(command.ticket)

    def _load_otherwise(self, command: ModelCommand, replicas: list[Model]) -> Answer:
        """With other settings than it has, or would have; a load that is there goes for it."""
        if replicas[0].stuck:
            return Answer(command.ticket, "model_failed", replicas[0].message)
        self._stock.overrides.ask(command.model, command.overrides)
        for each in replicas:
            if each.state is State.READY:
                self._machines.drain(each.name, "reload")
            else:
                self._machines.apply(each.name, lifecycle.Cancelled("reload"))
                self._machines.apply(each.name, lifecycle.Cleared())
        self._stock.want(command.model).ordered = True
        return Answer(command.ticket)

    def _unload(self, command: ModelCommand) -> Answer:
        begun = [self._begin_unload(each) for each in self._stock.replicas(command.model)]
        if not any(begun):
            self._machines.publish(command.model)
        return Answer(command.ticket, already=not any(begun))

    def _begin_unload(self, model: Model) -> bool:
        """Whether there was anything to do."""
        name, state, machines = model.name, model.state, self._machines
        if state is State.DOWNLOADING:
            self._call_off(name)
            self._stock.store.cancel(name)
        elif state is State.READY:
            machines.drain(name, "requested")
        elif name in self._stock.wants or state in (State.LOADING, State.BACKOFF):
            self._call_off(name)
            if state is State.LOADING:
                machines.apply(name, lifecycle.Cancelled("requested"))
            elif state is State.BACKOFF:
                machines.apply(name, lifecycle.Elapsed())
        else:
            return False
        return True
