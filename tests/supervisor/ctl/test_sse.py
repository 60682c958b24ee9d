"""Records out of lines."""

from __future__ import annotations

from supervisor.ctl.sse import Event, events

STREAM = b"""\
: ping

id: boot.7
data: {"model":"a","event":"model_status","data":{"status":"loading"}}

data: not JSON

data: [1]

data: {"model":"*","event":"models_reload"}\r
\r
data: {"model":"a",
data: "event":"x","data":{"n":1}}

data: {"model":"a","event":"cut off"}
"""


def test_records_are_events_and_the_rest_is_left_out() -> None:
    assert list(events(STREAM.splitlines(keepends=True))) == [
        Event("boot.7", "a", "model_status", {"status": "loading"}),
        Event("", "*", "models_reload", {}),
        Event("", "a", "x", {"n": 1}),
    ]
