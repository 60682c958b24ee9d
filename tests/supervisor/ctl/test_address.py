"""Where the server is, and which key it is shown."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from supervisor.config import ConfigError
from supervisor.ctl import address, arguments
from supervisor.ctl.address import Address
from supervisor.ctl.errors import BadUsage


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("http://127.0.0.1:8080/", Address("127.0.0.1", 8080)),
        ("localhost:9000", Address("localhost", 9000)),
        ("box", Address("box", 80)),
        ("https://llm.example.org/a/b/", Address("llm.example.org", 443, base="/a/b", tls=True)),
        ("http://[::1]:8080/llm", Address("::1", 8080, base="/llm")),
        ("unix:/run/lsv.sock", Address(socket="/run/lsv.sock")),
        ("unix:///run/lsv.sock", Address(socket="/run/lsv.sock")),
    ],
)
def test_a_url_is_an_address(url: str, found: Address) -> None:
    assert address.from_url(url) == found


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://h:99999", "http://h/?a=1", "unix:", "http://h/a b", ""])
def test_what_is_no_address_is_said(url: str) -> None:
    with pytest.raises(BadUsage, match="--url: expected"):
        address.from_url(url)


def test_a_key_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(BadUsage) as caught:
        address.from_url("http://x:secret@host")
    assert "secret" not in str(caught.value)
    assert "--key-file" in str(caught.value)


@pytest.mark.parametrize(
    ("listen", "found"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        (":8080", Address("127.0.0.1", 8080)),
        ("0.0.0.0:8080", Address("127.0.0.1", 8080)),
        ("[::]:8080", Address("::1", 8080)),
        ("box.example.org:80", Address("box.example.org", 80)),
    ],
)
def test_a_configuration_says_where_its_server_listens(tmp_path: Path, listen: str, found: Address) -> None:
    file = tmp_path / "models.toml"
    file.write_text(f'[server]\nlisten = ["{listen}"]\n[models.x]\npath = "is not looked at"\n')
    assert address.from_file(str(file)) == found


def test_a_configuration_brings_its_socket_its_base_path_and_its_certificate(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    listen = 'listen = ["unix:run/x.sock"]\nroot_path = "/llm/"\n'
    file.write_text(f'[server]\n{listen}tls_cert = "c.pem"\ntls_key = "k.pem"\n')
    socket, certificate = str(tmp_path / "run/x.sock"), str(tmp_path / "c.pem")
    assert address.from_file(str(file)) == Address("", 0, socket, "/llm", True, certificate, pinned=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nlisten = [8080]\n", r"\[server\]\.listen\[0\]"),
        ('[server]\nlisten = [":0"]\n', "--url"),
        ("[", "TOML"),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "models.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        address.from_file(str(file))


def test_words_count_more_than_the_environment_and_that_more_than_the_default(tmp_path: Path) -> None:
    told = {arguments.URL: "http://b:2"}
    assert arguments.find_server(Namespace(url="http://a:1"), told) == Address("a", 1)
    assert arguments.find_server(Namespace(), told) == Address("b", 2)
    assert arguments.find_server(Namespace(), {}) == Address("127.0.0.1", 8080)
    with pytest.raises(BadUsage, match="not both"):
        arguments.find_server(Namespace(url="x", config="y"), {})


def test_a_key_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("lsv-abc\n")
    told = {arguments.KEY: "lsv-other"}
    assert arguments.find_key(Namespace(key_file=str(file)), told) == "lsv-abc"
    assert arguments.find_key(Namespace(), told) == "lsv-other"
    assert arguments.find_key(Namespace(), {}) == ""


@pytest.mark.parametrize("text", ["", "two keys", "k\nk", "schlüssel"])
def test_what_can_be_no_key_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "key"
    file.write_text(text)
    with pytest.raises(BadUsage, match="--key-file"):
        arguments.find_key(Namespace(key_file=str(file)), {})


@pytest.mark.parametrize("words", [Namespace(key_file="lsv-secret"), Namespace(key="lsv-secret")])
def test_a_key_among_the_words_is_refused_and_not_repeated(words: Namespace) -> None:
    with pytest.raises(BadUsage) as caught:
        arguments.find_key(words, {})
    assert "lsv-secret" not in str(caught.value)
