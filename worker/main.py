"""The worker that computes with llama.cpp: what `supervisor.boot` calls in a model's process.

Heavy libraries are imported in `prepare`, so that a standby has them done before it knows its model.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from supervisor.boot import Child
from supervisor.control import Facts
from worker import process
from worker.seams import Inbox, Load, Loaded, Outbox, Progress, TextSide, Vitals

if TYPE_CHECKING:
    from worker.context import Context
    from worker.cost import CostCurve
    from worker.model import NativeModel
    from worker.native_log import NativeLog
    from worker.turns import Turn


def main(child: Child) -> int:
    """The process. Returns its exit code."""
    return process.run(child, Llama())


class Llama:
    """Loads GGUF files through llama.cpp."""

    def __init__(self) -> None:
        self._log: NativeLog | None = None

    def prepare(self) -> None:
        os.environ["GGML_NO_BACKTRACE"] = "1"  # else an assertion starts a debugger before it ends the process
        import jinja2  # noqa: F401
        import numpy  # noqa: F401

        from worker import binding, engine  # noqa: F401
        from worker.native_log import NativeLog

        self._log = NativeLog()

    def load(self, order: Load, progress: Progress) -> Loaded:
        """Raises LoadError."""
        from worker import binding
        from worker.context import Context
        from worker.model import NativeModel
        from worker.turns import Turn
        from worker.warmup import calibrate

        assert self._log is not None, "prepare comes first"
        began = time.monotonic()
        binding.backend_init()
        model = NativeModel(order.model, self._log, progress)
        context = Context(model, order.model)
        progress(1.0)
        costs = calibrate(context)
        turn = Turn(order.turn) if order.turn >= 0 and model.on_cpu else None
        return LlamaModel(order, model, context, costs, turn, began)


class LlamaModel:
    """A loaded model with its context, its text side and, once it runs, its engine."""

    def __init__(
        self, order: Load, model: NativeModel, context: Context, costs: CostCurve, turn: Turn | None, began: float
    ) -> None:
        from worker.chat.render import ChatTemplate
        from worker.footprint import footprint
        from worker.sampling import effective, from_gguf
        from worker.textside import LlamaText

        settings, vocabulary = order.model, model.vocabulary
        self._settings, self._context, self._costs, self._turn = settings, context, costs, turn
        template = ChatTemplate.of(model, settings.chat_template)
        self._sampling = effective(settings.sampling, from_gguf(model.meta))
        self._text = LlamaText(vocabulary, template, context.n_ctx, self._sampling, context.parallel)
        self._facts = Facts(
            architecture=model.meta("general.architecture") or "",
            description=model.description,
            n_ctx=context.n_ctx,
            n_ctx_train=model.n_ctx_train,
            n_vocab=vocabulary.size,
            n_embd=model.n_embd,
            n_params=model.n_params,
            size=model.size,
            vocab_type=vocabulary.type,
            slots=context.parallel,
            chat_template=template.source,
            template_caps=template.caps.as_dict(),
            bos_token=vocabulary.text_of(vocabulary.bos),
            eos_token=vocabulary.text_of(vocabulary.eos),
            sampling=self._sampling,
            load_ms=(time.monotonic() - began) * 1000,
            on_cpu=model.on_cpu,
            memory=footprint(model.log.sizes),
        )

    @property
    def facts(self) -> Facts:
        return self._facts

    @property
    def text(self) -> TextSide:
        return self._text

    def run(self, inbox: Inbox, outbox: Outbox, vitals: Vitals) -> None:
        """Raises EngineError."""
        from worker.engine import EngineCore

        budget = self._settings.prefill_time
        EngineCore(self._context, self._sampling, self._costs, self._turn, budget, outbox, vitals).run(inbox)
