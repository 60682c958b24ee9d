"""The figures of all processes as a page for Prometheus, text format 0.0.4. API.md, 3."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from supervisor.figures import FIGURES, Figure, Kind, Series

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_DECODES, _BUSY = "llamacpp:n_decode_total", "llama_supervisor_busy_sequences_total"
_PER_DECODE = "llamacpp:n_busy_slots_per_decode"


def page(series: Iterable[Series], sees: Callable[[str], bool], key: str | None = None) -> bytes:
    """The page. `sees`: whether it may speak of this model; "" is none in particular. `key`: the only one it may."""
    registry = CollectorRegistry(auto_describe=False)
    told = (each for each in series if sees(_label(each, "model")))
    registry.register(Figures([each for each in told if key is None or _label(each, "key", key) == key]))
    return generate_latest(registry)


class Figures(Collector):
    """Hands over figures that others have counted."""

    def __init__(self, series: Iterable[Series]) -> None:
        self._series: defaultdict[str, list[Series]] = defaultdict(list)
        for each in series:
            self._series[each.name].append(each)

    def collect(self) -> Iterator[Metric]:
        for name, figure in FIGURES.items():
            if found := self._series.get(name):
                yield _family(name, figure, found)
        yield self._per_decode()

    def _per_decode(self) -> Metric:
        """The mean over all batches, as llama-server has it."""
        decodes = {each.labels: each.values[0] for each in self._series[_DECODES]}
        family = GaugeMetricFamily(_PER_DECODE, "Mean number of sequences in a batch", labels=("model",))
        for each in self._series[_BUSY]:
            family.add_metric(each.labels, each.values[0] / max(decodes.get(each.labels, 0.0), 1.0))
        return family


def _family(name: str, figure: Figure, series: Iterable[Series]) -> Metric:
    if figure.kind is Kind.HISTOGRAM:
        spread = HistogramMetricFamily(name, figure.help, labels=figure.labels)
        for each in series:
            spread.add_metric(each.labels, _buckets(figure, each), sum_value=each.values[-1])
        return spread
    plain = CounterMetricFamily if figure.kind is Kind.COUNTER else GaugeMetricFamily
    family = plain(name, figure.help, labels=figure.labels)
    for each in series:
        family.add_metric(each.labels, each.values[0])
    return family


def _buckets(figure: Figure, series: Series) -> list[tuple[str, float]]:
    """Prometheus counts in a bucket what is in the smaller ones, too."""
    ends = [*(str(bound) for bound in figure.bounds), "+Inf"]
    return list(zip(ends, itertools.accumulate(series.values[:-1]), strict=True))


def _label(series: Series, name: str, default: str = "") -> str:
    """The value of a label, or the default where the figure has no such label."""
    names = FIGURES[series.name].labels
    return series.labels[names.index(name)] if name in names else default
