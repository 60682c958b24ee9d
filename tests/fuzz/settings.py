"""The configuration file and llama-server's presets: a Config, or a ConfigError that names the file."""

from __future__ import annotations

import tempfile
from pathlib import Path

from supervisor import configfile
from supervisor.config import Config, ConfigError
from tests.fuzz import engine

ROOT = Path(__file__).parents[2]
_INI = (
    b"version = 1\n[*]\nctx-size = 4096\n[a]\nmodel = /x.gguf\nLLAMA_ARG_N_PARALLEL = 4\ntemp = 0.5\n"
    b"samplers = top_k;temperature\n[u/r:Q4]\nalias = b, c\n"
)
_TOML = (
    b'[server]\nlisten = ["127.0.0.1:1", "unix:/x"]\nmax_body = "1MiB"\n[[keys]]\nname = "a"\nsha256 = "' + b"0" * 64
    + b'"\n[placement]\nmemory = { ram = "1GiB", "cuda:0" = 5 }\n[defaults.sampling]\ntemperature = 0.5\n'
    b'[models.a]\npath = "/dev/null"\naliases = ["b"]\ndimensions = [1, 2]\n[models.v]\nbase = "a"\n'
)  # fmt: skip
_MARK = b"#ini\n"
CORPUS = [(ROOT / "conf" / "models.example.toml").read_bytes(), _TOML, _MARK + _INI]
WORDS = [
    b"[models.x]\n", b'base = "a"\n', b"[[keys]]\n", b"= -1\n", b"= nan\n", b"= 1e999\n", b'= "9999h"\n', b"= []\n",
    b"= {}\n", b"[", b"]", b'"""', b"\xff", b"\0", b"\xed\xa0\x80", b"= 99999999999999999999999\n", b"%(x)s", b"${x}",
    b"[*]\n", b"= 2026-01-01\n",
]  # fmt: skip


def fuzz(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file, presets = Path(folder, "m.toml"), Path(folder, "p.ini")
        if data.startswith(_MARK):
            presets.write_bytes(data[len(_MARK) :])
            data = b'[sources]\npresets = "p.ini"\n[models.z]\npath = "/dev/null"\n'
        file.write_bytes(data)
        refused = ""
        try:
            assert isinstance(configfile.load(file), Config)
        except ConfigError as error:
            refused = str(error)
        assert folder in refused or not refused, refused


def run(count: int, seed: int) -> str:
    return engine.run("settings", fuzz, CORPUS, WORDS, count, seed)
