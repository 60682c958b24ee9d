"""What a worker's log says of requests: by the client's id, each once, and nothing of what is said in them."""

from __future__ import annotations

import logging

import pytest

from worker.protocol import Accepted, Chat, Count, Delta, Failed, Finished, Generate, Text, Timings
from worker.trail import Trail


def ask(id: int, name: str) -> Generate:
    return Generate(id, name, Text(("secret",)))


def test_a_request_leaves_its_steps_under_its_own_id(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    trail = Trail()
    trail.begin(1, ask(7, "r1"))
    trail.begin(2, ask(7, "r2"))
    trail.said(1, [Accepted(7, 5), Delta(7, "secret"), Finished(7, "eos", "", Timings(2, 3, 1.0, 4, 1.0))])
    trail.said(1, [Failed(7, "internal_error", "late")])  # it is over
    trail.said(2, [Failed(7, "queue_full", "secret")])
    trail.begin(2, ask(8, "r3"))
    assert trail.name(2, 8) == "r3"
    trail.dropped(2, 8)
    trail.dropped(2, 8)
    trail.begin(2, Count(9, Chat([])))  # it has no id of a client's
    trail.said(2, [Finished(9, "eos", "", Timings())])
    assert caplog.messages == [
        "accepted request=r1 prompt_tokens=5",
        "finished request=r1 reason=eos cached=2 generated=4",
        "failed request=r2 code=queue_full",
        "cancelled request=r3",
    ]
    assert all(getattr(record, "ring_only", False) for record in caplog.records)
