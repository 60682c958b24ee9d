"""The worker that computes with llama.cpp: what `supervisor.boot` calls in a model's process.

Heavy libraries are imported in `prepare`, so that a standby has them done before it knows its model.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from supervisor import replicas
from supervisor.boot import Child
from supervisor.control import Facts
from worker import process
from worker.seams import Inbox, Load, Loaded, Outbox, Progress, TextSide, Vitals

if TYPE_CHECKING:
    from worker.chat.render import ChatTemplate
    from worker.clerk import Clerk
    from worker.context import Context
    from worker.cost import CostCurve
    from worker.embed.task import Task
    from worker.engine import EngineCore
    from worker.estate import Estate
    from worker.model import NativeModel
    from worker.native_log import NativeLog
    from worker.parked import Parked
    from worker.stages import Stages
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
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy is for arrays here: its threads would only wait
        import jinja2  # noqa: F401
        import numpy  # noqa: F401

        from worker import aside, binding, context, engine, estate, footprint, parked, textside, warmup  # noqa: F401
        from worker.embed import task  # noqa: F401
        from worker.native_log import NativeLog

        self._log = NativeLog()

    def load(self, order: Load, progress: Progress) -> Loaded:
        """Raises LoadError."""
        from worker import binding
        from worker.embed.task import decide
        from worker.model import NativeModel
        from worker.stages import Stages
        from worker.turns import Turn

        assert self._log is not None, "prepare comes first"
        self._log.settled = False
        began = time.monotonic()
        stages = Stages()
        binding.backend_init()
        model = NativeModel(order.model, self._log, progress)
        stages.done("file")
        task = decide(model.header, order.model)
        turn = Turn(order.turn) if order.turn >= 0 and model.on_cpu else None
        load = _generating if task.name == "generate" else _embedding
        loaded = load(order, model, task, turn, progress, began, stages)
        self._log.settled = True
        stages.done("rest")
        stages.tell()
        return loaded


def _generating(
    order: Load,
    model: NativeModel,
    task: Task,
    turn: Turn | None,
    progress: Progress,
    began: float,
    stages: Stages,
) -> Loaded:
    from worker import adapter_set
    from worker.aside import Aside
    from worker.context import Context
    from worker.estate import Estate
    from worker.parked import Parked
    from worker.warmup import calibrate

    with Aside(model, order.model, order.template) as aside:
        context = Context(model, order.model)
        stages.done("context")
        progress(1.0)
        costs = calibrate(context, turn, order.costs, adapter_set.configured(order.model.adapters))
        stages.done("warm_up")
        template, fingerprint = aside.result()
        stages.done("template")
    estate = Estate(order.parking, fingerprint, order.empty, order.left)
    parked = Parked(order.parking.budget, exact=context.memory.exact)
    estate.inherit(parked)
    return LlamaModel(order, model, context, template, costs, turn, estate, parked, began)


def _embedding(
    order: Load,
    model: NativeModel,
    task: Task,
    turn: Turn | None,
    progress: Progress,
    began: float,
    stages: Stages,
) -> Loaded:
    from worker import adapter_set
    from worker.chat.render import ChatTemplate
    from worker.embed import head
    from worker.embed.context import MAX_IDS, EmbedContext
    from worker.embed.loaded import EmbedModel
    from worker.embed.warmup import calibrate
    from worker.textside import LlamaText

    settings = order.model
    if task.name == "rerank":
        head.check(Path(settings.path), model.n_cls_out)
    context = EmbedContext(model, settings, task.pooling)
    progress(1.0)
    costs = calibrate(context, turn, order.costs, adapter_set.configured(settings.adapters))
    template = ChatTemplate.of(model, settings.chat_template, order.template)
    plain = LlamaText(model.vocabulary, template, context.limit, settings.sampling, MAX_IDS)
    facts = replace(_facts(model, template, began), task=task.name, pooling=task.pooling, infill=False)
    return EmbedModel(model, settings, context, costs, turn, plain, replace(facts, n_ctx=context.limit, slots=MAX_IDS))


def _facts(model: NativeModel, template: ChatTemplate, began: float) -> Facts:
    """What a model says of itself, whatever it is loaded for."""
    from worker.footprint import footprint

    vocabulary = model.vocabulary
    return Facts(
        architecture=model.meta("general.architecture") or "",
        description=model.description,
        n_ctx_train=model.n_ctx_train,
        n_vocab=vocabulary.size,
        n_embd=model.n_embd,
        n_params=model.n_params,
        size=model.size,
        vocab_type=vocabulary.type,
        chat_template=template.source,
        template_caps=template.caps.as_dict(),
        bos_token=vocabulary.text_of(vocabulary.bos),
        eos_token=vocabulary.text_of(vocabulary.eos),
        load_ms=(time.monotonic() - began) * 1000,
        on_cpu=model.on_cpu,
        memory=footprint(model.log.sizes),
        infill=vocabulary.fim.complete,
    )


class LlamaModel:
    """A loaded model with its context, its text side and, once it runs, its engine."""

    def __init__(
        self,
        order: Load,
        model: NativeModel,
        context: Context,
        template: ChatTemplate,
        costs: CostCurve,
        turn: Turn | None,
        estate: Estate,
        parked: Parked,
        began: float,
    ) -> None:
        from worker import adapter_set
        from worker.sampling import effective, from_gguf
        from worker.textside import LlamaText

        settings, vocabulary = order.model, model.vocabulary
        self._settings, self._context, self._costs, self._turn = settings, context, costs, turn
        self._estate, self._parked, self._slot_folder = estate, parked, order.slot_folder
        self._sampling = effective(settings.sampling, from_gguf(model.meta))
        self._adapters = adapter_set.configured(settings.adapters)
        self._text = LlamaText(
            vocabulary, template, context.n_ctx, self._sampling, context.parallel, settings.n_batch, len(model.adapters)
        )
        self._facts = replace(
            _facts(model, template, began), n_ctx=context.n_ctx, slots=context.parallel, sampling=self._sampling
        )

    @property
    def facts(self) -> Facts:
        return self._facts

    @property
    def costs(self) -> dict[int, float]:
        return self._costs.measured

    @property
    def text(self) -> TextSide:
        return self._text

    def run(self, inbox: Inbox, outbox: Outbox, vitals: Vitals) -> None:
        """Raises EngineError."""
        from worker.engine import EngineCore

        budget, patience = self._settings.prefill_time, self._settings.stream_delay
        engine = EngineCore(
            self._context, self._sampling, self._costs, self._turn, budget, outbox, vitals, self._parked, patience,
            self._adapters,
        )  # fmt: skip
        if self._slot_folder:
            engine.clerk = self._clerk(engine, inbox, outbox)
        engine.run(inbox)
        if self._parked.budget:
            engine.parking.save_all(engine.leave_at)
            self._estate.leave(self._parked, engine.leave_at)

    def _clerk(self, engine: EngineCore, inbox: Inbox, outbox: Outbox) -> Clerk:
        from worker.clerk import Clerk
        from worker.slot_files import SlotFiles
        from worker.slots import Slots

        files = SlotFiles(self._slot_folder, self._estate.fingerprint, replicas.base(self._settings.name))
        return Clerk(Slots(engine.pool, engine.parking, self._context.memory), files, inbox, outbox)
