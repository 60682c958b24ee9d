"""Pure: an INI file as llama-server's --models-preset reads it → tables like those of [models.NAME].

A section is a model, `[*]` is what all have; a key is a long or short option without its dashes, or its environment
variable. A section without a file is about the model of that name in models_dir, or the repository that it names. What
we have no key for is skipped, with a warning. Format: llama.cpp's docs/preset.md and tools/server/README.md.

llama-server's ctx-size is the memory of all sequences, our n_ctx is that of one. So where a file says `parallel`, each
sequence gets its part; where it does not, or shares the memory (kv-unified), there is one sequence with all of it.
"""

from __future__ import annotations

import configparser
from collections.abc import Callable, Mapping
from typing import Any

from supervisor.schema import Invalid

_ALL = "*"
_TOP = "\0"  # what stands before the first section: the file's version
_PREFIX = "LLAMA_ARG_"
_WORDS = {"1": True, "true": True, "on": True, "enabled": True, "0": False, "false": False, "off": False}
_WORDS |= {"yes": True, "no": False, "disabled": False}
Table = dict[str, Any]


def read(text: str) -> tuple[dict[str, Table], list[str]]:
    """Section → table, and warnings. Raises Invalid whose path is section and key, or configparser.Error."""
    parser = configparser.ConfigParser(
        interpolation=None, delimiters=("=",), default_section="", strict=False, empty_lines_in_values=False
    )
    parser.optionxform = lambda optionstr: optionstr  # type: ignore[method-assign]
    parser.read_string(f"[{_TOP}]\n{text}")
    shared = dict(parser[_ALL]) if parser.has_section(_ALL) else {}
    tables, warnings = {}, []
    for section in parser.sections():
        if section not in (_TOP, _ALL):
            tables[section], odd = _table(section, {**shared, **parser[section]})
            warnings += [f"[{section}].{text}, ignored" for text in odd]
    return tables, warnings


def _table(section: str, options: Mapping[str, str]) -> tuple[Table, list[str]]:
    """One model's table, and what of it means nothing to us."""
    table: Table = {"sampling": {}}
    odd: list[str] = []
    said: dict[str, str] = {}
    for key, value in options.items():
        name = canonical(key)
        if name in _SAMPLING:
            field, kind = _SAMPLING[name]
            table["sampling"][field] = kind(section, key, value)
        elif name in _PLAIN:
            field, kind = _PLAIN[name]
            table[field] = kind(section, key, value)
        elif name in _SPECIAL or name in _SILENT:
            said[name] = value
        else:
            odd.append(f"{key}: not known here")
    table |= _special(section, said)
    if said.get("cache-type-k", "f16") != said.get("cache-type-v", "f16"):
        odd.append("cache-type-k: K and V of one type only")
    return table, odd


def canonical(key: str) -> str:
    """The long option's name for any of its spellings."""
    if key.startswith(_PREFIX):
        key = key.removeprefix(_PREFIX).lower().replace("_", "-")
    key = key.lstrip("-")
    return _SPELLINGS.get(key, key)


def _special(section: str, said: Mapping[str, str]) -> Table:
    """Options of which several make one key."""
    found: Table = {}
    if "no-mmap" in said:
        found["mmap"] = not _bool(section, "no-mmap", said["no-mmap"])
    if "load-mode" in said:
        modes = {"none": (False, False), "auto": (True, False), "dio": (False, False)}
        modes |= {"mmap": (True, False), "mlock": (False, True), "mmap+mlock": (True, True)}
        if said["load-mode"] not in modes:
            raise Invalid((section, "load-mode"), " or ".join(modes), said["load-mode"])
        found["mmap"], found["mlock"] = modes[said["load-mode"]]
    if "cache-type-k" in said and said.get("cache-type-v", "f16") == said["cache-type-k"]:
        found["kv"] = said["cache-type-k"]
    unified = "kv-unified" in said and _bool(section, "kv-unified", said["kv-unified"])
    parallel = 0 if unified else max(0, _int(section, "parallel", said.get("parallel", "0")))
    if lora := _lora(section, said):
        found["lora"] = lora
    if "ctx-size" in said:
        found["n_ctx"] = _int(section, "ctx-size", said["ctx-size"]) // max(1, parallel)
        found["parallel"] = max(1, parallel)
    elif parallel:
        found["parallel"] = parallel
    return found


def _lora(section: str, said: Mapping[str, str]) -> list[Table]:
    """Adapters by their paths, and by pairs like a.gguf:0.5."""
    found: list[Table] = [{"path": path} for path in _words(section, "lora", said.get("lora", ""))]
    for word in _words(section, "lora-scaled", said.get("lora-scaled", "")):
        path, colon, scale = word.rpartition(":")
        if not colon:
            raise Invalid((section, "lora-scaled"), "paths and scales like a.gguf:0.5,b.gguf:1", word)
        found.append({"path": path, "scale": _float(section, "lora-scaled", scale)})
    off = "lora-init-without-apply" in said and _bool(
        section, "lora-init-without-apply", said["lora-init-without-apply"]
    )
    return [{**each, "scale": 0.0} for each in found] if off else found


def _int(section: str, key: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Invalid((section, key), "integer", text) from None


def _float(section: str, key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Invalid((section, key), "number", text) from None


def _bool(section: str, key: str, text: str) -> bool:
    if text.lower() not in _WORDS:
        raise Invalid((section, key), "true or false", text)
    return _WORDS[text.lower()]


def _text(section: str, key: str, text: str) -> str:
    return text


def _words(section: str, key: str, text: str) -> list[str]:
    return [word for part in text.split(",") if (word := part.strip())]


def _samplers(section: str, key: str, text: str) -> list[str]:
    return [word for part in text.split(";") if (word := part.strip())]


def _layers(section: str, key: str, text: str) -> int:
    return -1 if text in ("auto", "all") else _int(section, key, text)


def _threads(section: str, key: str, text: str) -> int:
    return max(0, _int(section, key, text))


def _attention(section: str, key: str, text: str) -> str:
    return text if text == "auto" else "on" if _bool(section, key, text) else "off"


Kind = Callable[[str, str, str], Any]

_SPELLINGS = {
    "m": "model", "hf": "hf-repo", "hfr": "hf-repo", "mm": "mmproj", "a": "alias", "c": "ctx-size", "b": "batch-size",
    "batch": "batch-size", "ub": "ubatch-size", "ubatch": "ubatch-size", "t": "threads", "ngl": "n-gpu-layers",
    "gpu-layers": "n-gpu-layers", "n-gpu-layer": "n-gpu-layers", "fa": "flash-attn", "ctk": "cache-type-k",
    "ctv": "cache-type-v", "np": "parallel", "n-parallel": "parallel", "kvu": "kv-unified", "lm": "load-mode",
    "temperature": "temp", "s": "seed", "n": "n-predict", "predict": "n-predict", "top-n-sigma": "top-nsigma",
    "typical-p": "typical", "sampling-seq": "sampler-seq",
}  # fmt: skip
_PLAIN: dict[str, tuple[str, Kind]] = {
    "model": ("path", _text), "hf-repo": ("hf", _text), "mmproj": ("mmproj", _text), "alias": ("aliases", _words),
    "tags": ("tags", _words), "batch-size": ("n_batch", _int), "ubatch-size": ("n_ubatch", _int),
    "threads": ("threads", _threads), "n-gpu-layers": ("n_gpu_layers", _layers),
    "flash-attn": ("flash_attention", _attention), "mmap": ("mmap", _bool), "mlock": ("mlock", _bool),
    "chat-template-file": ("chat_template", _text), "load-on-startup": ("preload", _bool),
}  # fmt: skip
_SPECIAL = {"no-mmap", "load-mode", "cache-type-k", "cache-type-v", "kv-unified", "parallel", "ctx-size"}
_SPECIAL |= {"lora", "lora-scaled", "lora-init-without-apply"}
_SILENT = {"jinja", "cont-batching", "warmup"}  # always on here
_SAMPLING: dict[str, tuple[str, Kind]] = {
    "temp": ("temperature", _float), "top-k": ("top_k", _int), "top-p": ("top_p", _float), "min-p": ("min_p", _float),
    "typical": ("typical_p", _float), "top-nsigma": ("top_n_sigma", _float), "seed": ("seed", _int),
    "xtc-probability": ("xtc_probability", _float), "xtc-threshold": ("xtc_threshold", _float),
    "repeat-last-n": ("repeat_last_n", _int), "repeat-penalty": ("repeat_penalty", _float),
    "presence-penalty": ("presence_penalty", _float), "frequency-penalty": ("frequency_penalty", _float),
    "dry-multiplier": ("dry_multiplier", _float), "dry-base": ("dry_base", _float),
    "dry-allowed-length": ("dry_allowed_length", _int), "dry-penalty-last-n": ("dry_penalty_last_n", _int),
    "adaptive-target": ("adaptive_target", _float), "adaptive-decay": ("adaptive_decay", _float),
    "dynatemp-range": ("dynatemp_range", _float), "dynatemp-exp": ("dynatemp_exponent", _float),
    "mirostat": ("mirostat", _int), "mirostat-lr": ("mirostat_eta", _float), "mirostat-ent": ("mirostat_tau", _float),
    "samplers": ("samplers", _samplers), "n-predict": ("max_tokens", _int), "ignore-eos": ("ignore_eos", _bool),
}  # fmt: skip
