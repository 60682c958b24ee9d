"""Requests from the links → events or jobs: renders, tokenizes, answers, or hands over to the engine. ENGINE.md, 9, 12.

Runs in the I/O thread; what carries more text than a blink's worth goes to one helper thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from supervisor.log import facts
from worker.failure import RequestError
from worker.links import Link
from worker.places import Places
from worker.protocol import (
    Accepted,
    Cancel,
    Count,
    Counted,
    Detokenize,
    Embed,
    EndReasoning,
    Event,
    Failed,
    Generate,
    Hello,
    Look,
    Render,
    Rendered,
    Request,
    Rerank,
    Seen,
    Tokenize,
)
from worker.seams import Conclude, Drop, Inbox, Job, Passages, TextSide
from worker.trail import Trail

_log = logging.getLogger(__name__)
_LARGE = 2**20  # characters; tokenizing them takes about 0.3 s
Work = Generate | Tokenize | Detokenize | Render | Embed | Rerank | Count
MAX_JOBS = 4096  # the proxies admit far fewer; more than that is refused with queue_full


class Desk:
    """Serves requests of all links. `answer(link, events)` must be safe in the helper thread too."""

    def __init__(
        self,
        text: TextSide,
        inbox: Inbox,
        places: Places,
        answer: Callable[[Link, list[Event]], None],
        trail: Trail | None = None,
    ) -> None:
        self._text, self._inbox, self._places, self._answer = text, inbox, places, answer
        self._trail = trail or Trail()
        self._helper = ThreadPoolExecutor(1, "tokenizer")  # its queue is bounded by the live requests
        self.leaving = False

    def serve(self, link: Link, request: Request) -> None:
        """Takes one request. Raises ProtocolError if its id is in use."""
        if isinstance(request, Hello):
            return
        if isinstance(request, Cancel):
            self._trail.dropped(link.number, request.id)
            if link.forget(request.id):
                self._inbox.put(Drop((link.number, request.id)))
            return
        if isinstance(request, EndReasoning):
            # through the helper, which may still be at the request that it is meant for
            self._helper.submit(self._inbox.put, Conclude((link.number, request.id)))
            return
        self._trail.begin(link.number, request)
        for id in _ids(request):
            link.open(id, getattr(request, "request_id", ""))
        if isinstance(request, Look):
            self._answer(link, [Seen(request.id, self._places.show())])
            return
        if _weight(request, _LARGE) >= _LARGE:
            self._helper.submit(self._perform, link, request)
        else:
            self._perform(link, request)

    def hang_up(self, link: Link) -> None:
        """The link is gone: its requests are cancelled."""
        for id in list(link.live):
            link.forget(id)
            self._trail.dropped(link.number, id)
            self._inbox.put(Drop((link.number, id)))

    def close(self) -> None:
        self._helper.shutdown(wait=False, cancel_futures=True)

    def _perform(self, link: Link, request: Work) -> None:
        try:
            self._do(link, request)
        except RequestError as error:
            self._answer(link, [Failed(id, error.code, str(error), error.fields) for id in _ids(request)])
        except Exception:
            name = self._trail.name(link.number, request.id)
            _log.exception("request failed %s", facts(request=name, kind=type(request).__name__))
            text = "the worker could not read this request"
            self._answer(link, [Failed(id, "internal_error", text) for id in _ids(request)])

    def _do(self, link: Link, request: Work) -> None:
        match request:
            case Generate():
                self._generate(link, request)
            case Tokenize():
                self._answer(link, [self._text.tokenize(request)])
            case Detokenize():
                self._answer(link, [Rendered(request.id, self._text.detokenize(request.tokens))])
            case Render():
                self._answer(link, [Rendered(request.id, self._text.render(request.chat))])
            case Count():
                self._answer(link, [Counted(request.id, len(self._text.tokens(request.chat)))])
            case Embed() | Rerank():
                self._embed(link, request)

    def _admit(self) -> None:
        if self.leaving:
            raise RequestError("model_unloaded", "the model is being unloaded")
        if self._inbox.qsize() >= MAX_JOBS:
            raise RequestError("queue_full", "the worker's queue is full", queued=MAX_JOBS, limit=MAX_JOBS)

    def _embed(self, link: Link, request: Embed | Rerank) -> None:
        self._admit()
        inputs = self._text.inputs(request)
        self._answer(link, [Accepted(request.id, sum(map(len, inputs)))])
        if request.id in link.live:
            self._inbox.put(Passages((link.number, request.id), request, inputs))

    def _generate(self, link: Link, request: Generate) -> None:
        self._admit()
        self._text.check(request)
        prompt = self._text.prompt(request.prompt)
        shown = self._text.detokenize(prompt) if request.details else ""
        self._answer(link, [Accepted(request.id, len(prompt), shown), *(Accepted(id, 0) for id in request.siblings)])
        found = [self._text.machine(request, prompt) for _ in _ids(request)]
        machines = tuple(machine for machine in found if machine is not None)
        guides = tuple(self._text.guides(request, prompt, found))
        job: Job | None = Job((link.number, request.id), request, prompt, machines, guides)
        for id in _ids(request):  # a cancel may have come while the helper thread was at it
            if job and id not in link.live:
                job = job.without((link.number, id))
        if job:
            self._inbox.put(job)


def _ids(request: Work | Look) -> tuple[int, ...]:
    """The ids under which a request is answered."""
    return (request.id, *request.siblings) if isinstance(request, Generate) else (request.id,)


def _weight(value: Any, enough: int) -> int:
    """Characters of text in a request, counted until there are `enough`."""
    if isinstance(value, str):
        return len(value)
    total = 0
    match value:
        case dict():
            parts: Any = value.values()
        case list() | tuple():
            if value and isinstance(value[0], int):
                return len(value)
            parts = value
        case Generate():
            parts = (value.prompt,)
        case _:
            names = getattr(value, "__struct_fields__", ())
            parts = [getattr(value, name) for name in names]
    for part in parts:
        total += _weight(part, enough)
        if total >= enough:
            break
    return total
