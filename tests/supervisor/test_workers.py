"""The owner of the worker processes, with a nursery that only records what it is told."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from supervisor import config, ladder
from supervisor.control import ConfigureWorker, Facts, Message, Ready
from supervisor.liveness import Verdict
from supervisor.nursery import Ended
from supervisor.timers import Timers
from supervisor.workers import Workers


class Ward(SimpleNamespace):
    __hash__ = object.__hash__  # type: ignore[assignment]


class Nursery:
    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.started: list[str] = []

    def start(self, entry: str, role: str, owner: object) -> Any:
        self.started.append(role)
        child = SimpleNamespace(role=role, ring=-1)
        return Ward(child=child, role=role, verdict=Verdict.HEALTHY, stopping=False, born=0.0)

    def send(self, ward: object, message: Message, fds: object = ()) -> None:
        self.sent.append(message)


class World:
    def __init__(self) -> None:
        self.nursery, self.timers = Nursery(), Timers()
        settings = config.Config(file="x", models={}, parking=config.Parking(memory=0))
        self.workers = Workers(self.nursery, self.timers, settings)  # type: ignore[arg-type]
        self.workers.lives = SimpleNamespace(  # type: ignore[assignment]
            worker_ready=lambda *_: None, worker_ended=lambda *_: None, ledger=SimpleNamespace(ended=lambda _: None)
        )

    def load(self, model: config.Model) -> ConfigureWorker:
        self.workers.load(model, 1)
        return next(message for message in reversed(self.nursery.sent) if isinstance(message, ConfigureWorker))

    def ready(self, name: str, costs: dict[int, float]) -> None:
        self.workers.heard(self.workers.of[name], Ready(Facts(), costs), [])

    def ended(self, name: str) -> None:
        self.workers.ended(self.workers.of[name], Ended(0, (), ""))


def test_what_one_load_measured_is_told_to_the_next_one_with_the_same_settings() -> None:
    world, model = World(), config.Model(name="m", path="x.gguf")
    assert world.load(model).costs == {}
    world.ready("m", {1: 0.5})
    world.ended("m")
    assert world.load(model).costs == {1: 0.5}
    world.ended("m")
    assert world.load(config.Model(name="m", path="x.gguf", n_gpu_layers=3)).costs == {}


def test_a_standby_that_was_given_a_model_is_followed_by_another_one() -> None:
    world = World()
    world.workers.keep_standby()
    world.timers.run(float("inf"))
    world.load(config.Model(name="m"))
    assert world.nursery.started == ["standby"]
    assert world.workers.of["m"].child.role == "w:m"
    world.timers.run(time.monotonic())
    assert world.nursery.started == ["standby", "standby"]


def test_a_worker_that_cannot_be_told_what_to_load_for_want_of_descriptors_is_ended() -> None:
    world = World()
    ended: list[Any] = []
    world.nursery.stop = lambda ward, how: ended.append((ward.role, how))  # type: ignore[attr-defined]

    def none_left(ward: object, message: Message, fds: object = ()) -> None:
        raise OSError(24, "Too many open files")

    world.nursery.send = none_left  # type: ignore[method-assign]
    world.workers.load(config.Model(name="m"), 1)
    assert ended == [("w:m", ladder.cancel)]
    assert "m" in world.workers.of  # until its end is seen, which counts as a death
