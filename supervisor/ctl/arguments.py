"""The words of the command line: what every command takes, and each command's own."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from supervisor.ctl import address
from supervisor.ctl.address import Address
from supervisor.ctl.commands import Parsers, deaths, logs, models, pull, requests, server, status
from supervisor.ctl.errors import BadUsage

URL, KEY = "LLAMA_SUPERVISOR_URL", "LLAMA_SUPERVISOR_KEY"
_HELP = f"""\
where the server is:
  --url URL or --config FILE, else the variable {URL}, else {address.default()}
the API key:
  in the file --key-file, else in the variable {KEY}; never an argument, which every user of the machine can read

exit codes:
  0    done
  1    the server said no, or the load or download failed
  2    wrong usage
  69   no server there
  77   the key is missing or wrong, or may not do this
  78   the configuration file of --config is wrong
  130  interrupted (^C); what was asked for goes on in the server
"""


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m supervisor ctl",
        description="Asks a running server how it is, and tells it what to do.",
        epilog=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_common()],
        allow_abbrev=False,  # --key SECRET must not pass for --key-file
    )
    parsers = Parsers(found, _common())
    for part in (status, models, pull, requests, logs, deaths, server):
        part.add(parsers)
    return found


def find_server(words: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> Address:
    """Raises BadUsage, ConfigError."""
    url, file = getattr(words, "url", ""), getattr(words, "config", "")
    certificate = getattr(words, "cacert", "")
    if url and file:
        raise BadUsage("--url or --config, not both")
    if file:
        return address.from_file(file)
    if url := url or environment.get(URL, ""):
        return address.from_url(url, certificate)
    return address.default()


def find_key(words: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> str:
    """The key's text, or "". Raises BadUsage, whose text does not have it."""
    if hasattr(words, "key"):
        raise BadUsage(f"--key: every user of the machine can read arguments; use --key-file FILE or {KEY}")
    source = getattr(words, "key_file", "")
    text = _read(source) if source else environment.get(KEY, "")
    key, where = text.strip(), f"--key-file {source}" if source else KEY
    if source and not key:
        raise BadUsage(f"{where}: the file is empty")
    if not all("!" <= char <= "~" for char in key):
        raise BadUsage(f"{where}: expected one key, of letters, digits and signs, and nothing else")
    return key


def _read(file: str) -> str:
    try:
        return Path(file).expanduser().read_text()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        shown = "…" if file.startswith("lsv-") else file  # it may be the key itself, which must not get into a log
        why = getattr(error, "strerror", None) or "it is no text"
        raise BadUsage(f"--key-file {shown}: cannot be read: {why}") from None


def _common() -> argparse.ArgumentParser:
    """May stand before the command or after it."""
    found = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS, allow_abbrev=False)
    group = found.add_argument_group("the server")
    group.add_argument("--url", metavar="URL", help="http://host:port/base, https://…, or unix:/path")
    group.add_argument("--config", metavar="FILE", help="the server's configuration, for its address")
    group.add_argument("--cacert", metavar="FILE", help="a PEM certificate to trust for https://")
    group.add_argument("--key-file", metavar="FILE", help="a file with the API key")
    group.add_argument("--key", help=argparse.SUPPRESS)  # refused: find_key
    found.add_argument("--json", action="store_true", help="JSON on stdout, for scripts; errors as well")
    return found
