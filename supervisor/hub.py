"""Models in local caches: that of the Hugging Face libraries, and llama.cpp's older one. They are only read here.

Hugging Face: HUB/models--USER--REPO/snapshots/REVISION/…, with refs/main naming a revision; files are links to blobs.
llama.cpp: CACHE/USER_REPO_FILE.gguf, with manifest=USER=REPO=TAG.json beside it. A model is "user/repo:QUANT".
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from supervisor.shelf import Files, best_projector, group, is_projector

_QUANT = re.compile(
    r"(?:^|[-._/])((?:UD-)?(?:I?Q[0-9]+|TQ[0-9]+|MXFP4|NVFP4|BF16|F16|F32)(?:_[A-Z0-9]+)*)$", re.IGNORECASE
)
_PREFERRED = ("Q4_K_M", "Q4_K_S", "Q4_0", "IQ4_XS", "Q4_1", "Q5_K_M", "Q6_K", "Q8_0")  # small, and good enough
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
        return Absent(f"{repository} is in no local cache; {_way_out(spec)}, or name a file by path")
    chosen = pick(models, quant)
    if chosen is None:
        have = ", ".join(sorted({_quant(model.name) or model.name for model in models}))
        return Absent(f"{repository} is in the local cache, but not {quant}; there is: {have}; {_way_out(spec)}")
    return chosen


def _way_out(spec: str) -> str:
    return f'POST /models {{"model": "{spec}"}} fetches it, or [sources] autodownload'


def pick(models: list[Files], quant: str) -> Files | None:
    """The model of a quantization; without one Q4_K_M, else the next best, else the first."""
    exact = [model for word in ([quant] if quant else _PREFERRED) for model in models if _is(model, word.lower())]
    near = [model for model in models if quant and quant.lower() in model.name.lower()]
    return next(iter([*exact, *near, *([] if quant else models)]), None)


def title(repository: str, model: Files) -> str:
    """What one of a repository's models is called here."""
    return f"{repository}:{_quant(model.name) or model.name}"


def arrange(paths: Iterable[str]) -> list[Files]:
    """Pure: the models among a repository's files, which are given by their paths in it; so are those of the models."""
    folders: dict[str, list[str]] = {}
    for path in sorted(paths, key=lambda path: (os.path.dirname(path), path)):
        if path.lower().endswith(".gguf") and path.count("/") <= _DEPTH:
            folders.setdefault(os.path.dirname(path), []).append(os.path.basename(path))
    found = [model for at, names in folders.items() for model in group(names, at)]
    titled = [model.projector for at, names in folders.items() for model in group(names, at, "x")]
    projector = next((path for path in titled if path), "") or _lone_projector(folders)
    return [Files(model.name, model.paths, projector) for model in found]


def _lone_projector(folders: Mapping[str, list[str]]) -> str:
    """One in a folder without a model."""
    found = {at: [name for name in names if is_projector(name)] for at, names in folders.items()}
    return next((os.path.join(at, best_projector(names)) for at, names in found.items() if names), "")


def _is(model: Files, quant: str) -> bool:
    return _quant(model.name).lower() == quant


def offered(places: Caches, visit: Callable[[str], None]) -> list[Files]:
    """Every model of the caches, as "user/repo:QUANT". `visit` is called with each repository before."""
    found: dict[str, Files] = {}
    for repository in sorted({*_hub_repositories(places.hub), *_llama_repositories(places.llama)}):
        visit(repository)
        for model in _models(repository, places):
            name = title(repository, model)
            found.setdefault(name, Files(name, model.paths, model.projector))
    return list(found.values())


def _models(repository: str, places: Caches) -> list[Files]:
    return [*_in_hub(repository, places.hub), *_in_llama(repository, places.llama)]


def _in_hub(repository: str, hub: str) -> list[Files]:
    folder = os.path.join(hub, "models--" + repository.replace("/", "--"))
    snapshot = _snapshot(folder)
    if not snapshot:
        return []
    paths: list[str] = []
    for at, folders, names in os.walk(snapshot):
        if at[len(snapshot) :].count(os.sep) >= _DEPTH:
            folders.clear()
        paths += [os.path.relpath(os.path.join(at, name), snapshot) for name in names]
    return [_within(snapshot, model) for model in arrange(paths)]


def _within(folder: str, model: Files) -> Files:
    projector = os.path.join(folder, model.projector) if model.projector else ""
    return Files(model.name, tuple(os.path.join(folder, path) for path in model.paths), projector)


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
