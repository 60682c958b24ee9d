"""The kernel's count of what it has killed for memory, in both kinds of cgroups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor import oom

_SECOND = "0::/system.slice/llama.service\n"
_FIRST = "9:name=systemd:/x\n4:memory:/box/one\n3:cpu,cpuacct:/\n0::/\n"


@pytest.mark.parametrize(
    ("groups", "file", "text"),
    [
        (_SECOND, "system.slice/llama.service/memory.events", "low 0\noom 9\noom_kill 3\n"),
        (_FIRST, "memory/box/one/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
        (_FIRST, "elsewhere", "oom_kill 3\n"),
        ("", "memory.events", "oom_kill 3\n"),
    ],
)
def test_the_counter_of_our_own_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, file: str, text: str
) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    read = Path.read_text

    def faked(self: Path, *arguments: Any) -> str:
        return groups if str(self) == "/proc/self/cgroup" else read(self, *arguments)

    monkeypatch.setattr(oom, "_ROOT", tmp_path)
    monkeypatch.setattr(Path, "read_text", faked)
    assert oom.kills() == (3 if "llama" in file or "box" in file else 0)
