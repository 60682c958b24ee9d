"""Where a command's words go: stdout has the result, stderr what happens meanwhile and what went wrong.

On a terminal with colours and bars, else plain; with --json, one JSON value a line and nothing else on stdout.
"""

from __future__ import annotations

from typing import Any

import msgspec
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from supervisor.ctl.errors import CtlError
from supervisor.ctl.shown import clean

_WIDE = 10_000  # columns, where nobody's window is filled


class Output:
    def __init__(self, *, json: bool = False) -> None:
        self.json = json
        self.console = _console(stderr=False)
        self.aside = _console(stderr=True)

    @property
    def live(self) -> bool:
        """Whether somebody watches who sees a line change."""
        return self.console.is_terminal and not self.json

    def say(self, text: str) -> None:
        """A line of the result, for people."""
        if not self.json:
            self._plain(self.console, clean(text))

    def note(self, text: str) -> None:
        """A line beside the result."""
        if not self.json:
            self._plain(self.aside, clean(text))

    def show(self, what: RenderableType) -> None:
        if self.console.is_terminal:
            self.console.print(what)
            return
        with self.console.capture() as capture:
            self.console.print(what)
        for line in capture.get().splitlines():
            self._plain(self.console, line.rstrip())  # columns are filled up to their width

    def object(self, value: Any) -> None:
        """With --json: this is the result, or a part of it."""
        if self.json:
            self._plain(self.console, msgspec.json.encode(value).decode())

    def fail(self, error: CtlError) -> None:
        self.object(error.object)
        if not self.json:
            self._plain(self.aside, f"ctl: {clean(str(error))}")

    def progress(self) -> Progress:
        """Bars on stderr; on no terminal, nothing."""
        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeElapsedColumn(),
            console=self.aside,
            transient=True,
            disable=self.json or not self.aside.is_terminal,
        )

    @staticmethod
    def _plain(console: Console, text: str) -> None:
        console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise


def _console(*, stderr: bool) -> Console:
    console = _Console(stderr=stderr, highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console = _Console(stderr=stderr, highlight=False, emoji=False, markup=False, no_color=True, width=_WIDE)
    return console
