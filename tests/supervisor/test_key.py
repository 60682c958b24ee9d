"""`python -m supervisor key new`, and the root's part in what keys may use on several proxies."""

from __future__ import annotations

import hashlib
import re
import tomllib
from typing import Any

import pytest

from supervisor import config, ring
from supervisor.__main__ import main
from supervisor.control import Blamed, ConfigureProxy, KeyUse, Ring
from supervisor.journal import Journal
from supervisor.ledger import Ledger
from supervisor.nursery import Ended
from supervisor.proxies import Proxies
from supervisor.timers import Timers


def test_a_new_key_is_shown_once_with_the_table_that_knows_only_its_hash(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "new", "--name", 'al "ice"']) == 0
    shown = capsys.readouterr().out
    (table,) = tomllib.loads(shown)["keys"]
    match = re.search(r"^#   (\S+)$", shown, re.MULTILINE)
    assert match
    assert table["sha256"] == hashlib.sha256(match[1].encode()).hexdigest()
    assert table["name"] == 'al "ice"'
    assert config.Key(**table).sees("any")
    main(["key", "new"])
    assert match[1] not in capsys.readouterr().out


class Child:
    def __init__(self, role: str) -> None:
        self.role, self.ring = role, ring.create()


class Ward:
    def __init__(self, role: str) -> None:
        self.role, self.child, self.stopping, self.heard = role, Child(role), False, list[Any]()


class Nursery:
    def start(self, entry: str, role: str, owner: Any, listeners: Any) -> Ward:
        return Ward(role)

    def send(self, ward: Ward, message: Any, fds: Any = ()) -> None:
        ward.heard.append(message)


class Models:
    def __init__(self) -> None:
        self.journal, self.ledger = Journal(), Ledger()

    def statuses(self) -> tuple[()]:
        return ()

    def entries(self) -> tuple[()]:
        return ()

    def attach_all(self, proxy: Any) -> None:
        pass

    def proxy_gone(self, proxy: Any) -> None:
        pass

    def proxy_died(self, proxy: Any, end: Any) -> None:
        pass


@pytest.fixture
def proxies() -> Any:
    settings = config.Config(file="x", models={}, server=config.Server(proxies=2))
    hooks: Any = {"listening": lambda: None, "failed": lambda why: None}
    found: Any = Proxies(Nursery(), Timers(), settings, [], **hooks)  # type: ignore[arg-type]
    found.start(Models())
    return found


def of(ward: Ward, kind: type) -> list[Any]:
    return [message for message in ward.heard if isinstance(message, kind)]


def test_what_a_key_uses_on_one_proxy_is_told_to_the_others_and_forgotten_with_it(proxies: Any) -> None:
    first, second = proxies.running.values()
    use = KeyUse("k", 0, running=2, requests=1)
    proxies.heard(first, use, [])
    assert (of(first, KeyUse), of(second, KeyUse)) == ([], [use])
    proxies.ended(first, Ended(-9, (), ""))
    assert of(second, KeyUse)[-1] == KeyUse("k", 0, running=0)


def test_a_new_proxy_learns_what_is_in_flight_on_the_others_and_every_ring(proxies: Any) -> None:
    first, second = proxies.running.values()
    proxies.heard(second, KeyUse("k", 1, running=3, prompt_tokens=5), [])
    proxies.show_ring("w:a", second.child.ring)
    proxies.ended(first, Ended(-9, (), ""))
    proxies._start(0)
    again = proxies.running[0]
    assert isinstance(again.heard[0], ConfigureProxy)
    assert of(again, KeyUse) == [KeyUse("k", 1, running=3)]
    assert {message.source for message in of(again, Ring)} == {"proxy-0", "proxy-1", "w:a"}
    assert of(second, Ring)[-1] == Ring("proxy-0")


def test_a_request_that_kills_workers_is_made_known_to_the_other_proxies(proxies: Any) -> None:
    first, second = proxies.running.values()
    proxies.heard(first, Blamed("m", b"digest"), [])
    assert (of(first, Blamed), of(second, Blamed)) == ([], [Blamed("m", b"digest")])
