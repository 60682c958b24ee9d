"""What the machine has no more of: memory, processes, room on a disk. Rows 14, 21 and 22."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests import models
from tests.e2e.server import Server, until
from tests.faults.crowd import Crowd
from tests.faults.endings import Ending, tidy
from tests.faults.history import Absent, Hit, violations
from tests.faults.rows import WORDS
from tests.faults.scene import MODELS, RECOVERY, SETTINGS, Scene, serve
from tests.hub import Hub

_CGROUPS = Path("/sys/fs/cgroup")
_MEMORY = 700 * 2**20
_NOBODY = 61234  # a user with no process
_TMPFS = 'mount -t tmpfs -o size=1m none "$0" && { head -c 2000000 /dev/zero > "$0/fill"; cd "$1"; shift; exec "$@"; }'
_READ_ONLY = 'mount -t tmpfs -o ro none "$0" && { cd "$1"; shift; exec "$@"; }'


def out_of_memory(folder: Path, draw: random.Random) -> float:
    """A worker takes all that the server's cgroup has: the kernel takes that worker, and its death says so."""
    server = serve(folder)
    with _limited(server, _MEMORY):
        try:
            scene, model = _begin(server, draw), draw.choice(MODELS)
            with Crowd(server.url, MODELS, 12, draw.randrange(2**30)) as scene.crowd:
                scene.busy(model)
                began = time.monotonic()
                answer = scene.say(model, WORDS, 60, fault="hog", at=1)
                ended = time.monotonic()
                assert answer.status_code == 500, answer.text
                assert answer.json()["error"]["cause"] == "oom_killed", answer.text
                hit = scene.recovered(model, began, since=ended)
            _check(scene, [hit])
            return hit.recovery
        finally:
            tidy(server)


@contextlib.contextmanager
def _limited(server: Server, size: int) -> Iterator[None]:
    """The server starts in a cgroup with so much memory. Raises Absent where none can be made."""
    first = (_CGROUPS / "memory").is_dir()
    group = _CGROUPS / ("memory" if first else "") / f"faults-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(size))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        raise Absent(f"no memory cgroup here: {error.strerror}") from None
    server.prefix = ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group)]
    try:
        yield
    finally:
        with contextlib.suppress(AssertionError):
            until(lambda: _removed(group))


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True


def no_more_processes(folder: Path, draw: random.Random) -> float:
    """Nothing can be started, not even a thread: who lives serves on; a worker that dies comes back when it can."""
    server = serve(folder)
    if os.getuid() == 0:
        _for_nobody(server, folder)
    elif shutil.which("prlimit") is None:
        raise Absent("no prlimit here")
    try:
        scene, model = _begin(server, draw), draw.choice(MODELS)
        with Crowd(server.url, MODELS, 12, draw.randrange(2**30)) as scene.crowd:
            scene.busy(model)
            began, family = time.monotonic(), server.family()
            for process in family:
                _processes(server, process.pid, "1")
            old = scene.signal(f"w:{model}")
            scene.reload()
            scene.large()
            scene.pause(2.0)
            assert server.process.poll() is None, "the root has ended"
            last = time.monotonic()
            for process in family:
                _processes(server, process.pid, "")
            scene.pid(f"w:{model}", but=old)
            hit = scene.recovered(model, began, since=last)
        assert "cannot start" in server.log.read_text(), "it did not run out of them"
        _check(scene, [hit])
        return hit.recovery
    finally:
        tidy(server)


def _processes(server: Server, pid: int, most: str) -> None:
    """Lets a process start no more threads and processes than its user has by then; "": as many as it may."""
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]  # theirs, too
    limit = most or ("unlimited" if hard == resource.RLIM_INFINITY else str(hard))
    command = [*server.prefix, "prlimit", f"--pid={pid}", f"--nproc={limit}:"]  # as its user: others may not
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if most and pid == server.process.pid and done.returncode:
        raise Absent(f"no limits can be set here: {done.stderr.strip()}")


def _for_nobody(server: Server, folder: Path) -> None:
    """Limits on processes do not count for root."""
    for place in (folder, *folder.parents):
        if place.stat().st_uid == 0 and place != Path("/") and str(place).startswith("/tmp/"):
            place.chmod(0o755)
    for place in (folder, *folder.iterdir()):
        os.chown(place, _NOBODY, _NOBODY)
    if shutil.which("setpriv") is None or shutil.which("prlimit") is None:
        raise Absent("no setpriv and prlimit here")
    may = "-all,+dac_read_search"  # to read this checkout and its interpreter, wherever they are
    server.prefix = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    server.prefix += [f"--inh-caps={may}", f"--bounding-set={may}", f"--ambient-caps={may}"]
    server.environment["HOME"] = str(folder)


def full_disk(folder: Path, draw: random.Random) -> float:
    """State, states of conversations and downloads have no room, or must not be written: serving is unaffected."""
    place, script = folder / "small", draw.choice([_TMPFS, _READ_ONLY])
    place.mkdir(parents=True)
    whole = Path(models.tiny()).read_bytes()
    real = f'[models.tiny]\nworker = "worker.main:main"\npath = "{models.tiny()}"\nn_ctx = 512\n'
    with Hub() as hub:
        hub.add("u/r", {"r-Q4_K_M.gguf": whole})
        server = serve(folder, SETTINGS + f'[parking]\ndir = "{place}/parks"\n' + real)
        server.prefix = [*_own_mounts(), "sh", "-c", script, str(place), os.getcwd()]
        server.environment |= {"XDG_STATE_HOME": f"{place}/state", "HF_ENDPOINT": hub.endpoint}
        server.environment |= {"HF_HUB_CACHE": f"{place}/hub", "LLAMA_CACHE": f"{place}/llama"}
        try:
            scene = _begin(server, draw)
            with Crowd(server.url, MODELS, 12, draw.randrange(2**30)) as scene.crowd:
                for _ in range(2):
                    assert scene.post("/v1/completions", _STORY, 60).status_code == 200
                    assert scene.post("/models/unload", {"model": "tiny", "wait": True}).status_code == 200
                began = time.monotonic()
                _fails_to_fetch(scene)
                took = time.monotonic() - began
            _check(scene, [])
            assert "states not kept" in server.log.read_text(), "there was room"
            return took
        finally:
            tidy(server)


_STORY = {"model": "tiny", "prompt": "A long story about a fox. " * 12, "max_tokens": 8}


def _fails_to_fetch(scene: Scene) -> None:
    answer = scene.post("/models", {"model": "u/r:Q4_K_M"})
    if answer.status_code >= 400:
        assert answer.status_code < 500 or answer.json()["error"]["message"], answer.text
        return
    until(lambda: scene.state("u/r:Q4_K_M") == "failed", RECOVERY, "the download fails")
    status = scene.status("u/r:Q4_K_M")
    assert any(word in status["message"].lower() for word in ("space", "read-only")), status


def _own_mounts() -> list[str]:
    """A command that runs another one where it may mount. Raises Absent."""
    options = "-m" if os.getuid() == 0 else "-Urm"
    if shutil.which("unshare") is None:
        raise Absent("no unshare here")
    tried = subprocess.run(["unshare", options, "true"], capture_output=True, check=False)
    if tried.returncode:
        raise Absent("no mounts of one's own here")
    return ["unshare", options]


def _begin(server: Server, draw: random.Random) -> Scene:
    server.start()
    try:
        until(server.healthy, RECOVERY)
    except (AssertionError, httpx.HTTPError) as error:
        raise Absent(f"no such server here: {server.log.read_text()[-300:]}") from error
    scene = Scene(server, draw)
    scene.ready()
    return scene


def _check(scene: Scene, hits: list[Hit]) -> None:
    assert scene.crowd is not None
    found = violations(scene.crowd.entries, hits)
    assert not found, found[:3]


ENDINGS = (
    Ending("14", "a worker takes all memory there is", out_of_memory, 10),
    Ending("21", "no processes and threads left", no_more_processes, 5),
    Ending("22", "the disk is full, or read-only", full_disk, 5),
)
