"""gpt-oss: each message names its channel, and a call its recipient."""

from __future__ import annotations

from worker.chat.families.family import Call, Family, Hide, Rule, Thought, row
from worker.chat.steps import Blank, Maybe, Name, OneOf

_GAP = Blank()
_START, _CHANNEL, _MESSAGE, _END = "<|start|>assistant", "<|channel|>", "<|message|>", "<|end|>"
_OPEN = (Maybe(_START), _CHANNEL)
_FORMAT = (_GAP, Maybe("<|constrain|>"), Maybe("json"), _GAP, _MESSAGE)
_TO = " to=functions."
_CALL = Call(closers=("<|call|>", _END))
_BRACE = OneOf(("{",), look=True)
_ANY = OneOf(("commentary", "analysis"))

HARMONY = Family(
    "harmony",
    (_CHANNEL,),
    thoughts=(
        Rule(
            row(*_OPEN, "analysis", _MESSAGE),
            Thought(ends=(row(_END), row(OneOf((_START, _CHANNEL), look=True)))),
        ),
    ),
    calls=(
        Rule(row(*_OPEN, _ANY, _TO, Name(), *_FORMAT, _GAP, _BRACE), _CALL),
        Rule(row(_START, _TO, Name(), _CHANNEL, _ANY, *_FORMAT, _GAP, _BRACE), _CALL),
        Rule(row(_TO, Name(), _CHANNEL, _ANY, *_FORMAT, _GAP, _BRACE), _CALL, anchored=True),
    ),
    hidden=(
        Rule(row(*_OPEN, "final", *_FORMAT), Hide()),
        Rule(row(*_OPEN, "commentary", _MESSAGE), Hide()),
        Rule(row(_END), Hide()),
    ),
    before=row(*_OPEN, "final", _MESSAGE),
)
