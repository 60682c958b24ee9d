"""Configurations that come while streams run: wrong ones, and ones that change or remove a busy model. Rows 31, 32."""

from __future__ import annotations

import re
import signal
import time

from tests.e2e.server import text_of, until
from tests.faults.history import Hit
from tests.faults.rows import WORDS, Row
from tests.faults.scene import RECOVERY, Scene

_WRONG = {
    "nonsense =\n": "not TOML",
    "[models.d]\nn_ctxx = 5\n": "n_ctxx",
    '[models.d]\nworker = "worker.main:main"\npath = "not-there.gguf"\n': "not-there.gguf",
    "".join(f'[models.{name}]\nworker = "tests.echo_worker:main"\naliases = ["twice"]\n' for name in "de"): "twice",
    "[ui]\nenabled = false\n": "restart",
}
_BUSY = re.compile(r"(\[models\.c\]\n(?:worker = .*\n)?preload = true\n)(?:n_ctx = \d+\n)?")


def wrong_configuration(scene: Scene) -> Hit:
    """The old one stays, and the log says what is wrong with the new one."""
    text, word = scene.draw.choice(list(_WRONG.items()))
    began, before, right = time.monotonic(), scene.server.log.stat().st_size, scene.server.toml
    scene.server.write(right + text)
    try:
        scene.server.process.send_signal(signal.SIGHUP)
        until(lambda: "reload refused" in _told(scene, before), RECOVERY, f"{word} is refused")
        assert word in _told(scene, before), _told(scene, before)[-500:]
    finally:
        scene.server.write(right)
    return scene.undisturbed(began)


def change_a_busy_model(scene: Scene) -> Hit:
    """Its streams end as they should, who comes meanwhile waits, and then it is there with its new settings."""
    scene.busy("c")
    old, began = scene.pid("w:c"), time.monotonic()
    _reload(scene, _BUSY.sub(rf"\g<1>n_ctx = {scene.draw.randint(1000, 100_000)}\n", scene.server.toml))
    scene.pid("w:c", but=old)
    until(lambda: scene.state("c") == "ready", RECOVERY)
    hit = scene.recovered("c", began, since=time.monotonic())
    return Hit(None, began, hit.ended, time.monotonic() - began)


def remove_a_busy_model(scene: Scene) -> Hit:
    """What runs there ends as it should; who asks for it is told that there is no such model; then it comes back."""
    scene.busy("c")
    assert scene.crowd is not None
    running = [entry for entry in scene.crowd.entries if entry.model == "c" and entry.first and not entry.marks]
    began, whole = time.monotonic(), scene.server.toml
    _reload(scene, _BUSY.sub("", whole))
    until(lambda: scene.pids("w:c") == [], RECOVERY, "it has gone")
    cut = [entry.marks for entry in running if entry.marks not in (["done"], ["left"])]
    assert not cut, f"streams that ran were cut: {cut}"
    assert scene.say("c", WORDS).status_code == 404
    _reload(scene, whole)
    assert text_of(scene.say("c", WORDS)) == WORDS
    return scene.recovered("c", began, since=time.monotonic())


def _reload(scene: Scene, text: str) -> None:
    before = scene.server.log.stat().st_size
    scene.server.write(text)
    scene.server.process.send_signal(signal.SIGHUP)
    until(lambda: "reloaded" in _told(scene, before), RECOVERY, "it is taken over")


def _told(scene: Scene, before: int) -> str:
    with scene.server.log.open() as file:
        file.seek(before)
        return file.read()


ROWS = (
    Row("31", "a wrong configuration is reloaded", wrong_configuration, 20),
    Row("32", "a reload changes a busy model", change_a_busy_model, 20),
    Row("32", "a reload removes a busy model", remove_a_busy_model, 10),
)
