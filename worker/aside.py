"""What a load needs beside the context, made in a thread of its own meanwhile: llama.cpp leaves Python idle there.

Making a context is mostly the kernel's work of giving it zeroed memory; the vocabulary's pieces, the template's probes
and the fingerprint are Python's. Together they take as long as the longer of the two.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from supervisor import config
from worker import fingerprint
from worker.chat.render import ChatTemplate
from worker.model import NativeModel


class Aside:
    """A context manager; leaving it waits for the thread. The model must not be freed before."""

    def __init__(self, model: NativeModel, settings: config.Model, template: str) -> None:
        """`template`: the text of a chat template, "" for the configured one."""
        self._pool = ThreadPoolExecutor(1, "aside")
        self._work = self._pool.submit(_prepare, model, settings, template)

    def __enter__(self) -> Aside:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown()

    def result(self) -> tuple[ChatTemplate, bytes]:
        """The chat template, and the fingerprint of model and settings. Raises LoadError."""
        return self._work.result()


def _prepare(model: NativeModel, settings: config.Model, template: str) -> tuple[ChatTemplate, bytes]:
    return ChatTemplate.of(model, settings.chat_template, template), fingerprint.of(settings)
