"""How a model, or a variant of one, is to answer: what its configuration says goes into a request here, and only here.

Whatever dialect a request came in, it passes as worker messages. What a request says goes before what a model says,
but for `force`.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from proxy.links import Ask
from supervisor.config import Model, Sampling
from worker.protocol import Chat, Count, Generate, Render

Messages = list[dict[str, Any]]
_NOTHING = Sampling()


def instructed(ask: Ask, model: Model) -> Ask:
    """The request as this model's configuration has it. Where it says nothing, that is the request itself."""
    if not _says_something(model):
        return ask
    match ask:
        case Generate(prompt=prompt):
            if isinstance(prompt, Chat):
                prompt = chat(prompt, model)
            return replace(ask, prompt=prompt, sampling=sampling(ask.sampling, model))
        case Count(chat=found) | Render(chat=found):
            return replace(ask, chat=chat(found, model))
        case _:
            return ask


def _says_something(model: Model) -> bool:
    said = model.base or model.system_prompt or model.chat_template_kwargs
    return bool(said) or model.force != _NOTHING


def sampling(asked: Sampling, model: Model) -> Sampling:
    """Parameters of a request. Those that a model's worker knows as its own count there, after these."""
    found = model.force.over(asked)
    return found.over(model.sampling) if model.base else found


def chat(asked: Chat, model: Model) -> Chat:
    """A conversation with the model's system prompt and arguments of the template."""
    kwargs = {**model.chat_template_kwargs, **asked.template_kwargs}
    return replace(asked, messages=_prompted(asked.messages, model), template_kwargs=kwargs)


def _prompted(messages: Messages, model: Model) -> Messages:
    """One system message, since many templates take only the first: the request's own text follows the model's."""
    if not model.system_prompt:
        return messages
    own = {"role": "system", "content": model.system_prompt}
    if not any(message.get("role") == "system" for message in messages):
        return [own, *messages]
    if model.system_prompt_mode == "missing":
        return messages
    if messages[0].get("role") != "system":
        return [own, *messages]
    return [{**messages[0], "content": _joined(model.system_prompt, messages[0].get("content"))}, *messages[1:]]


def _joined(before: str, after: object) -> object:
    if isinstance(after, list):
        return [{"type": "text", "text": f"{before}\n\n"}, *after]
    return f"{before}\n\n{after}" if after else before
