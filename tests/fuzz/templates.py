"""Chat templates of model files: compiled and rendered, or refused; never the end of the process, nor of its memory."""

from __future__ import annotations

import jinja2

from tests.fuzz import engine
from worker.chat import bounds
from worker.chat.render import CHATML, ChatTemplate
from worker.failure import RequestError
from worker.protocol import Chat

_RICH = (
    "{%- macro show(m, n=3) -%}{{ m.role|upper }}: {{ (m.content or '')|trim|replace('a', 'b') }}{%- endmacro -%}"
    "{% set ns = namespace(x=0, s='') %}{% for m in messages if m.role != 'x' %}{% if loop.first %}{{ bos_token }}"
    "{% elif loop.index0 % 2 == 0 %}{{ '%s' % m.role }}{% else %}{{ '{:>5}'.format(m.role) }}{% endif %}"
    "{% set ns.x = ns.x + 1 %}{% set ns.s = ns.s ~ m.content %}{{ show(m, n=2 ** 3) }}{% endfor %}"
    "{% for k, v in (tools or [{}])[0].items() %}{{ k }}={{ v|tojson(indent=2) }}{% endfor %}{{ ns.s[1:-1][::-1] }}"
    "{{ range(5)|map('string')|join(',') }}{{ ['x'] * 3 }}{{ raise_exception('no') if ns.x > 99 }}"
    "{% call(x) show(messages[0]) %}{{ x }}{% endcall %}{% filter upper %}z{% endfilter %}{{ strftime_now('%Y') }}"
)
CORPUS = [CHATML.encode(), _RICH.encode()]
WORDS = [
    b"{% for i in range(99999) %}", b"{% endfor %}", b"{{ 'x' * ", b" ** 9 ** 9", b"|center(", b"99999999999", b")",
    b".__class__", b".__globals__", b"{% set ", b" ~ ", b"loop(", b" recursive", b"self", b"|attr('", b"{% raw %}",
    b"{% include 'x' %}", b"{% import 'os' as o %}", b"{% block b %}", b"cycler", b"joiner", b"lipsum", b"((((((((",
    b"|list", b"|batch(", b"namespace(", b"\n", b"\xff", b"{#", b"#}", b"{%-", b"-%}", b"format(", b"not ",
]  # fmt: skip
_CHAT = Chat([{"role": "user", "content": "hello"}, {"role": "assistant", "content": "a"}], [{"name": "f"}])


def fuzz(data: bytes) -> None:
    before, bounds.SECONDS = bounds.SECONDS, 0.5
    try:
        template = ChatTemplate(data.decode("utf-8", "replace"), bos="<s>", control=("<|im_end|>",))
        template.render(_CHAT)
    except (jinja2.TemplateError, RequestError):
        pass
    finally:
        bounds.SECONDS = before


def run(count: int, seed: int) -> str:
    return engine.run("templates", fuzz, CORPUS, WORDS, count, seed)
