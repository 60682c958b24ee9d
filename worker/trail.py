"""Lines in the log about each request, by the id that its client knows; never what is said in it.

They are in the worker's ring, and on stderr at level debug: the proxy's access log has a line of every request anyway.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from supervisor.log import facts
from worker.protocol import Accepted, Embed, Event, Failed, Finished, Generate, Request, Rerank, SlotAction, SlotDone

_log = logging.getLogger(__name__)
_QUIET = {"ring_only": True}


class Trail:
    """Bounded by the live requests. Any thread may call it: each of its steps on the table is one of the dict's."""

    def __init__(self) -> None:
        self._names: dict[tuple[int, int], str] = {}  # link, id → request_id

    def begin(self, link: int, request: Request) -> None:
        if isinstance(request, Generate | Embed | Rerank | SlotAction) and request.request_id:
            self._names[link, request.id] = request.request_id

    def said(self, link: int, events: Sequence[Event]) -> None:
        """These events are on their way to the client."""
        for event in events:
            if isinstance(event, Accepted | Finished | SlotDone | Failed):
                self._tell(link, event)

    def dropped(self, link: int, id: int) -> None:
        """Its proxy has cancelled it, or is gone."""
        if (name := self._names.pop((link, id), None)) is not None:
            _log.info("cancelled %s", facts(request=name), extra=_QUIET)

    def name(self, link: int, id: int) -> str:
        """The request's id as its client knows it; "" if that is not known."""
        return self._names.get((link, id), "")

    def _tell(self, link: int, event: Accepted | Finished | SlotDone | Failed) -> None:
        keep = isinstance(event, Accepted)
        name = self._names.get((link, event.id)) if keep else self._names.pop((link, event.id), None)
        if name is None:
            return
        match event:
            case Accepted():
                _log.info("accepted %s", facts(request=name, prompt_tokens=event.prompt_tokens), extra=_QUIET)
            case Finished(reason=reason, timings=timings):
                counts = facts(request=name, reason=reason, cached=timings.cache_n, generated=timings.predicted_n)
                _log.info("finished %s", counts, extra=_QUIET)
            case SlotDone(tokens=tokens, size=size):
                _log.info("slot done %s", facts(request=name, tokens=tokens, bytes=size), extra=_QUIET)
            case Failed(code=code):
                _log.info("failed %s", facts(request=name, code=code), extra=_QUIET)
