"""Finds the files that a model's table names."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import msgspec

from supervisor import schema
from supervisor.config import Adapter, Model
from supervisor.schema import Invalid, Missing

_KEEP_ONE = "keep one of the two"


def locate(model: Model, base: Path, where: schema.Path, *, own_template: bool) -> Model:
    """The model with absolute, existing `path`, `mmproj`, `lora` and `chat_template`; `base` is the file's folder.

    The file of an `hf` model is found later, in the caches. Raises Invalid at `where`, or in [defaults] for a template
    that is not the table's own.
    """
    found = {"path": "", "chat_template": "", "mmproj": ""}
    for key in ("chat_template", "mmproj"):
        if text := getattr(model, key):
            place = (*where, key) if own_template or key == "mmproj" else ("defaults", key)
            found[key] = _existing(below(base, text), place, text)
    named = [key for key in ("path", "package", "hf") if getattr(model, key)]
    if len(named) > 1:
        raise Invalid((*where, named[1]), f'either "{named[0]}" or "{named[1]}"', getattr(model, named[1]), _KEEP_ONE)
    if (
        model.file and not model.package and model.worker == Model().worker
    ):  # to another worker, `file` is its own affair
        raise Missing((*where, "package"), 'the installed package that has "file"', 'or name the file by "path" alone')
    if model.path:
        found["path"] = _existing(below(base, model.path), (*where, "path"), model.path)
    elif model.package:
        if not model.file:
            raise Missing((*where, "file"), f'the name of a file inside the package "{model.package}"')
        folder = _package_folder(model.package, (*where, "package"))
        found["path"] = _existing(below(folder, model.file), (*where, "file"), model.file)
    elif not model.hf and model.worker == Model().worker:  # another worker may need no file
        raise Missing((*where, "path"), '"path" of a GGUF file, or "package" and "file", or "hf"')
    adapters = tuple(_adapter(each, base, (*where, "lora", index)) for index, each in enumerate(model.lora))
    return msgspec.structs.replace(model, lora=adapters, **found)


def _adapter(said: str | Adapter, base: Path, where: schema.Path) -> Adapter:
    if isinstance(said, str):
        return Adapter(path=_existing(below(base, said), where, said))
    return msgspec.structs.replace(said, path=_existing(below(base, said.path), (*where, "path"), said.path))


def below(base: Path, text: str) -> str:
    """The absolute path that `text` means in a file of the folder `base`."""
    return os.path.abspath(base / os.path.expanduser(text))


def _existing(path: str, where: schema.Path, got: str) -> str:
    """`path`, a readable file. Raises Invalid at `where`, which says `got`."""
    if not os.path.isfile(path):
        reason = "a folder" if os.path.isdir(path) else "no such file"
        raise Invalid(where, "an existing file", got, f"{reason}: {path}")
    if not os.access(path, os.R_OK):
        raise Invalid(where, "a readable file", got, f"no permission to read {path}")
    return path


def _package_folder(package: str, where: schema.Path) -> Path:
    """The folder of an installed package, which is found but not imported. Raises Invalid at `where`."""
    try:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None  # "a.b" would import a
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        hint = f"pip install --no-deps {package.replace('_', '-')}" if package.isidentifier() else "a top-level one"
        raise Invalid(where, "an installed Python package", package, hint)
    return Path(next(iter(spec.submodule_search_locations)))
