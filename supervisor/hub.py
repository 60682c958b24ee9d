"""Models in local caches: that of the Hugging Face libraries, and llama.cpp's older one. Nothing is downloaded.

Hugging Face: HUB/models--USER--REPO/snapshots/REVISION/…, with refs/main naming a revision; files are links to blobs.
llama.cpp: CACHE/USER_REPO_FILE.gguf, with manifest=USER=REPO=TAG.json beside it. A model is "user/repo:QUANT".
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from supervisor.shelf import Files, group

_QUANT = re.compile(
    r"(?:^|[-._/])((?:UD-)?(?:I?Q[0-9]+|TQ[0-9]+|MXFP4|NVFP4|BF16|F16|F32)(?:_[A-Z0-9]+)*)$", re.IGNORECASE
)
_PREFERRED = "Q4_K_M"
_MANIFEST = re.compile(r"manifest=([^=]+)=([^=]+)(?:=[^=]+)?\.json")
_DEPTH = 3  # of folders in a snapshot


@dataclass(frozen=True, slots=True)
class Caches:
    """Where they are; "" if there is none."""

    hub: str
    llama: str


@dataclass(frozen=True, slots=True)
class Absent:
    """Why a model is in no cache, and what to do."""

    problem: str


def caches(environment: Mapping[str, str]) -> Caches:
    """As the libraries themselves look for them."""
    home = environment.get("HOME", "/")
    base = environment.get("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    hugging = environment.get("HF_HOME") or os.path.join(base, "huggingface")
    hub = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE") or os.path.join(hugging, "hub")
    return Caches(hub, environment.get("LLAMA_CACHE") or os.path.join(base, "llama.cpp"))


def resolve(spec: str, places: Caches) -> Files | Absent:
    """The files of "user/repo" or "user/repo:QUANT". Raises OSError."""
    repository, _, quant = spec.partition(":")
    models = _models(repository, places)
    if not models:
        way_out = f"hf download {spec.partition(':')[0]} fetches it into {places.hub}"
        return Absent(f"{repository} is in no local cache; {way_out}, or name a file by path")
    chosen = pick(models, quant)
    if chosen is None:
        have = ", ".join(sorted({_quant(model.name) or model.name for model in models}))
        return Absent(f"{repository} is in the local cache, but not {quant}; there is: {have}")
    return chosen


def pick(models: list[Files], quant: str) -> Files | None:
    """The model of a quantization; without one Q4_K_M, else the first."""
    wanted = (quant or _PREFERRED).lower()
    exact = [model for model in models if _quant(model.name).lower() == wanted]
    near = [model for model in models if wanted in model.name.lower()]
    return next(iter([*exact, *near, *([] if quant else models)]), None)


def offered(places: Caches, visit: Callable[[str], None]) -> list[Files]:
    """Every model of the caches, as "user/repo:QUANT". `visit` is called with each repository before."""
    found: dict[str, Files] = {}
    for repository in sorted({*_hub_repositories(places.hub), *_llama_repositories(places.llama)}):
        visit(repository)
        for model in _models(repository, places):
            name = f"{repository}:{_quant(model.name)}" if _quant(model.name) else f"{repository}:{model.name}"
            found.setdefault(name, Files(name, model.paths, model.projector))
    return list(found.values())


def _models(repository: str, places: Caches) -> list[Files]:
    return [*_in_hub(repository, places.hub), *_in_llama(repository, places.llama)]


def _in_hub(repository: str, hub: str) -> list[Files]:
    folder = os.path.join(hub, "models--" + repository.replace("/", "--"))
    snapshot = _snapshot(folder)
    if not snapshot:
        return []
    found: list[Files] = []
    projector = ""
    for at, folders, names in os.walk(snapshot):
        if at[len(snapshot) :].count(os.sep) >= _DEPTH:
            folders.clear()
        folders.sort()
        models = group([name for name in names if name.lower().endswith(".gguf")], at, "x")
        shown = group([name for name in names if name.lower().endswith(".gguf")], at)
        projector = projector or next((model.projector for model in models if model.projector), "")
        found += shown
    return [Files(model.name, model.paths, projector) for model in found]


def _snapshot(folder: str) -> str:
    """The folder of the revision that main is, else of the newest one; "" if there is none."""
    snapshots = os.path.join(folder, "snapshots")
    try:
        with open(os.path.join(folder, "refs", "main"), encoding="ascii", errors="replace") as file:
            revision = file.read(100).strip()
        if revision and "/" not in revision and os.path.isdir(os.path.join(snapshots, revision)):
            return os.path.join(snapshots, revision)
    except OSError:
        pass  # no main: downloaded by revision
    try:
        with os.scandir(snapshots) as listing:
            dated = [(entry.stat().st_mtime, entry.path) for entry in listing if entry.is_dir()]
    except OSError:
        return ""
    return max(dated)[1] if dated else ""


def _in_llama(repository: str, cache: str) -> list[Files]:
    prefix = repository.replace("/", "_") + "_"
    names = [name for name in _names(cache) if name.startswith(prefix) and name.lower().endswith(".gguf")]
    bare = group([name.removeprefix(prefix) for name in names], cache, "x")
    projector = next((model.projector for model in bare if model.projector), "")
    projector = os.path.join(cache, prefix + os.path.basename(projector)) if projector else ""
    found = group([name.removeprefix(prefix) for name in names], cache)
    return [
        Files(
            model.name, tuple(os.path.join(cache, prefix + os.path.basename(path)) for path in model.paths), projector
        )
        for model in found
    ]


def _hub_repositories(hub: str) -> list[str]:
    names = (name.removeprefix("models--") for name in _names(hub) if name.startswith("models--"))
    return [name.replace("--", "/", 1) for name in names if "--" in name]


def _llama_repositories(cache: str) -> list[str]:
    matches = (_MANIFEST.fullmatch(name) for name in _names(cache))
    return [f"{match[1]}/{match[2]}" for match in matches if match]


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _quant(name: str) -> str:
    match = _QUANT.search(name)
    return match[1].upper() if match else ""
