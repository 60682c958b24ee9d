"""How long a child outlives its root's silence, where no service manager watches the root. RELIABILITY.md, 5."""

from __future__ import annotations

from dataclasses import dataclass

LATE = 2.0  # seconds: a look that comes so late itself proves that the machine slept, not the root


@dataclass(slots=True)
class Lease:
    """Look at it when it is `due`, or at least every LATE seconds. Times are monotonic.

    `heard` is when the root last said something; `seconds`, told by each ping, is how long it may then be silent,
    0 for ever.
    """

    heard: float
    seconds: float = 0.0

    @property
    def due(self) -> float:
        return self.heard + self.seconds if self.seconds else float("inf")

    def over(self, now: float) -> bool:
        """Whether the root has been silent for too long. A look that comes late renews it: nothing could be heard."""
        if now - self.due > LATE:
            self.heard = now
        return now >= self.due
