"""Who may import whom: imports point downwards, and each heavy library has one door."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("supervisor", "worker", "proxy")
_SHARED = (
    "boot", "control", "config", "schema", "log", "ring", "title", "figures", "card", "hub", "shelf", "pulled",
    "recorder", "keepsakes", "crash_files", "resident", "replicas", "samplers", "adapter", "gguf", "lease",
)  # fmt: skip
SHARED = {f"supervisor.{name}" for name in _SHARED}
ROOT_MAY_USE = {*sys.stdlib_module_names, "supervisor", "msgspec", "setproctitle"}
CTL = "supervisor.ctl"  # a client, which runs in a process of its own
CTL_MAY_USE = {*sys.stdlib_module_names, "supervisor", "msgspec", "prometheus_client", "rich"}


class Import(NamedTuple):
    importer: str  # "proxy.main"
    module: str  # "worker.protocol"
    line: int
    inner: bool  # inside a function: happens when that is called

    @property
    def package(self) -> str:
        return self.importer.partition(".")[0]

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def sources() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts).removesuffix(".__init__"), path


def imports(importer: str, source: str, *, is_package: bool = False) -> Iterator[Import]:
    """Every import of the source. `from worker import protocol` counts as one of worker.protocol."""
    tree = ast.parse(source)
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    inner = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = importer.split(".")[: len(importer.split(".")) - node.level + is_package] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            whole = module in PACKAGES or not node.module
            names = [f"{module}.{alias.name}" for alias in node.names] if whole else [module]
        else:
            continue
        for name in names:
            yield Import(importer, name, node.lineno, id(node) in inner)


def fault(found: Import) -> str:
    """Why this import must not be, or ""."""
    package, top, module = found.package, found.top, found.module
    if top == "multiprocessing" and found.importer != "supervisor.process":
        return "only supervisor.process knows multiprocessing"
    if top in ("starlette", "uvicorn") and package != "proxy":
        return "HTTP is the proxy's"
    if top == "llama_cpp" and package != "worker":
        return "only a worker loads llama.cpp"
    if found.importer == "supervisor":
        return "every child imports this package, so it imports nothing"
    if found.importer == "supervisor.boot" and not found.inner and top not in sys.stdlib_module_names:
        return "before the lifelines are armed there is only the standard library"
    if f"{module}.".startswith(f"{CTL}.") and not f"{found.importer}.".startswith(f"{CTL}."):
        return "" if found.importer == "supervisor.__main__" and found.inner else "only its command imports the client"
    if f"{found.importer}.".startswith(f"{CTL}."):
        return "" if top in CTL_MAY_USE else "the client has the standard library, msgspec, prometheus_client and rich"
    if package == "supervisor" and top not in ROOT_MAY_USE:
        return "the root has the standard library, msgspec and setproctitle"
    if package != "supervisor" and top == "supervisor" and not any(f"{module}.".startswith(f"{m}.") for m in SHARED):
        return "not a module that children share with the root"
    if package == "worker" and top == "proxy":
        return "a worker knows no proxy"
    if package == "proxy" and top == "worker" and module != "worker.protocol":
        return "of a worker, the proxy knows the protocol only"
    return ""


@pytest.mark.parametrize(("module", "path"), [pytest.param(*source, id=source[0]) for source in sources()])
def test_module_imports_only_what_it_may(module: str, path: Path) -> None:
    found = imports(module, path.read_text(), is_package=path.name == "__init__.py")
    wrong = [f"{path}:{each.line}: imports {each.module}: {why}" for each in found if (why := fault(each))]
    assert not wrong, "\n".join(wrong)


def test_llama_cpp_has_one_door() -> None:
    doors = {
        module
        for module, path in sources()
        if any(each.top == "llama_cpp" for each in imports(module, path.read_text()))
    }
    assert len(doors) <= 1, f"more than one module imports llama_cpp: {sorted(doors)}"


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("supervisor.tree", "import worker.main"),
        ("supervisor.tree", "from proxy import app"),
        ("supervisor.tree", "def f():\n    import llama_cpp"),
        ("supervisor.tree", "import uvicorn"),
        ("supervisor.tree", "from starlette.requests import Request"),
        ("supervisor.tree", "import numpy as np"),
        ("supervisor.tree", "import multiprocessing.connection"),
        ("supervisor", "import os"),
        ("supervisor.boot", "import msgspec"),
        ("supervisor.boot", "from supervisor import log"),
        ("supervisor.boot", "from . import log"),
        ("supervisor.tree", "import rich"),
        ("supervisor.tree", "def f():\n    from supervisor.ctl import main"),
        ("supervisor.__main__", "from supervisor.ctl.main import main"),
        ("proxy.main", "from supervisor.ctl.client import Client"),
        ("supervisor.ctl.client", "import httpx"),
        ("supervisor.ctl.client", "from proxy.sse import SSE"),
        ("worker.main", "from proxy.links import Link"),
        ("worker.main", "from supervisor import tree"),
        ("worker.main", "from supervisor.process import spawn"),
        ("worker.main", "import supervisor.lifecycle"),
        ("worker.main", "import starlette"),
        ("worker.main", "from multiprocessing import Pipe"),
        ("worker.chat.render", "from ...proxy import app"),
        ("proxy.main", "from worker import engine"),
        ("proxy.main", "from worker.model import Model"),
        ("proxy.main", "import worker"),
        ("proxy.main", "from worker.protocolling import x"),
        ("proxy.main", "import llama_cpp"),
        ("proxy.main", "if True:\n    from multiprocessing.connection import Connection"),
    ],
)
def test_forbidden_import_is_found(importer: str, source: str) -> None:
    assert any(fault(each) for each in imports(importer, source))


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("supervisor.tree", "import os, msgspec\nfrom supervisor import control"),
        ("supervisor.process", "import multiprocessing"),
        ("supervisor.__main__", "def f():\n    from supervisor.ctl.main import main"),
        ("supervisor.ctl.tables", "from rich.table import Table\nfrom supervisor.ctl import shown\nimport http.client"),
        ("supervisor.boot", "import os\ndef run():\n    from supervisor import log, title"),
        ("worker.main", "import llama_cpp, numpy\nfrom supervisor.control import Ping\nfrom worker import engine"),
        ("worker.chat.render", "from . import split\nfrom .. import text\nimport jinja2"),
        ("proxy.main", "import uvicorn\nfrom worker import protocol\nfrom worker.protocol import Chat"),
        ("proxy.app", "from supervisor.config import Config\nfrom supervisor.schema import convert"),
    ],
)
def test_allowed_import_passes(importer: str, source: str) -> None:
    assert not [each for each in imports(importer, source) if fault(each)]


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("worker.protocol", ("llama_cpp", "numpy", "multiprocessing")),
        ("supervisor", ("msgspec", "asyncio")),
        ("supervisor.__main__", ("rich", "http.client", "prometheus_client")),
        ("supervisor.boot", ("msgspec", "asyncio", "multiprocessing", "setproctitle")),
    ],
)
def test_import_is_light(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*[name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
