"""The command line: `python -m supervisor FILE` runs the server, `check FILE` checks a file, `key new` makes a key.

`ctl …` asks and tells a running server: supervisor.ctl."""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
from collections.abc import Sequence

from supervisor import config, configfile, footing, key, listeners, log, ring

_DEFAULT = "conf/models.toml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 stopped as asked, 1 fatal, 2 wrong usage, 78 the configuration is wrong."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["key"]:
        return new_key(words[1:])
    if words[:1] == ["ctl"]:
        from supervisor.ctl.main import main as ctl  # a client, with tables and HTTP: nothing the server needs

        return ctl(words[1:])
    command = words.pop(0) if words and words[0] in ("run", "check") else "run"
    parser = argparse.ArgumentParser(
        prog="python -m supervisor",
        usage="python -m supervisor [run|check] [FILE]\n       python -m supervisor key new [--name NAME]\n"
        "       python -m supervisor ctl [--help] COMMAND …",
        description="A multi-model LLM server: one process for each model, one endpoint for all.",
    )
    parser.add_argument("file", nargs="?", default=_DEFAULT, metavar="FILE", help=f"configuration (default {_DEFAULT})")
    file: str = parser.parse_args(words).file
    try:
        settings = configfile.load(file)
    except config.ConfigError as error:
        print(error, file=sys.stderr)
        return config.EX_CONFIG
    return check(settings) if command == "check" else run(settings)


def new_key(words: Sequence[str]) -> int:
    """Prints an API key and its table."""
    parser = argparse.ArgumentParser("python -m supervisor key", description="Makes an API key. Nothing is stored.")
    parser.add_argument("new", choices=["new"])
    parser.add_argument("--name", default="default", help="for the log (default: default)")
    print(key.new(parser.parse_args(words).name), end="")
    return 0


def check(settings: config.Config) -> int:
    """Says what the file amounts to."""
    from supervisor.check import report

    for line in report(settings):
        print(line)
    return 0


def run(settings: config.Config) -> int:
    """Runs the server until it is told to stop."""
    footing.secure()
    own = ring.create()
    log.setup("root", own)
    log.configure(*settings.log.form)
    faulthandler.enable()  # systemd's watchdog ends a root that hangs by SIGABRT: the journal then says where it was
    # OpenMP reads this when it loads: threads that spin for long starve the other workers on the same cores
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")  # a failed assertion would start a debugger first
    try:
        opened = listeners.open_all(settings.server.listen)
    except listeners.ListenError as error:
        print(error, file=sys.stderr)
        return 1
    from supervisor.tree import Tree

    try:
        return Tree(settings, opened.sockets, own).run()
    finally:
        opened.close()


if __name__ == "__main__":
    sys.exit(main())
