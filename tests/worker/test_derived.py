"""Markers of a template that no table fits, found in its own rendering: they read calls and write them."""

from __future__ import annotations

import json

import pytest

from tests.worker.outputs import HERMES, TOOLS, run, seen
from worker.chat import writing
from worker.chat.derived import complete
from worker.chat.families import choose
from worker.chat.parser import Parser
from worker.chat.render import CHATML, ChatTemplate
from worker.protocol import Chat, Generate

FRAME = "{{% for m in messages %}}[{{{{ m.role }}}}]{}{{{{ m.content }}}}{}[end]\n{{% endfor %}}"
EACH = "{% for c in m.tool_calls %}"
THOUGHT = "{% if m.reasoning_content %}((musing))\n{{ m.reasoning_content }}\n((done))\n\n{% endif %}"
OBJECT = EACH + '@call {"fn": "{{ c.function.name }}", "args": {{ c.function.arguments | tojson }}} @done{% endfor %}'
ONE = '{"fn": "{{ c.function.name }}", "args": {{ c.function.arguments | tojson }}}'
LIST = "{% if m.tool_calls %}@calls [" + EACH + ONE + '{{ "," if not loop.last }}{% endfor %}]@done{% endif %}'
NAMED = EACH + "@call {{ c.function.name }} with {{ c.function.arguments | tojson }}@done{% endfor %}"
BARE = EACH + '{"fn": "{{ c.function.name }}", "args": {{ c.function.arguments | tojson }}}{% endfor %}'
TEXTS = {
    OBJECT: '@call {"fn": "run", "args": {"code": "x"}} @done',
    LIST: '@calls [{"fn": "run", "args": {"code": "x"}}]@done',
    NAMED: '@call run with {"code": "x"}@done',
    BARE: '{"fn": "run", "args": {"code": "x"}}',
}


def parser(before: str = "", after: str = "") -> Parser:
    template = ChatTemplate(FRAME.format(before, after))
    assert choose(template.sources) is None
    return Parser(template.sources, lambda _: {}, render=template.shown)


def split(found: Parser, output: str) -> object:
    ask = Generate(1, "r", Chat([], tools=TOOLS), parse_tools=True, reasoning_format="auto")
    machine = found.machine(ask, str)
    assert machine is not None
    return seen(run(machine, *output))


@pytest.mark.parametrize("form", TEXTS)
def test_calls_are_read_and_written_as_the_template_shows_them(form: str) -> None:
    found = parser(after=form)
    assert split(found, TEXTS[form]) == ("", "", (("run", '{"code": "x"}'),))
    assert found.family is not None
    functions = [tool["function"] for tool in TOOLS]
    text = writing.message(found.family, functions, lambda _: {}, many=False, lead=False)
    assert all(json.dumps(word)[1:-1] in text for word in ("run", "weather_map"))


def test_reasoning_is_found_between_its_markers() -> None:
    found = parser(before=THOUGHT, after=OBJECT)
    assert split(found, "((musing))\nHm.\n((done))\n\nHello.") == ("Hello.", "Hm.", ())
    assert split(found, "((musing))Hm.((done))" + TEXTS[OBJECT]) == ("", "Hm.", (("run", '{"code": "x"}'),))


@pytest.mark.parametrize("template", [CHATML, "{{ messages[0].content }}", "{{ raise_exception('no') }}"])
def test_a_template_that_shows_neither_has_no_family(template: str) -> None:
    assert complete(None, ChatTemplate(template).shown) is None


def test_a_table_that_fits_counts_more_than_what_is_found() -> None:
    template = ChatTemplate("{# <tool_call> <think> </think> #}" + FRAME.format(THOUGHT, OBJECT))
    family = choose(HERMES)
    assert family is not None
    assert complete(choose(template.sources), template.shown) == family
