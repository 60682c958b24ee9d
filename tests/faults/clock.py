"""The wall clock jumps while everything runs: only the monotonic one may decide. Row 35."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import time
from pathlib import Path

from tests.e2e.server import text_of, until
from tests.faults.crowd import Crowd
from tests.faults.endings import Ending, tidy
from tests.faults.history import Absent, violations
from tests.faults.rows import WORDS
from tests.faults.scene import MODELS, RECOVERY, SETTINGS, Scene, serve

_HOUR, _YEAR = 3600, 365 * 86400
_JUMPS = (_HOUR, -_HOUR, 10 * _YEAR, -10 * _YEAR)
_SETTINGS = SETTINGS.replace("[models.slow]\n", '[models.slow]\nidle_timeout = "30m"\n').replace(
    'backoff = "50ms"\nbackoff_max = "200ms"', 'backoff = "1s"\nbackoff_max = "1s"'
)
_SHIM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static volatile long *shift;
__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCK_SHIFT");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *at = mmap(0, sizeof *shift, PROT_READ, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) shift = at;
    close(fd);
}
int clock_gettime(clockid_t id, struct timespec *now) {
    long failed = syscall(SYS_clock_gettime, id, now);
    if (!failed && shift && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += *shift;
    return failed;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *out) {
    struct timespec exact;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    if (out) *out = exact.tv_sec;
    return exact.tv_sec;
}
"""


def jump(folder: Path, draw: random.Random) -> float:
    """Nobody is killed, nothing expires early, and a model in its back-off is worth the wait as before."""
    server = serve(folder, _SETTINGS)
    shift = folder / "shift"
    _turn(shift, 0)
    server.environment |= {"LD_PRELOAD": str(_shim(folder)), "CLOCK_SHIFT": str(shift)}
    try:
        server.start()
        until(server.healthy, RECOVERY)
        scene = Scene(server, draw)
        scene.ready()
        assert scene.say("slow", WORDS).status_code == 200  # loaded, with half an hour to stay
        roles = ["proxy-0", "w:slow", *(f"w:{model}" for model in MODELS)]
        pids, took = [scene.pid(role) for role in roles], 0.0
        with Crowd(server.url, MODELS, 12, draw.randrange(2**30)) as crowd:
            for seconds in draw.sample(_JUMPS, len(_JUMPS)):
                _turn(shift, seconds)
                loaded = scene.status("a")["since"]
                time.sleep(1.0)  # five pings, and whatever is due at once now
                assert [scene.pid(role) for role in roles] == pids, f"somebody was killed by a jump of {seconds} s"
                assert abs(loaded - time.time() - seconds) < 2 * _HOUR or loaded < time.time(), (
                    "the clock has not jumped"
                )
        found = violations(crowd.entries, [])
        assert not found, found[:3]
        for seconds in _JUMPS:
            scene.kill(scene.pid("w:b"))
            until(lambda: scene.status("b").get("retry_at"), RECOVERY, "it waits to be started again")
            _turn(shift, seconds)
            began = time.monotonic()
            assert text_of(scene.say("b", WORDS)) == WORDS
            took = max(took, time.monotonic() - began)
        return took
    finally:
        tidy(server)


def _turn(file: Path, seconds: int) -> None:
    """All at once: the processes have it mapped."""
    with file.open("r+b" if file.exists() else "wb") as out:
        out.write(struct.pack("@l", seconds))


def _shim(folder: Path) -> Path:
    """Compiled. Raises Absent without a compiler."""
    compiler, source, library = shutil.which("cc"), folder / "clock.c", folder / "clock.so"
    if compiler is None:
        raise Absent("no C compiler here")
    source.write_text(_SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
    return library


ENDINGS = (Ending("35", "the clock jumps by hours and years", jump, 5, together=2),)
