"""What a worker does with a model: generate, embed or rerank, and how it pools. Pure. ENGINE.md, 16."""

from __future__ import annotations

from dataclasses import dataclass

from supervisor import config
from worker.failure import LoadError

# llama.cpp gives these no memory: each text is computed whole, every token sees every other one
ENCODERS = frozenset({
    "bert", "modern-bert", "neo-bert", "eurobert", "jina-bert-v2", "jina-bert-v3", "nomic-bert", "nomic-bert-moe",
    "gemma-embedding", "t5encoder",
})  # fmt: skip
_UNSUITED = {  # what llama.cpp would abort on, or compute nonsense with
    "t5": "an encoder-decoder model is not supported",
    "eagle3": "a draft model is no model of its own",
    "dflash": "a draft model is no model of its own",
}


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says. `pooling` is "" where it says nothing; `labels`: it has those of a classifier."""

    architecture: str
    pooling: str = ""
    causal: bool = True
    diffusion: bool = False
    labels: bool = False

    @property
    def encoder(self) -> bool:
        return self.architecture in ENCODERS or not (self.causal or self.diffusion)


@dataclass(frozen=True, slots=True)
class Task:
    """`name` is "generate", "embed" or "rerank"; `pooling` a word of Model.pooling, "" for a model that generates."""

    name: str
    pooling: str = ""


def decide(header: Header, settings: config.Model) -> Task:
    """The configuration wins, then what the file says. Raises LoadError for what cannot be."""
    name = settings.task if settings.task != "auto" else _name(header, settings.pooling)
    if header.architecture in _UNSUITED:
        raise _wrong(f"{header.architecture}: {_UNSUITED[header.architecture]}")
    if name == "generate":
        if header.encoder:
            raise _wrong('the model is an encoder: it cannot generate text; task = "embed" is what it can')
        return Task(name)
    if header.diffusion:
        raise _wrong(f'{header.architecture}: a diffusion model gives no vectors; task = "{name}" cannot be')
    if name == "rerank":
        if settings.pooling not in ("auto", "rank"):
            raise _wrong(f'task = "rerank" needs pooling = "rank", not "{settings.pooling}"')
        return Task(name, "rank")
    if settings.pooling == "rank":
        raise _wrong('pooling = "rank" gives scores, not vectors; task = "rerank" is what uses it')
    return Task(name, settings.pooling if settings.pooling != "auto" else _pooling(header))


def _name(header: Header, pooling: str) -> str:
    if pooling != "auto":
        return "rerank" if pooling == "rank" else "embed"
    if header.pooling == "rank" or (header.labels and header.pooling in ("", "none")):
        return "rerank"
    return "embed" if header.encoder or header.pooling not in ("", "none") else "generate"


def _pooling(header: Header) -> str:
    """The file's; without one a causal model's last token has seen the whole text, an encoder's tokens all have."""
    if header.pooling and header.pooling != "rank" and (header.encoder or header.pooling != "none"):
        return header.pooling
    return "none" if header.encoder else "last"


def _wrong(text: str) -> LoadError:
    return LoadError("load_error", text, permanent=True)
