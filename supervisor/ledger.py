"""The counters of all children as one: a child that ends leaves what it counted, so counters only grow. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from supervisor.figures import FIGURES, Histogram, Kind, Series

Key = tuple[str, tuple[str, ...]]
_Values = tuple[float, ...]


class Ledger:
    """Bounded by the figures that exist and their labels, which children take from the configuration and the API."""

    def __init__(self) -> None:
        self._past: dict[Key, _Values] = {}
        self._live: dict[Hashable, dict[Key, _Values]] = {}
        self._spread: dict[Key, Histogram] = {}

    # -- the root's own ------------------------------------------------------------------------------------------

    def count(self, name: str, *labels: str) -> None:
        """One more."""
        _merge(self._past, {(name, labels): (1.0,)})

    def observe(self, name: str, value: float, *labels: str) -> None:
        """One value of a histogram."""
        self._spread.setdefault((name, labels), Histogram(name)).observe(value)

    # -- the children's ------------------------------------------------------------------------------------------

    def report(self, child: Hashable, series: Iterable[Series], prefix: tuple[str, ...] = ()) -> None:
        """What a child has counted since it began, in place of its last word; `prefix` goes before its labels."""
        self._live[child] = {
            (each.name, prefix + each.labels): each.values for each in series if _sound(each, len(prefix))
        }

    def ended(self, child: Hashable) -> None:
        """Its counters stay, its gauges go."""
        last = self._live.pop(child, {})
        _merge(self._past, {key: values for key, values in last.items() if _kind(key) not in (Kind.GAUGE, Kind.RATE)})

    def total(self) -> list[Series]:
        """Everything counted so far, by all."""
        found = dict(self._past)
        for live in self._live.values():
            _merge(found, live)
        _merge(found, {key: spread.values for key, spread in self._spread.items()})
        return [Series(name, labels, values) for (name, labels), values in found.items()]


def _kind(key: Key) -> Kind:
    return FIGURES[key[0]].kind


def _sound(series: Series, prefix: int) -> bool:
    """Whether the series has the shape of a figure that we know: a worker is trusted no further."""
    figure = FIGURES.get(series.name)
    if figure is None:
        return False
    return len(series.values) == figure.width and prefix + len(series.labels) == len(figure.labels)


def _merge(into: dict[Key, _Values], more: dict[Key, _Values]) -> None:
    for key, values in more.items():
        known = into.get(key)
        if known is None:
            into[key] = values
        else:
            add = max if _kind(key) in (Kind.PEAK, Kind.RATE) else float.__add__
            into[key] = tuple(add(float(a), float(b)) for a, b in zip(known, values, strict=True))
