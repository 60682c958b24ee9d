"""A model's chat template: a conversation → the prompt it was trained on. ENGINE.md, 10."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any, Protocol

import jinja2
from msgspec.structs import replace

from supervisor.log import facts
from worker.chat import caps as capabilities
from worker.chat.caps import Caps, adapt
from worker.chat.environment import compiled, environment, render
from worker.chat.guard import Guard, Piece, Wrapped
from worker.failure import LoadError, RequestError
from worker.protocol import Chat

_log = logging.getLogger(__name__)
_END = "\ue0ff\ue0fe"  # marks where a continued message ends; templates may trim, but do not touch this
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


class _Vocabulary(Protocol):
    bos: int
    eos: int

    @property
    def control(self) -> tuple[str, ...]: ...

    def text_of(self, token: int) -> str: ...


class _Model(Protocol):
    @property
    def vocabulary(self) -> _Vocabulary: ...

    def chat_template(self, name: str = "") -> str: ...


class ChatTemplate:
    """A compiled template with what it supports. Rendering is safe in any thread."""

    def __init__(
        self, source: str, *, bos: str = "", eos: str = "", control: tuple[str, ...] = (), tool_use: str = ""
    ) -> None:
        """`tool_use` is used instead when tools are given. Raises jinja2.TemplateError if a template is no Jinja."""
        sandbox = environment()
        self.source = source
        self.sources = source + tool_use  # what tells the family of its markers
        self._special = {"bos_token": bos, "eos_token": eos}
        self._guard = Guard(control)
        self._plain = compiled(sandbox, source)
        self._with_tools = compiled(sandbox, tool_use) if tool_use else self._plain
        self.caps: Caps = capabilities.probe(self._probe)

    @classmethod
    def of(cls, model: _Model, file: str = "", text: str = "") -> ChatTemplate:
        """The template `text`, else that in `file`, else the GGUF's own, else ChatML.

        Raises LoadError for one that was given and is no template.
        """
        vocabulary = model.vocabulary
        special: dict[str, Any] = {
            "bos": vocabulary.text_of(vocabulary.bos),
            "eos": vocabulary.text_of(vocabulary.eos),
            "control": vocabulary.control,
        }
        if text:
            try:
                return cls(text, **special)
            except jinja2.TemplateError as error:
                raise LoadError("load_error", f"chat_template: {error}", permanent=True) from None
        if file:
            try:
                return cls(Path(file).read_text("utf-8"), **special)
            except (OSError, UnicodeError, jinja2.TemplateError) as error:
                raise LoadError("load_error", f"chat_template {file}: {error}", permanent=True) from None
        source = model.chat_template()
        try:
            if source:
                template = cls(source, tool_use=model.chat_template("tool_use"), **special)
                if template.caps.usable:
                    return template
            reason = "it shows no message" if source else "the file has none"
        except jinja2.TemplateError as error:
            reason = str(error)
        _log.warning("no usable chat template, so ChatML %s", facts(reason=reason))
        return cls(CHATML, **special)

    def shown(self, messages: list[dict[str, Any]]) -> str:
        """Messages as they stand in a conversation. Raises RequestError("template_error")."""
        return self._probe(adapt(messages, self.caps))

    def render(self, chat: Chat) -> str:
        """The prompt as text. Raises RequestError("template_error")."""
        return "".join(text for text, _ in self.pieces(chat))

    def pieces(self, chat: Chat) -> list[Piece]:
        """The prompt in parts, with whether control tokens in them are meant. Raises RequestError("template_error").

        Tools never break a chat: if the template refuses it with them, it is rendered without.
        """
        if chat.tools is None:
            return self._pieces(chat)
        try:
            return self._pieces(chat)
        except RequestError as error:
            if error.code != "template_error":
                raise
            return self._pieces(replace(chat, tools=None))

    def _pieces(self, chat: Chat) -> list[Piece]:
        wrapped = self._guard.wrap(adapt(chat.messages, self.caps), chat.tools)
        if chat.continue_final:
            return wrapped.pieces(self._continued(chat, wrapped))
        prompt, more = chat.add_generation_prompt, chat.template_kwargs
        return wrapped.pieces(self._rendered(wrapped.messages, wrapped.tools, prompt, more))

    def _continued(self, chat: Chat, wrapped: Wrapped) -> str:
        """The prompt up to the end of the last message's content, so that the model writes on from there."""
        *others, last = wrapped.messages or [{}]
        content = last.get("content")
        if last.get("role") != "assistant" or not content:
            reason = "only a last assistant message with content can be continued"
            raise RequestError("invalid_value", reason, param="messages")
        if isinstance(content, list):
            content = [*content, {"type": "text", "text": _END}]
        else:
            content += _END
        text = self._rendered([*others, {**last, "content": content}], wrapped.tools, False, chat.template_kwargs)
        before, found, _ = text.rpartition(_END)
        if not found:
            raise RequestError("template_error", "the chat template does not show the message to be continued")
        return before

    def _rendered(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, prompt: bool, more: dict[str, Any]
    ) -> str:
        context = {"messages": messages, "tools": tools, "add_generation_prompt": prompt, **self._special, **more}
        return render(self._with_tools if tools else self._plain, context)

    def _probe(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None, **more: Any) -> str:
        return self._rendered(copy.deepcopy(messages), copy.deepcopy(tools), False, more)
