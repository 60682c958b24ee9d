"""A bound on this process's own memory, where there is no cgroup for it."""

from __future__ import annotations

import resource

from worker.failure import LoadError


def confine(limit: int) -> None:
    """At most so many bytes of private memory from now on; a file that is mapped is no part of it. 0: no bound."""
    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def explained(error: LoadError, model: str, limit: int) -> LoadError:
    """The same; if the load found no memory, it says that the bound was why, and that others need not go for it."""
    if not limit or error.cause != "out_of_memory":
        return error
    text = f"{error.message}; [models.{model}].memory_limit is {limit >> 20} MiB"
    return LoadError("memory_limit", text, permanent=True)
