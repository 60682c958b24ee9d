"""What goes wrong between a command and a server, and what is said of it."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from tests.e2e.server import free_port
from tests.supervisor.ctl.standin import Asked, Ctl, StandIn

CERTIFICATES = Path(__file__).parents[2] / "certificates"
PEM, KEY = str(CERTIFICATES / "cert.pem"), str(CERTIFICATES / "key.pem")

Capture = pytest.CaptureFixture[str]


def none_run(asked: Asked) -> None:
    asked.answer([])


def test_nobody_there_is_69_and_says_where(capsys: Capture, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    ran = Ctl(capsys, "--url", url)("requests")
    assert (ran.code, ran.out) == (69, "")
    assert ran.err.startswith(f"ctl: {url}: nobody listens there")
    ran = Ctl(capsys, "--url", url, "--json")("requests")
    assert (ran.code, ran.json["error"]["code"], ran.err) == (69, "unreachable", "")
    ran = Ctl(capsys, "--url", f"unix:{tmp_path}/x.sock")("stop")
    assert (ran.code, "x.sock" in ran.err) == (69, True)


def test_somebody_who_speaks_no_http_is_69(capsys: Capture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def speak() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"220 mail.example.org ESMTP\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        ran = Ctl(capsys, "--url", f"http://127.0.0.1:{listener.getsockname()[1]}")("requests")
        thread.join()
    assert (ran.code, "the connection ended" in ran.err) == (69, True)


@pytest.mark.parametrize(("status", "code", "exit"), [(401, "invalid_api_key", 77), (403, "admin_required", 77),
                                                      (503, "shutting_down", 1)])  # fmt: skip
def test_a_refusal_is_told_in_the_servers_words(capsys: Capture, status: int, code: str, exit: int) -> None:
    with StandIn({"GET /requests": lambda asked: asked.refuse(status, code, "no, because")}) as server:
        url = f"http://127.0.0.1:{server.port}"
        ran = Ctl(capsys, "--url", url)("requests")
        assert (ran.code, ran.out) == (exit, "")
        assert ran.err.startswith("ctl: no, because")
        assert ("--key-file" in ran.err) == (status == 401)
        ran = Ctl(capsys, "--url", url)("requests", "--json")
        assert (ran.code, ran.json["error"]["code"], ran.err) == (exit, code, "")


def test_another_kind_of_server_is_noticed(capsys: Capture) -> None:
    routes = {
        "GET /requests": lambda asked: asked.answer("<html>not found", 404),
        "GET /activity": lambda asked: asked.answer("<html>hello"),
        "GET /logs": lambda asked: asked.answer("", 302, {"location": "https://other/"}),
    }
    with StandIn(routes) as server:
        ctl = Ctl(capsys, "--url", f"http://127.0.0.1:{server.port}")
        assert "is it llama-supervisor that answers" in ctl("requests").err
        assert "is not JSON" in ctl("requests", "--ended").err
        assert "redirects to https://other/" in ctl("logs").err


def test_the_key_is_sent_and_the_base_path_stands_before_everything(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_SUPERVISOR_KEY", "lsv-secret")
    with StandIn({"GET /llm/requests": none_run}) as server:
        monkeypatch.setenv("LLAMA_SUPERVISOR_URL", f"http://127.0.0.1:{server.port}/llm/")
        ran = Ctl(capsys)("requests", "--json")
    assert (ran.code, ran.json) == (0, [])
    assert server.asked[0].headers["authorization"] == "Bearer lsv-secret"


def test_https_is_believed_with_a_certificate_that_is_trusted(capsys: Capture, tmp_path: Path) -> None:
    with StandIn({"GET /requests": none_run}, (PEM, KEY)) as server:
        https = f"https://127.0.0.1:{server.port}"
        ran = Ctl(capsys, "--url", https)("requests")
        assert (ran.code, "--cacert" in ran.err) == (69, True)
        assert Ctl(capsys, "--url", https, "--cacert", PEM)("requests").code == 0
        other = Ctl(capsys, "--url", https, "--cacert", str(CERTIFICATES / "nothing.pem"))("requests")
        assert (other.code, "nothing.pem" in other.err) == (2, True)
        file = tmp_path / "models.toml"
        tls = f'tls_cert = "{PEM}"\ntls_key = "{KEY}"\n'
        file.write_text(f'[server]\nlisten = ["127.0.0.1:{server.port}"]\n{tls}')
        assert Ctl(capsys, "--config", str(file))("requests").code == 0
        assert Ctl(capsys, "--url", f"http://127.0.0.1:{server.port}")("requests").code == 69
    with StandIn({"GET /requests": none_run}) as plain:
        ran = Ctl(capsys, "--url", f"https://127.0.0.1:{plain.port}")("requests")
        assert (ran.code, "TLS" in ran.err) == (69, True)


def test_the_certificate_of_a_configuration_is_believed_under_any_name(capsys: Capture, tmp_path: Path) -> None:
    with StandIn({"GET /requests": none_run}, (PEM, KEY), "127.0.0.2") as server:  # not a name in the certificate
        there = f"127.0.0.2:{server.port}"
        assert Ctl(capsys, "--url", f"https://{there}", "--cacert", PEM)("requests").code == 69
        file = tmp_path / "models.toml"
        file.write_text(f'[server]\nlisten = ["{there}"]\ntls_cert = "{PEM}"\ntls_key = "{KEY}"\n')
        assert Ctl(capsys, "--config", str(file))("requests").code == 0


@pytest.mark.parametrize(
    "words",
    [(), ("statsu",), ("load",), ("unload",), ("unload", "a", "--all"), ("logs", "-n", "x"), ("logs", "-f", "-n", "3"),
     ("top", "--interval", "0"), ("load", "a", "--timeout", "-1"), ("--key", "lsv-secret", "status"),
     ("--key=lsv-secret", "status"), ("status", "--url", "ftp://x"), ("status", "--key-file", "/nowhere")],
)  # fmt: skip
def test_wrong_usage_is_2(capsys: Capture, words: tuple[str, ...]) -> None:
    ran = Ctl(capsys)(*words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err
    assert "lsv-secret" not in ran.err


def test_a_wrong_configuration_is_78(capsys: Capture, tmp_path: Path) -> None:
    ran = Ctl(capsys, "--config", str(tmp_path / "none.toml"))("status")
    assert (ran.code, "none.toml: no such file" in ran.err) == (78, True)


def test_help_names_every_command_and_exit_code(capsys: Capture) -> None:
    ran = Ctl(capsys)("--help")
    assert ran.code == 0
    commands = ("status", "top", "load", "unload", "pull", "rm", "logs", "reload", "stop", "requests", "cancel")
    assert all(f"\n    {command} " in ran.out for command in commands)
    assert all(f"\n  {code} " in ran.out for code in (0, 1, 2, 69, 77, 78, 130))
    for command in commands:
        assert Ctl(capsys)(command, "--help").code == 0
