"""Models as Ollama's clients see them: /api/tags, /api/ps, /api/show. API.md, 9. Nothing here loads one."""

from __future__ import annotations

import datetime
import hashlib
import re
from dataclasses import dataclass
from typing import Any

from proxy.dialects.ollama_names import shown
from supervisor.card import Card
from supervisor.config import LLAMA_DEFAULTS, Model, Sampling
from supervisor.control import Facts

_QUANTIZATION = re.compile(r"\b(I?Q\d\w*|BF16|F16|F32|MXFP4\w*)\b")
_THOUGHTS = ("<think>", "enable_thinking", "reasoning_content", "<|channel|>", "thinking")
_NEVER = datetime.timedelta(days=290 * 365)


@dataclass(frozen=True)
class About:
    """What is known of a model; `facts` None until it was loaded once, `card` what its file's header says."""

    model: Model
    facts: Facts | None
    card: Card

    @property
    def modified(self) -> int:
        """Unix time."""
        return self.card.modified

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return self.card.file_size

    @property
    def thinks(self) -> bool | None:
        """Whether its template knows of thinking; None while that is not known."""
        if self.facts:
            return any(mark in self.facts.chat_template for mark in _THOUGHTS)
        return self.card.capabilities.reasoning if self.card.architecture else None

    @property
    def capabilities(self) -> list[str]:
        able = self.card.capabilities
        tools = self.facts.template_caps.get("supports_tools") if self.facts else able.function_calling
        has = {"embedding": able.embedding, "completion": not able.embedding, "tools": tools, "insert": able.infill}
        return [name for name, there in (has | {"vision": able.vision, "thinking": self.thinks}).items() if there]


def tag(about: About) -> dict[str, Any]:
    """An entry of /api/tags."""
    return _head(about) | {"modified_at": moment(about.modified), "capabilities": about.capabilities}


def process(about: About, expires_at: float | None) -> dict[str, Any]:
    """An entry of /api/ps; `expires_at` in Unix seconds, None: as long as its place is not needed."""
    on_gpu = about.facts is not None and not about.facts.on_cpu
    never = datetime.datetime.now(datetime.UTC) + _NEVER
    return _head(about) | {
        "size_vram": about.size if on_gpu else 0,
        "expires_at": never.isoformat() if expires_at is None else moment(expires_at),
        "context_length": about.facts.n_ctx if about.facts else about.model.n_ctx,
    }


def show(about: About) -> dict[str, Any]:
    """The answer of /api/show."""
    facts = about.facts
    return {
        "modelfile": "",
        "parameters": _parameters(about.model.sampling.over(facts.sampling) if facts else about.model.sampling),
        "template": facts.chat_template if facts else "",
        "details": _details(about),
        "model_info": _info(facts or about.card),
        "capabilities": about.capabilities,
        "modified_at": moment(about.modified),
    }


def moment(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()


def _head(about: About) -> dict[str, Any]:
    name = shown(about.model.name)
    seed = f"{about.model.name}\0{about.size}\0{about.modified}"  # of no content: that would mean to read it all
    digest = hashlib.sha256(seed.encode()).hexdigest()
    return {"name": name, "model": name, "size": about.size, "digest": digest, "details": _details(about)}


def _details(about: About) -> dict[str, Any]:
    known = about.facts or about.card
    match = _QUANTIZATION.search(about.facts.description if about.facts else "")
    return {
        "parent_model": "",
        "format": "gguf",
        "family": known.architecture,
        "families": [known.architecture] if known.architecture else [],
        "parameter_size": _count(known.n_params),
        "quantization_level": about.card.quantization or (match[1] if match else ""),
    }


def _info(facts: Facts | Card) -> dict[str, Any]:
    arch = facts.architecture
    if not arch:
        return {}
    return {
        "general.architecture": arch,
        "general.parameter_count": facts.n_params,
        f"{arch}.context_length": facts.n_ctx_train,
        f"{arch}.embedding_length": facts.n_embd,
        f"{arch}.vocab_size": facts.n_vocab,
    }


def _parameters(sampling: Sampling) -> str:
    """The defaults that are not llama.cpp's own, one a line."""
    pairs = ((name, getattr(sampling, name)) for name in Sampling.__struct_fields__)
    said = [(name, value) for name, value in pairs if value is not None and value != getattr(LLAMA_DEFAULTS, name)]
    return "\n".join(f"{name:<30} {value}" for name, value in said if not isinstance(value, tuple))


def _count(parameters: int) -> str:
    """`134.5M`, `8.0B`."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if parameters >= size:
            return f"{parameters / size:.1f}{unit}"
    return str(parameters) if parameters else ""
