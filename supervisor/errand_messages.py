"""What the root says to the scan child and to downloads, and they to it. See supervisor.control."""

from __future__ import annotations

import msgspec

from supervisor.card import Card
from supervisor.states import Footprint, Message

# -- root ↔ scan --------------------------------------------------------------------------------------------------


class Sought(msgspec.Struct, frozen=True):
    """A model that the configuration names: by `path`, or by `hf`, "user/repo:QUANT". `lora`: paths of its adapters."""

    model: str
    path: str = ""
    mmproj: str = ""
    hf: str = ""
    lora: tuple[str, ...] = ()


class Scan(Message, frozen=True):
    """Look for models and read their headers; answered by Scanned with the same number, the last one `done`.

    `folder`: models_dir or "", watched from then on; `caches`: whether to list what is in them; `state`: the state
    folder; `skip`: folders that did not answer before.
    """

    number: int
    sought: tuple[Sought, ...] = ()
    folder: str = ""
    caches: bool = False
    state: str = ""
    skip: tuple[str, ...] = ()


class Remember(Message, frozen=True):
    """Keep in the state folder how much memory a load took."""

    state: str
    key: str
    footprint: Footprint


class KeepReport(Message, frozen=True):
    """Keep a crash report in the state folder, and of all at most `most`, of at most `size` bytes together."""

    state: str
    id: str
    content: bytes
    most: int
    size: int


class Found(msgspec.Struct, frozen=True):
    """A model's files and facts. `source`: preset for one that was sought, models_dir, cache."""

    model: str
    path: str
    mmproj: str
    source: str
    card: Card


class Scanned(Message, frozen=True):
    """A part of the result. `problems` are sentences for the log."""

    number: int
    found: tuple[Found, ...] = ()
    problems: tuple[str, ...] = ()
    done: bool = False


class Known(Message, frozen=True):
    """Before the first Scanned: what the state folder remembers, and the memory of each GPU in bytes."""

    memory: dict[str, Footprint]
    gpus: tuple[int, ...]


class FolderChanged(Message, frozen=True):
    """Something in models_dir is not as it was."""


class Stuck(Message, frozen=True):
    """`path` does not answer, and so nothing in `folder` will be asked; the child is of no more use."""

    path: str
    folder: str


class Discard(Message, frozen=True):
    """Delete these files of a cache, but for what `keep` names or leads to; answered by Discarded."""

    model: str
    paths: tuple[str, ...]
    keep: tuple[str, ...]
    state: str


class Discarded(Message, frozen=True):
    """The files are gone, or `problem` says why not."""

    model: str
    problem: str = ""


# -- root ↔ download ----------------------------------------------------------------------------------------------


class Download(Message, frozen=True):
    """Fetch "user/repo" or "user/repo:QUANT" into the cache. `token`: for the hub, "" = what its library finds.

    `state`: the state folder, where it is noted that the model was fetched here.
    """

    spec: str
    state: str
    token: str = ""


class Planned(Message, frozen=True):
    """What will be fetched, as the model `name`, "user/repo:QUANT". `files`: bytes there and bytes in all, by URL.

    `partial`: where the files are while they are not whole.
    """

    name: str
    files: dict[str, tuple[int, int]]
    partial: tuple[str, ...] = ()


class Fetched(Message, frozen=True):
    """How far it is; as in Planned."""

    files: dict[str, tuple[int, int]]


class Downloaded(Message, frozen=True):
    """Every file is there, whole and checked."""


class DownloadFailed(Message, frozen=True):
    """It ends without the model. `code` is the API's: repo_not_found or download_failed."""

    code: str
    message: str
