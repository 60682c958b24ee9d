"""What a hub has: a repository's files, and which of them make the model that is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import httpx2
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.hf_api import ModelInfo, RepoSibling

from supervisor import hub, shelf
from worker.download.failure import Failed

_TIMEOUT = 10.0  # seconds for the hub to answer
_TRIES = 3
_PAUSE = 0.5  # seconds after the first failure, doubled after each


@dataclass(frozen=True, slots=True)
class Part:
    """One file. `digest`: SHA-256 if it is in large-file storage, else git's id of it; its blob bears that name."""

    path: str
    size: int
    digest: str
    url: str

    @property
    def is_sha256(self) -> bool:
        return len(self.digest) == 64


@dataclass(frozen=True, slots=True)
class Plan:
    """The files of a model, "user/repo:QUANT", at one revision of its repository."""

    name: str
    repository: str
    revision: str
    parts: tuple[Part, ...]


def plan(spec: str, token: str, wait: Callable[[float], None] = time.sleep) -> Plan:
    """What there is to fetch for "user/repo" or "user/repo:QUANT". Raises Failed; `wait` may raise what it likes."""
    repository, _, quant = spec.partition(":")
    info = _info(repository, token, wait)
    there = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    models = hub.arrange(there)
    chosen = hub.pick(models, quant)
    if chosen is None:
        have = ", ".join(sorted({hub.title(repository, model).partition(":")[2] for model in models}))
        what = f"no {quant}; there is: {have}" if models else "no GGUF file: it is for other software"
        raise Failed(f"{repository} has {what}", "repo_not_found")
    if set(shelf.siblings(chosen.paths[0])) != set(chosen.paths):
        raise Failed(f"{repository} has {len(chosen.paths)} files of {chosen.name}, which are not all of it")
    paths = [*chosen.paths, *([chosen.projector] if chosen.projector else [])]
    revision = info.sha or "main"
    parts = tuple(_part(repository, revision, there[path]) for path in _unique(paths))
    return Plan(hub.title(repository, chosen), repository, revision, parts)


def _info(repository: str, token: str, wait: Callable[[float], None]) -> ModelInfo:
    """Raises Failed."""
    problem = ""
    for number in range(_TRIES):
        if number:
            wait(_PAUSE * 2 ** (number - 1))
        try:
            return HfApi(token=token or None).model_info(repository, files_metadata=True, timeout=_TIMEOUT)
        except GatedRepoError:
            raise Failed(f"{repository} is gated: accept its terms on the hub, and set HF_TOKEN") from None
        except RepositoryNotFoundError:
            text = f"{repository} is not on the hub, or private: then HF_TOKEN has to be set"
            raise Failed(text, "repo_not_found") from None
        except OfflineModeIsEnabled as error:
            raise Failed(str(error)) from None
        except HfHubHTTPError as error:
            status = error.response.status_code
            problem = f"the hub answers {status} for {repository}"
            if status == 404:
                raise Failed(f"{repository} is not on the hub", "repo_not_found") from None
            if status in (401, 403):
                raise Failed(f"{problem}: HF_TOKEN is wrong, or may not read it") from None
            if status < 500 and status not in (408, 429):
                break
        except (httpx2.HTTPError, ValueError) as error:  # ValueError: what it says is no JSON
            problem = f"the hub does not answer: {type(error).__name__}: {error}"
    raise Failed(problem)


def _part(repository: str, revision: str, sibling: RepoSibling) -> Part:
    """Raises Failed."""
    digest = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id
    size = sibling.lfs.size if sibling.lfs else sibling.size
    path = sibling.rfilename
    if not digest or size is None or not digest.isalnum() or ".." in path.split("/") or path.startswith("/"):
        raise Failed(f"{repository}: the hub does not say size and checksum of {path}")
    return Part(path, size, digest, hf_hub_url(repository, path, revision=revision))


def _unique(paths: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(paths))
