"""False worker processes: they load, refuse, hang, die and end as chance has it; rules watch over their use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from supervisor import config
from supervisor.control import Facts, LoadFailed, State
from supervisor.fleet import Fleet
from supervisor.liveness import Verdict
from supervisor.nursery import Ended
from supervisor.process import StartFailed
from tests.faults.sim.agenda import Agenda, Violation

_WORKING = (State.LOADING, State.READY, State.DRAINING)
_SURE = 14.0  # seconds: all rungs of the polite ladder


@dataclass(slots=True, eq=False)
class Process:
    """One process. `facts` of its life for the rules; `child` and `vitals` are what the fleet shows of a ward."""

    model: str
    settings: config.Model
    generation: int
    child: Any
    vitals: Any
    alive: bool = True
    stopping: bool = False
    gone: list[Callable[[], None]] = field(default_factory=list)


class _Shown:
    """Stands for a ward's child and its vitals, of which only these are asked."""

    pid, progress, active, queued = 1, 0.0, 0, 0

    def __init__(self) -> None:
        self.last = self

    def log_tail(self) -> tuple[str, ...]:
        return ()


class Rules(Protocol):
    """Who watches while processes start and stop."""

    def starts(self, model: config.Model, alive: dict[str, Process]) -> None: ...

    def stops(self, model: str, how: str) -> None: ...

    def died(self, model: str) -> None: ...

    def forgiven(self, model: str, soon: float = 0.0) -> None: ...


class Odds:
    """How often what goes wrong; all 0 in the calm at the end."""

    def __init__(self, bad: float) -> None:
        self.start_fails = self.refuses = self.hangs = self.dies_loading = self.stubborn = self.unkillable = bad


class Workers:
    """In the place of supervisor.workers.Workers, as Fleet uses it."""

    def __init__(self, agenda: Agenda, odds: Odds, rules: Rules) -> None:
        self.of: dict[str, Process] = {}
        self.fleet: Fleet
        self.linked: Callable[[str, int], None] = lambda model, proxy: None
        self._agenda, self.odds, self._rules = agenda, odds, rules
        self.turn: Callable[[Callable[[], object]], None]  # performs something in a turn of the root's loop

    # -- what the fleet calls ----------------------------------------------------------------------------------

    def load(self, model: config.Model, generation: int, template: str = "") -> None:
        name, draw = model.name, self._agenda.draw
        if name in self.of:
            raise Violation("one process per model", f"{name} is started while another of it lives")
        self._rules.starts(model, self.of)
        if draw.random() < self.odds.start_fails:
            self._rules.died(name)
            raise StartFailed(f"cannot start {name}: no descriptors")
        process = self.of[name] = Process(name, model, generation, _Shown(), _Shown())
        self._agenda.note("{} starts, generation {}", name, generation)
        self._load_ends(process)

    def join(self, model: str, proxy: int, fd: int) -> None:
        assert self.of[model].alive
        self.linked(model, proxy)

    def stop(self, model: str, how: str) -> None:
        process = self.of.get(model)
        if process is None or (process.stopping and how != "hung"):
            return
        self._rules.stops(model, how)
        process.stopping = True
        self._agenda.note("{} is stopped: {}", model, how)
        draw = self._agenda.draw
        if draw.random() < self.odds.unkillable:
            self._agenda.after(_SURE + 10, lambda: self._unkillable(process))
        elif how == "hung":
            self._end_after(1.0 + draw.random() * 0.1, process, -9)
        elif how == "cancel":
            self._end_after(draw.random() * 0.3, process, draw.choice([0, -9]))
        else:
            stubborn = draw.random() < self.odds.stubborn
            self._end_after(_SURE if stubborn else draw.random(), process, -9 if stubborn else 0)

    def neighbours(self, count: int) -> None:
        pass

    def scale(self, model: str, scales: tuple[float, ...]) -> None:
        pass

    def keep_standby(self) -> None:
        pass

    def warm(self, model: config.Model) -> None:
        pass

    # -- what befalls them -------------------------------------------------------------------------------------

    def kill(self, model: str, code: int) -> bool:
        """It dies by itself. Whether there was one."""
        process = self.of.get(model)
        if process is None or not process.alive:
            return False
        self._end(process, code)
        return True

    def pong(self, model: str, in_flight: int) -> None:
        """What it says of itself each second; it has one sequence."""
        if (process := self.of.get(model)) is not None and process.alive:
            process.vitals.active, process.vitals.queued = min(1, in_flight), max(0, in_flight - 1)
            self.turn(lambda: self.fleet.worker_progressed(model))

    def judge(self, model: str, verdict: Verdict) -> bool:
        process = self.of.get(model)
        if process is None or process.stopping:
            return False
        self._agenda.note("{} is judged {}", model, verdict.name)
        self.turn(lambda: self.fleet.worker_judged(model, verdict, "by chance"))
        return True

    def _load_ends(self, process: Process) -> None:
        """One of the ways in which a load can end."""
        draw, odds, wait = self._agenda.draw, self.odds, 0.05 + self._agenda.draw.random() * 3
        kind = draw.random()
        if (kind := kind - odds.refuses) < 0:
            self._agenda.after(wait, lambda: self._refuse(process, draw.random() < 0.5))
        elif (kind := kind - odds.hangs) < 0:
            self._agenda.after(120.0, lambda: self._still(process) and self.judge(process.model, Verdict.HUNG))
        elif (kind := kind - odds.dies_loading) < 0:
            self._end_after(wait, process, draw.choice([1, -6, -9, -11, 78]))
        else:
            self._agenda.after(wait, lambda: self._ready(process))

    def _still(self, process: Process) -> bool:
        return process.alive and not process.stopping

    def _ready(self, process: Process) -> None:
        if process.alive:  # also when it is being stopped: the word may cross the order
            self._agenda.note("{} is ready", process.model)
            self.turn(lambda: self.fleet.worker_ready(process.model, Facts()))

    def _refuse(self, process: Process, permanent: bool) -> None:
        if process.alive:
            self._agenda.note("{} refuses, permanent: {}", process.model, permanent)
            cause = "load_error" if permanent else self._agenda.draw.choice(["load_error", "out_of_memory"])
            if cause == "out_of_memory":
                self._rules.forgiven(process.model, 0.02)  # one more try is made as soon as there is room
            refusal = LoadFailed(cause, "no", permanent)
            self.turn(lambda: self.fleet.worker_refused(process.model, refusal))
            self._end_after(0.01, process, 78 if permanent else 1)

    def _unkillable(self, process: Process) -> None:
        if process.alive:
            self._agenda.note("{} cannot be killed", process.model)
            self.turn(lambda: self.fleet.worker_unkillable(process.model))
            self._end_after(self._agenda.draw.random() * 100, process, -9)

    def _end_after(self, seconds: float, process: Process, code: int) -> None:
        self._agenda.after(seconds, lambda: self._end(process, code))

    def _end(self, process: Process, code: int) -> None:
        if not process.alive:
            return
        process.alive = False
        model = process.model
        del self.of[model]
        life = self.fleet.model(model)
        spared = life.refused and life.cause == "out_of_memory" and not life.retried  # tried once more, at once
        if (life.state in _WORKING and not spared) or (life.state is State.STOPPING and life.doomed):
            self._rules.died(model)
        self._agenda.note("{} ended with {}", model, code)
        for told in process.gone:
            told()
        self.turn(lambda: self.fleet.worker_ended(model, Ended(code, (), "")))
