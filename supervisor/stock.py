"""All that the parts of the fleet know of the models, in one place: what there is, how it is, who wants and uses it."""

from __future__ import annotations

from collections.abc import Callable

from supervisor import budget, catalog, config, machine, pace, replicas
from supervisor.control import Entry, State
from supervisor.fetching import Fetcher, Nobody
from supervisor.idle import Idle
from supervisor.lifecycle import Model
from supervisor.overrides import Overrides
from supervisor.scales import Scales
from supervisor.timers import Timers
from supervisor.traffic import Traffic
from supervisor.wants import Want, Wants

RUNNING = (State.LOADING, State.READY, State.DRAINING)
AT_REST = (State.UNLOADED, State.BACKOFF, State.FAILED)


class Stock:
    """Membership writes `entries` and `leaving`, Machines the states in `models`, Placer `blocked`.

    All of them are about replicas; of most models there is one, which has the model's name. See supervisor.replicas.
    `dirty`: something has changed that placement should look at. `closing`: the server ends, and nothing is loaded.
    """

    def __init__(self, settings: config.Config, timers: Timers, clock: Callable[[], float]) -> None:
        self.config, self.timers, self.clock = settings, timers, clock
        self.entries = replicas.expanded(catalog.entries(settings, catalog.Findings())[0])
        self.leaving: dict[str, Entry] = {}  # in the catalog no more, but not gone yet
        self.models = {name: Model(name, since=clock()) for name in self.entries}
        self.gpus = tuple[int, ...]()
        self.wants, self.traffic, self.overrides, self.scales = Wants(), Traffic(), Overrides(), Scales()
        self.idle = Idle(lambda name: self.entry(name).model, settings.admission.keep_alive_max)
        self.suspended: set[str] = set()
        self.crowded: set[str] = set()  # requests wait in them for a sequence
        self.waited: set[str] = set()  # requests waited in them when they were last heard of: they may have just come
        self.stale: set[str] = set()  # drain, but have other settings by now than they were loaded with
        self.blocked: dict[str, tuple[str, ...]] = {}
        self.store: Fetcher = Nobody()
        self.dirty = True
        self.closing = False
        self._pace = 0.0
        self._ram = machine.ram()

    def mark(self) -> None:
        self.dirty = True

    def entry(self, name: str) -> Entry:
        return self.entries.get(name) or self.leaving[name]

    def as_loaded(self, name: str) -> Entry:
        """With the settings that were asked for."""
        return self.overrides.entry(self.entry(name), len(self.gpus))

    def lora(self, name: str) -> tuple[float, ...]:
        """The scales of its adapters, as set by an operator, or configured."""
        return self.scales.of(self.entry(name).model, replicas.base(name))

    def load_ms(self, name: str) -> float:
        """What a load of this model should take, as far as the last ones tell; 0 = not known."""
        return pace.expected(self.entry(name), self._pace)

    def learn(self) -> None:
        """The entries are other ones."""
        self._pace = pace.pace(self.entries.values())

    def replicas(self, model: str) -> list[Model]:
        """All of a model's, in their order."""
        found = [each for name, each in self.models.items() if replicas.base(name) == model]
        return sorted(found, key=lambda each: replicas.number(each.name))

    def want(self, name: str) -> Want:
        """The want of this model, a new one if there is none; placement looks again when it has waited for long."""
        now = self.clock()
        if name not in self.wants:
            self.timers.set(("want", name), now + self.config.admission.max_wait, self.mark)
        self.dirty = True
        want = self.wants.add(name, now)
        if entry := self.entries.get(name):
            self.store.wanted(entry)
        return want

    @property
    def budgets(self) -> dict[str, int]:
        return budget.budgets(self.config.placement, self._ram, self.gpus)
