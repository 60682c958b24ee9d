"""Process titles: `lsv:root`, `lsv:proxy-0`, `lsv:w:qwen3 ready 2`. Find them all with `pgrep -af '^lsv:'`."""

from __future__ import annotations

import setproctitle


def set(role: str, state: str = "") -> None:
    """Shows role and state in `ps` and `top`. A model's part is the last segment of its name, as `comm` is short."""
    kind, _, name = role.partition(":")
    short = f"{kind}:{name.rpartition('/')[2]}" if name else kind
    setproctitle.setproctitle(f"lsv:{short} {state}".rstrip())
