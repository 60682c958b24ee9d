"""A loaded model that gives vectors: context, text side and, once it runs, engine. Made by worker.main."""

from __future__ import annotations

from supervisor import config
from supervisor.control import Facts
from worker.cost import CostCurve
from worker.embed.context import EmbedContext
from worker.embed.engine import EmbedCore
from worker.embed.rerank import Pairs
from worker.embed.textside import EmbedText
from worker.failure import LoadError
from worker.model import NativeModel
from worker.seams import Inbox, Outbox, TextSide, Vitals
from worker.turns import Turn


class EmbedModel:
    """See worker.seams.Loaded."""

    def __init__(
        self, model: NativeModel, settings: config.Model, context: EmbedContext, costs: CostCurve, turn: Turn | None,
        plain: TextSide, facts: Facts,
    ) -> None:  # fmt: skip
        """`plain` and `facts` are what the model would have for text alone; what differs is put in here."""
        self._settings, self._context, self._costs, self._turn = settings, context, costs, turn
        ranks, width = context.pooling == "rank", context.width
        if any(size > width for size in settings.dimensions) and not ranks:
            raise LoadError("load_error", f"dimensions: the model's vectors have {width} numbers", permanent=True)
        pairs = Pairs(model.vocabulary, model.chat_template("rerank")) if ranks else None
        pooled, sizes = context.pooling != "none", settings.dimensions
        self._text = EmbedText(plain, model.vocabulary, pairs, context.limit, width, pooled=pooled, dimensions=sizes)
        self._facts = facts

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
        normalize, budget = self._settings.embd_normalize, self._settings.prefill_time
        EmbedCore(self._context, normalize, self._costs, self._turn, budget, outbox, vitals).run(inbox)
