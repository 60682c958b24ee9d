"""A schedule: what clients, operators and bad luck do, and when. Made from a seed; a failing one can be shortened."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from supervisor import replicas
from supervisor.control import Entry, KeepAlive, ModelCommand
from supervisor.liveness import Verdict
from tests.faults.sim.agenda import Agenda
from tests.faults.sim.rules import NEEDS
from tests.faults.sim.world import NAMES, World

_KINDS = {
    "ask": 30, "leave": 8, "kill": 5, "hang": 2, "suspend": 2, "load": 3, "unload": 4, "kill_proxy": 2, "garbage": 3,
    "keep_alive": 2, "reconfigure": 2, "catalog": 3, "pause": 2, "shut_down": 0.3,
}  # fmt: skip
_PAUSES = (0.0, 0.001, 0.01, 0.1, 0.5, 1.0, 3.0, 12.0, 40.0)


@dataclass(frozen=True, slots=True)
class Op:
    """After `wait` seconds, do `kind` with what `pick` draws."""

    wait: float
    kind: str
    model: str
    pick: int


@dataclass(frozen=True, slots=True)
class Schedule:
    seed: int
    max_models: int
    memory: int
    proxies: int
    bad: float
    ops: tuple[Op, ...]
    copies: int = 1


def make(seed: int) -> Schedule:
    draw = random.Random(seed)
    kinds = draw.choices(list(_KINDS), list(_KINDS.values()), k=draw.randint(3, 24))
    ops = tuple(
        Op(
            draw.choice(_PAUSES) * draw.random(),
            kind,
            draw.choice("aabbccccp"[: 9 if seed % 3 else 8]),
            draw.getrandbits(30),
        )
        for kind in kinds
    )
    limits = draw.choice([(1, 0), (1, 0), (2, 0), (3, 0), (0, 100), (2, 100), (0, 70)])
    proxies, bad = draw.randint(1, 2), draw.choice([0.0, 0.0, 0.05, 0.15])
    return Schedule(seed, *limits, proxies, bad, ops, draw.choice([1, 2, 2, 3]))


def run(schedule: Schedule, agenda: Agenda) -> None:
    """Raises Violation."""
    limits = {"max_models": schedule.max_models, "memory": schedule.memory, "proxies": schedule.proxies}
    world = World(agenda, **limits, bad=schedule.bad, copies=schedule.copies)
    for op in schedule.ops:
        world.pass_time(op.wait)
        agenda.note("· {} {} {}", op.kind, op.model, op.pick)
        _perform(world, op, random.Random(op.pick))
    world.calm()


def _perform(world: World, op: Op, draw: random.Random) -> None:
    model, index = op.model, draw.randrange(2)
    proxy = world.proxies.running.get(index)
    match op.kind:
        case "ask":
            for _ in range(draw.choice([1, 1, 3, 6])):
                world.ask(model, index, draw.choice([0.0, 0.01, 0.3, 2.0, 20.0]))
        case "leave":
            open_ones = [request for request in world.requests if not request.ended]
            if open_ones and proxy is not None and proxy.alive:
                proxy.leave(draw.choice(open_ones))
        case "kill":
            world.workers.kill(_one(world, model, draw), draw.choice([-9, -11, 1]))
        case "hang":
            world.workers.judge(_one(world, model, draw), Verdict.HUNG)
        case "suspend":
            name = _one(world, model, draw)
            if world.workers.judge(name, Verdict.SUSPENDED):
                world.agenda.after(draw.random() * 20, lambda: world.workers.judge(name, Verdict.HEALTHY))
        case "load" | "unload":
            _command(world, op, draw)
        case "kill_proxy":
            world.kill_proxy(index)
        case "garbage":
            name = _one(world, model, draw)
            worker = world.workers.of.get(name)
            if worker is not None and proxy is not None:
                proxy.link_ended(name, worker.generation, broken=draw.random() < 0.7)
        case "keep_alive":
            if proxy is not None and model in world.fleet.stock.models:
                proxy.report(KeepAlive(model, world.fleet.model(model).generation, draw.choice([-1.0, 0.0, 3.0])))
        case "reconfigure":
            world.reconfigure(*draw.choice([(1, 0), (2, 0), (3, 100), (0, 50)]))
        case "catalog":
            _another_catalog(world, model, draw)
        case "pause":
            world.agenda.jump(draw.choice([1.0, 30.0, 4000.0]))
        case "shut_down":
            if not world.fleet.stock.closing:
                world.shut_down()


def _one(world: World, model: str, draw: random.Random) -> str:
    """One of the model's replicas that have a process, or its first."""
    return draw.choice([name for name in world.workers.of if replicas.base(name) == model] or [model])


def _command(world: World, op: Op, draw: random.Random) -> None:
    proxy = world.proxies.running.get(0)
    if proxy is None or op.model not in world.fleet.stock.models:
        return
    if op.kind == "load":
        world.rules.cleared(op.model)
    else:
        world.rules.forgiven(op.model)
    command = ModelCommand(1, op.kind, op.model, draw.random() < 0.7)
    world.turn(lambda: world.fleet.from_proxy(proxy, command))  # type: ignore[arg-type]


def _another_catalog(world: World, name: str, draw: random.Random) -> None:
    entries = dict(world.entries)
    if name not in entries:
        entries[name] = Entry(world.models[name], estimated={"ram": NEEDS[name]})
    elif draw.random() < 0.3:
        entry = entries[name]
        entries[name] = replace(entry, model=replace(entry.model, replicas=draw.choice([1, 2, 3])))
    elif draw.random() < 0.5:
        entry = entries[name]
        entries[name] = replace(entry, model=replace(entry.model, n_ctx=draw.choice([512, 1024, 2048])))
    else:
        del entries[name]
    world.adopt({key: entries[key] for key in NAMES if key in entries})


def shorter(schedule: Schedule, rule: str, fails: Callable[[Schedule], str | None]) -> Schedule:
    """Without every op that the violation of `rule` does not need."""
    at = 0
    while at < len(schedule.ops):
        candidate = dataclasses.replace(schedule, ops=schedule.ops[:at] + schedule.ops[at + 1 :])
        if fails(candidate) == rule:
            schedule = candidate
        else:
            at += 1
    return schedule
