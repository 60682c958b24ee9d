"""Calls whose arguments are tagged keys and values."""

from __future__ import annotations

from worker.chat.families.family import Call, Family, Rule, Tags, row
from worker.chat.families.thinking import LINES
from worker.chat.steps import Blank, Maybe, Name, OneOf, Until

_GAP = Blank()

_PARAMETER, _FUNCTION_END = "<parameter=", "</function>"
CODER = Family(
    "coder",
    ("<function=",),
    calls=(
        Rule(
            row(LINES, Maybe("<tool_call>", blank=True), "<function=", Name(), ">", _GAP,
                OneOf((_PARAMETER, _FUNCTION_END), look=True)),
            Call(
                Tags(
                    key=row(_GAP, _PARAMETER, Until(">"), Maybe("\n")),
                    value_end="</parameter>",
                    end=_FUNCTION_END,
                    after=(_PARAMETER, _FUNCTION_END),
                    lines=True,
                ),
                closers=("</tool_call>",),
            ),
        ),
    ),
    calls_end_thought=True,
)  # fmt: skip

_KEY, _CALL_END = "<arg_key>", "</tool_call>"
GLM = Family(
    "glm",
    (_KEY,),
    calls=(
        Rule(
            row(LINES, "<tool_call>", _GAP, Name(), _GAP, OneOf((_KEY, _CALL_END), look=True)),
            Call(
                Tags(
                    key=row(_GAP, _KEY, Until("</arg_key>"), _GAP, "<arg_value>"),
                    value_end="</arg_value>",
                    end=_CALL_END,
                    after=(_KEY, _CALL_END),
                )
            ),
        ),
    ),
)

_DSML = "｜DSML｜"
_DSML_KEY, _DSML_END = f"<{_DSML}parameter", f"</{_DSML}invoke>"
DSML = Family(
    "dsml",
    (_DSML,),
    calls=(
        Rule(
            row(LINES, Maybe(f"<{_DSML}function_calls>", blank=True), f'<{_DSML}invoke name="', Name(), '">', _GAP,
                OneOf((_DSML_KEY, _DSML_END), look=True)),
            Call(
                Tags(
                    key=row(_GAP, f'{_DSML_KEY} name="', Until('"'), ' string="', OneOf(("true", "false")), '">'),
                    value_end=f"</{_DSML}parameter>",
                    end=_DSML_END,
                    after=(_DSML_KEY, _DSML_END),
                    typed=True,
                ),
                closers=(f"</{_DSML}function_calls>",),
            ),
        ),
    ),
    calls_end_thought=True,
)  # fmt: skip
