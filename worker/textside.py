"""Prompts and token lists of a llama.cpp model: what the I/O thread does for a request before the engine sees it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from supervisor.config import Sampling
from worker import chain, infill
from worker.chat.machine import Machine
from worker.chat.parser import TAIL, Parser
from worker.chat.render import ChatTemplate
from worker.failure import RequestError
from worker.guide import Guide
from worker.guides import Guides
from worker.protocol import Chat, Embed, Generate, Infill, Rerank, Text, Tokenize, Tokens
from worker.vocabulary import Vocabulary


class LlamaText:
    """See worker.seams.TextSide."""

    def __init__(
        self, vocabulary: Vocabulary, template: ChatTemplate, n_ctx: int, defaults: Sampling, parallel: int,
        n_batch: int = 2048, adapters: int = 0,
    ) -> None:  # fmt: skip
        """`defaults` are the model's effective sampling parameters; `parallel` is how many sequences run at once.

        `n_batch` bounds what of the text around a hole is shown to the model; `adapters` is how many LoRAs it has.
        """
        self._vocabulary, self._template, self._n_ctx = vocabulary, template, n_ctx
        self._defaults, self._parallel, self._n_batch, self._adapters = defaults, parallel, n_batch, adapters
        several = template.caps.parallel_tool_calls or not template.caps.tool_calls
        self._parser = Parser(template.sources, vocabulary.hidden, parallel=several, render=template.shown)
        self._guides = Guides(vocabulary, self._parser)

    def check(self, request: Generate) -> None:
        """Raises RequestError: invalid_value, invalid_grammar, unsupported_feature."""
        if (n := 1 + len(request.siblings)) > self._parallel:
            raise RequestError("invalid_value", f"n: expected integer from 1 to {self._parallel}, got {n}", param="n")
        for index, (id, _) in enumerate(request.lora or ()):
            if id >= self._adapters:
                place = f"lora[{index}].id"
                known = f"the id of an adapter, 0 to {self._adapters - 1}" if self._adapters else "no adapter"
                hint = "" if self._adapters else "; this model has none"
                raise RequestError("invalid_value", f"{place}: expected {known}, got {id}{hint}", param=place)
        self._guides.plan(request)
        chain.check(request.sampling.over(self._defaults), self._vocabulary)

    def prompt(self, prompt: Chat | Text | Infill) -> list[int]:
        """Raises RequestError: as `tokens`, context_length_exceeded."""
        tokens = self.tokens(prompt)
        if len(tokens) >= self._n_ctx:
            text = f"the request ({len(tokens)} tokens) exceeds the available context size ({self._n_ctx} tokens)"
            raise RequestError("context_length_exceeded", text, n_prompt_tokens=len(tokens), n_ctx=self._n_ctx)
        return tokens

    def tokens(self, prompt: Chat | Text | Infill) -> list[int]:
        """Raises RequestError: template_error, invalid_value, unsupported_feature."""
        if isinstance(prompt, Infill):
            return infill.tokens(prompt, self._vocabulary, self._n_ctx, self._n_batch)
        pieces: Sequence[tuple[str, bool] | int]
        if isinstance(prompt, Chat):
            pieces = self._template.pieces(prompt)
        else:
            self._check(token for token in prompt.pieces if isinstance(token, int))
            pieces = [piece if isinstance(piece, int) else (piece, True) for piece in prompt.pieces]
        tokens = self._vocabulary.prompt(pieces)
        if not tokens:
            raise RequestError("invalid_value", "the prompt is empty", param="prompt")
        return tokens

    def inputs(self, request: Embed | Rerank) -> list[list[int]]:
        """Raises RequestError: unsupported_feature."""
        feature = "embeddings" if isinstance(request, Embed) else "reranking"
        key = "embed" if isinstance(request, Embed) else "rerank"
        text = f'this model is loaded to generate text; {feature} need a model with task = "{key}"'
        raise RequestError("unsupported_feature", text, feature=feature)

    def machine(self, request: Generate, prompt: Sequence[int]) -> Machine | None:
        return self._parser.machine(request, lambda: self._vocabulary.detokenize(prompt[-TAIL:]))

    def guides(self, request: Generate, prompt: Sequence[int], machines: Sequence[Machine | None]) -> Sequence[Guide]:
        plan = self._guides.plan(request)
        if plan is None:
            return ()
        tail = self._vocabulary.detokenize(prompt[-TAIL:])
        return tuple(self._guides.guide(plan, request, machine, lambda: tail) for machine in machines)

    def render(self, chat: Chat) -> str:
        """Raises RequestError: template_error."""
        return self._template.render(chat)

    def tokenize(self, request: Tokenize) -> Tokens:
        tokens: list[int] = []
        first = True
        for piece in request.pieces:
            if isinstance(piece, int):
                self._check((piece,))
                tokens.append(piece)
            else:
                add = request.add_special and first
                tokens += self._vocabulary.tokenize(piece, special=request.parse_special, add_special=add)
            first = False
        spelled = [self._vocabulary.spell(token) for token in tokens] if request.with_pieces else None
        return Tokens(request.id, tokens, spelled)

    def detokenize(self, tokens: Sequence[int]) -> str:
        self._check(tokens)
        return self._vocabulary.detokenize(tokens)

    def _check(self, tokens: Iterable[int]) -> None:
        """An id outside the vocabulary would be read out of bounds by llama.cpp."""
        for token in tokens:
            if not 0 <= token < self._vocabulary.size:
                text = f"token {token} is not in the vocabulary (0 to {self._vocabulary.size - 1})"
                raise RequestError("invalid_value", text, param="tokens")
