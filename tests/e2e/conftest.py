"""A server for all tests of clients' packages: what they do to it is over when they end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.server import Server, until

TOML = '[defaults]\nworker = "tests.echo_worker:main"\n[models.a]\npreload = true\n[models.b]\n'


@pytest.fixture(scope="session")
def echo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Echo workers: model a, which is ready, and model b, which is loaded when it is wanted."""
    with Server(tmp_path_factory.mktemp("clients"), TOML) as server:
        until(lambda: server.state("a") == "ready")
        yield server


@pytest.fixture
def echoes(echo_server: Server) -> Server:
    """The same, with model a ready again whatever the last test did to it."""
    until(lambda: echo_server.state("a") == "ready")
    return echo_server
