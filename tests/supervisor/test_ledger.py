"""What children have counted, added up: pure."""

from __future__ import annotations

import pytest

from supervisor.figures import FIGURES, Histogram, Kind, Series
from supervisor.ledger import Ledger

TOKENS, PEAK, ACTIVE = "llamacpp:tokens_predicted_total", "llamacpp:n_tokens_max", "llamacpp:requests_processing"
REQUESTS, WAIT = "llama_supervisor_requests_total", "llama_supervisor_queue_wait_seconds"


def series(name: str, *values: float, labels: tuple[str, ...] = ()) -> Series:
    return Series(name, labels, values)


def value(ledger: Ledger, name: str, *labels: str) -> tuple[float, ...] | None:
    found = {(each.name, each.labels): each.values for each in ledger.total()}
    return found.get((name, labels))


def test_a_report_takes_the_place_of_the_last_one() -> None:
    ledger = Ledger()
    for count in (3, 5):
        ledger.report("w", [series(TOKENS, count)], ("m",))
    assert value(ledger, TOKENS, "m") == (5,)


def test_counters_outlive_their_process_and_gauges_do_not() -> None:
    ledger = Ledger()
    ledger.report("w1", [series(TOKENS, 3), series(PEAK, 70), series(ACTIVE, 2)], ("m",))
    ledger.ended("w1")
    assert (value(ledger, TOKENS, "m"), value(ledger, ACTIVE, "m")) == ((3,), None)
    ledger.report("w2", [series(TOKENS, 4), series(PEAK, 50), series(ACTIVE, 1)], ("m",))
    assert [value(ledger, name, "m") for name in (TOKENS, PEAK, ACTIVE)] == [(7,), (70,), (1,)]
    ledger.ended("w2")
    ledger.ended("w2")
    assert value(ledger, TOKENS, "m") == (7,)


def test_processes_add_up_by_their_labels() -> None:
    ledger = Ledger()
    ok, lost = series(REQUESTS, 2, labels=("m", "/x", "200", "k")), series(REQUESTS, 1, labels=("", "/", "404", ""))
    for child in ("p1", "p2"):
        ledger.report(child, [ok, lost])
    assert value(ledger, REQUESTS, "m", "/x", "200", "k") == (4,)
    assert value(ledger, REQUESTS, "", "/", "404", "") == (2,)


def test_histograms_add_up_bucket_by_bucket() -> None:
    one, two, ledger = Histogram(WAIT), Histogram(WAIT), Ledger()
    one.observe(0.005)
    one.observe(1e9)
    two.observe(0.006, 3)
    for child, spread in (("p1", one), ("p2", two)):
        ledger.report(child, [series(WAIT, *spread.values, labels=("m",))])
    ledger.observe("llama_supervisor_load_seconds", 0.2, "m")
    found = value(ledger, WAIT, "m")
    assert found is not None
    assert (found[0], found[1], found[-2], found[-1]) == (1, 3, 1, pytest.approx(1e9 + 0.023))
    load = value(ledger, "llama_supervisor_load_seconds", "m")
    assert load is not None
    assert sum(load[:-1]) == 1


def test_the_roots_own_counts() -> None:
    ledger = Ledger()
    for _ in range(2):
        ledger.count("llama_supervisor_loads_total", "m", "ok")
    assert value(ledger, "llama_supervisor_loads_total", "m", "ok") == (2,)


@pytest.mark.parametrize(
    "wrong",
    [
        series("no_such_figure", 1),
        series(TOKENS, 1, 2),
        series(TOKENS),
        series(TOKENS, 1, labels=("other model",)),
        series("llama_supervisor_inter_token_seconds", 1),
    ],
)
def test_what_has_no_known_shape_is_left_out(wrong: Series) -> None:
    ledger = Ledger()
    ledger.report("w", [wrong, series(PEAK, 1)], ("m",))
    assert [each.name for each in ledger.total()] == [PEAK]


def test_every_figure_is_named_as_prometheus_wants_it() -> None:
    for name, figure in FIGURES.items():
        assert name.startswith(("llamacpp:", "llama_supervisor_"))
        assert name.endswith("_total") is (figure.kind is Kind.COUNTER), name
        assert bool(figure.bounds) is (figure.kind is Kind.HISTOGRAM)
        assert list(figure.bounds) == sorted(figure.bounds)
