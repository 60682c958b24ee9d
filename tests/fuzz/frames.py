"""Frames of links, in both directions, and messages of the control sockets: decoded, or refused."""

from __future__ import annotations

import msgspec

from supervisor import control
from tests.fuzz import engine
from worker import protocol
from worker.protocol import Chat, Delta, Event, Finished, Framer, Generate, Hello, ProtocolError, Request, Timings

_ASKED = Generate(1, "id", Chat([{"role": "user", "content": "hi"}], tools=[{"type": "function"}]))
_ANSWER: list[Event] = [Hello(1, 1), Delta(1, "text", 1), Finished(1, "stop", "", Timings())]
_DEATH = control.Died(control.Death("w:a", 1.0, "crashed", "", -11, "SIGSEGV"))
_PONG = control.Pong(3, control.Phase.DECODE, 7)
CORPUS = [
    protocol.encode(Hello(1, 1)) + protocol.encode(_ASKED),
    protocol.encode(_ANSWER),
    msgspec.msgpack.encode(_DEATH),
    msgspec.msgpack.encode(_PONG),
]
WORDS = [b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\x91" * 50, b"\xc7\xff\xff", b"\xd9\xff", b"\0\0\0\x04"]
_FROM_ROOT = msgspec.msgpack.Decoder(control.FromRoot)
_TO_ROOT = msgspec.msgpack.Decoder(control.ToRoot)


def fuzz(data: bytes) -> None:
    for kind in (Request, list[Event]):
        framer: Framer[object] = Framer(kind)
        try:
            for at in range(0, len(data), 7):
                list(framer.feed(data[at : at + 7]))
        except ProtocolError:
            pass
        assert len(framer._buffer) <= len(data)
    for decoder in (_FROM_ROOT, _TO_ROOT):
        try:
            decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass


def run(count: int, seed: int) -> str:
    return engine.run("frames", fuzz, CORPUS, WORDS, count, seed)
