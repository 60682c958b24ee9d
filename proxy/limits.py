"""What each API key may use: requests and tokens a minute, requests at once; and what it has used. API.md, 1.3 and 15.

Each proxy keeps every key's account. What one proxy's clients use is told to the others through the root, so that a
key's limits are those of the whole server; what was used within the last milliseconds is all that may come too much.
A proxy that starts begins with full buckets.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.errors import ApiError
from supervisor.config import Key
from supervisor.control import KeyUse
from worker.protocol import Accepted, CallDelta, CallStart, Delta, Event, Finished, Reasoning

Clock = Callable[[], float]
_TEXT = (Delta, Reasoning, CallStart, CallDelta)


@dataclass
class Bucket:
    """`most` a minute, no more than that at once; refilled evenly. It may be overdrawn: tokens are paid afterwards."""

    most: int
    at: float
    level: float = 0.0

    def __post_init__(self) -> None:
        self.level = float(self.most)

    def wait(self, least: float, now: float) -> float:
        """Seconds until there is `least` in it; 0: there is."""
        self._refill(now)
        return max(0.0, (least - self.level) * 60 / self.most)

    def take(self, amount: float, now: float) -> None:
        self._refill(now)
        self.level -= amount

    def _refill(self, now: float) -> None:
        self.level = min(self.most, self.level + (now - self.at) * self.most / 60)
        self.at = now


@dataclass
class Account:
    """One key's. `elsewhere`: requests in flight on the other proxies."""

    key: Key
    requests: Bucket | None
    tokens: Bucket | None
    running: int = 0
    elsewhere: dict[int, int] = field(default_factory=dict)
    total_requests: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def check(self, now: float) -> None:
        """Raises ApiError if the key has used up what it may."""
        key, busy = self.key, self.running + sum(self.elsewhere.values())
        if key.concurrency and busy >= key.concurrency:
            self._refuse("concurrency", key.concurrency, 1.0)
        if self.requests is not None and (wait := self.requests.wait(1, now)):
            self._refuse("requests_per_minute", key.requests_per_minute, wait)
        if self.tokens is not None and (wait := self.tokens.wait(1, now)):
            self._refuse("tokens_per_minute", key.tokens_per_minute, wait)

    def use(self, requests: int, prompt: int, completion: int, now: float) -> None:
        self.total_requests += requests
        self.prompt_tokens += prompt
        self.completion_tokens += completion
        if self.requests is not None:
            self.requests.take(requests, now)
        if self.tokens is not None:
            self.tokens.take(prompt + completion, now)

    def object(self) -> dict[str, Any]:
        """As GET /admin/keys shows it."""
        return {
            "name": self.key.name,
            "in_flight": self.running + sum(self.elsewhere.values()),
            "requests": self.total_requests,
            "refused": self.refused,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
        }

    def _refuse(self, what: str, limit: int, wait: float) -> None:
        self.refused += 1
        text = f"the key {self.key.name} has reached its {what} ({limit})"
        raise ApiError("key_rate_limited", text, retry_after=wait, limit=limit, limited=what)


class Permit:
    """One request's, from its admission to its end; counts what it uses."""

    def __init__(self, account: Account, use: Callable[[Account, int, int, int], None]) -> None:
        self._account, self._use = account, use
        self._prompt = self._decoded = 0
        self._open = True

    def note(self, events: Sequence[Event]) -> None:
        """Takes a batch of the request's events. The figures of one that ends early are those of its deltas."""
        for event in events:
            if isinstance(event, _TEXT):
                self._decoded += event.tokens
            elif isinstance(event, Accepted):
                self._prompt += event.prompt_tokens
            elif isinstance(event, Finished):
                self._pay(self._prompt, event.timings.predicted_n)

    def anew(self) -> None:
        """It is sent to another worker; what the one before has said of it was not used."""
        self._prompt = self._decoded = 0

    def close(self) -> None:
        """The request has ended, in whatever way."""
        if self._open:
            self._open = False
            self._account.running -= 1
            self._pay(self._prompt, self._decoded)

    def _pay(self, prompt: int, completion: int) -> None:
        self._prompt = self._decoded = 0
        self._use(self._account, 0, prompt, completion)


class Limits:
    """The accounts of all keys. `tell` sends to the root, None where there is only one proxy."""

    def __init__(
        self,
        keys: Iterable[Key],
        proxy: int = 0,
        tell: Callable[[KeyUse], None] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._proxy, self._tell, self._clock = proxy, tell, clock
        now = clock()
        self.accounts = {
            key.name: Account(key, _bucket(key.requests_per_minute, now), _bucket(key.tokens_per_minute, now))
            for key in keys
        }

    def reconfigure(self, keys: Iterable[Key]) -> None:
        """Other keys, or other limits of theirs; what each has used still counts. A limit that changed starts full."""
        now, before, self.accounts = self._clock(), self.accounts, {}
        for key in keys:
            account = before.get(key.name) or Account(key, None, None)
            if account.requests is None or account.requests.most != key.requests_per_minute:
                account.requests = _bucket(key.requests_per_minute, now)
            if account.tokens is None or account.tokens.most != key.tokens_per_minute:
                account.tokens = _bucket(key.tokens_per_minute, now)
            account.key = key
            self.accounts[key.name] = account

    def admit(self, key: Key) -> Permit:
        """A permit for one request; its holder closes it. Raises ApiError key_rate_limited, invalid_api_key."""
        account = self.accounts.get(key.name)
        if account is None:
            raise ApiError("invalid_api_key", "this API key is valid no more")
        account.check(self._clock())
        account.running += 1
        self._use(account, 1, 0, 0)
        return Permit(account, self._use)

    def heard(self, use: KeyUse) -> None:
        """What another proxy's clients have used."""
        if (account := self.accounts.get(use.key)) is None:
            return  # a key of before
        account.elsewhere[use.proxy] = use.running
        account.use(use.requests, use.prompt_tokens, use.completion_tokens, self._clock())

    def _use(self, account: Account, requests: int, prompt: int, completion: int) -> None:
        account.use(requests, prompt, completion, self._clock())
        if self._tell is not None:
            self._tell(KeyUse(account.key.name, self._proxy, account.running, requests, prompt, completion))


def _bucket(most: int, now: float) -> Bucket | None:
    return Bucket(most, now) if most else None
