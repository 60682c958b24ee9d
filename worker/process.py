"""The life of a worker process, whatever computes in it: prepare → wait for a model → load → serve → leave.

RELIABILITY.md, 3 and 7. The exit code tells the root: 0 asked to stop, 78 this model can never load, 1 anything else.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from supervisor import log, title
from supervisor.boot import STANDBY, Child
from supervisor.config import EX_CONFIG
from supervisor.control import Channel, FromRoot, LoadFailed, Phase, Ready
from supervisor.log import facts
from worker import rlimit
from worker.failure import EngineError, LoadError
from worker.seams import Inbox, Kind, Leave, Load, Loaded, Order, Vitals
from worker.switchboard import Switchboard

_log = logging.getLogger(__name__)
_SWITCH_INTERVAL = 0.001  # seconds; the I/O thread answers while the engine is in Python, see tests/bench/decode.py
_LAST_WORDS = 1.0  # seconds for what waits to be sent at the end
_MODEST = 10  # nice


def run(child: Child, kind: Kind) -> int:
    """The whole life; returns the exit code."""
    gc.disable()  # what is made until the model is loaded stays for good: looking through it costs a tenth of the time
    inbox, vitals = Inbox(), Vitals()
    board = Switchboard(Channel(child.control, FromRoot), inbox, vitals)
    board.start()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    if child.role == STANDBY:
        _modestly(kind.prepare)
    else:
        kind.prepare()
    vitals.phase = Phase.STANDBY
    try:
        code = _live(child, kind, board, inbox, vitals)
        if code == 0:
            vitals.phase = Phase.STOPPING  # else the phase stays in which it failed
        return code
    finally:
        board.finish(_LAST_WORDS)


def _modestly(work: Callable[[], None]) -> None:
    """Has a standby's imports done when nobody else needs the cores: it begins while another one loads a model.

    In a thread of its own, as a thread may lower its priority, but nobody may raise it again.
    """
    with ThreadPoolExecutor(1, "imports", lambda: os.setpriority(os.PRIO_PROCESS, 0, _MODEST)) as pool:
        pool.submit(work).result()


def _live(child: Child, kind: Kind, board: Switchboard, inbox: Inbox, vitals: Vitals) -> int:
    order = _first(inbox)
    if isinstance(order, Leave):
        return 0
    role = f"w:{order.model.name}" if order.model.name else child.role
    log.rename(role)
    title.set(role, "loading")
    vitals.phase = Phase.LOADING
    rlimit.confine(order.memory_limit)
    try:
        loaded = _load(kind, order, board, vitals)
    except LoadError as found:
        if board.stopping:
            return 0
        error = rlimit.explained(found, order.model.name, order.memory_limit)
        _log.error("load failed %s", facts(cause=error.cause, message=error.message, permanent=error.permanent))
        board.send(LoadFailed(error.cause, error.message, error.permanent))
        return EX_CONFIG if error.permanent else 1
    gc.freeze()  # later collections leave all that alone, so that none interrupts the engine for long
    gc.enable()
    board.serve(loaded.text, order.generation)
    vitals.phase = Phase.IDLE
    board.send(Ready(loaded.facts, dict(loaded.costs)))
    title.set(role, "ready")
    try:
        loaded.run(inbox, board, vitals)
    except EngineError as error:
        _log.error("the engine has failed: %s", error)
        return 1
    title.set(role, "stopping")
    return 0


def _first(inbox: Inbox) -> Load | Leave:
    """The order that decides what this process becomes; a crowd that is told before is told again after Ready."""
    kept: list[Order] = []
    while True:
        order = inbox.get()
        if isinstance(order, Load | Leave):
            for early in kept:
                inbox.put(early)
            return order
        kept.append(order)


def _load(kind: Kind, order: Load, board: Switchboard, vitals: Vitals) -> Loaded:
    def progress(done: float) -> bool:
        vitals.progress = done
        vitals.steps += 1
        if done >= 1:
            vitals.phase = Phase.WARMUP
        return not board.stopping

    began = time.monotonic()
    loaded = kind.load(order, progress)
    vitals.progress = 1.0
    _log.info("loaded %s", facts(seconds=time.monotonic() - began, generation=order.generation))
    return loaded
