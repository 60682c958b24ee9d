"""The commands, a file for each kind, with `add(parsers)`, which says what its words are and which function runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from supervisor.ctl.client import Client
from supervisor.ctl.output import Output

Run = Callable[[Client, Output, argparse.Namespace], int]


class Parsers:
    """Makes the commands' parsers; each takes the common options as well."""

    def __init__(self, parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
        self._parsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
        self._common = common

    def add(self, name: str, run: Run, help: str) -> argparse.ArgumentParser:
        """A parser for one command, which `run` carries out; `run` returns the exit code."""
        sentence = help[0].upper() + help[1:] + "."
        found: argparse.ArgumentParser = self._parsers.add_parser(
            name, help=help, description=sentence, parents=[self._common], allow_abbrev=False
        )
        found.set_defaults(run=run)
        return found
