"""The user interface as files: what is served, to whom, and how browsers may keep it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from proxy import site
from supervisor.config import Key, Ui
from tests.proxy.harness import Harness, settings

KEYS = (Key(name="alice", sha256=hashlib.sha256(b"alice").hexdigest()),)
HASHED = "/assets/index-Bx3k9_aQ.js"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    for name, text in {
        "index.html": "<p>page",
        HASHED[1:]: "code()",
        "theme.js": "theme()",
        "v1/models": "not the API",
        "health": "not the API",
        ".stamp": "of the build",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (tmp_path / "secret").write_text("secret")
    (root / "leak").symlink_to(tmp_path / "secret")
    return root


@pytest.fixture
def built(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(site, "BUILT", folder)
    return folder


@pytest.mark.usefixtures("built")
async def test_pages_need_no_key_and_the_api_does() -> None:
    async with Harness(settings(keys=KEYS)) as server:
        for path, text in (("/", "<p>page"), ("/index.html", "<p>page"), (HASHED, "code()"), ("/theme.js", "theme()")):
            response = await server.client.get(path)
            assert (response.status_code, response.text) == (200, text)
        assert (await server.client.get("/v1/models")).status_code == 401
        assert (await server.client.get("/assets/none.js")).status_code == 401
        assert (await server.client.get("/health")).json() == {"status": "ok"}


@pytest.mark.usefixtures("built")
async def test_no_foreign_origin_may_be_asked_or_frame_the_page() -> None:
    async with Harness() as server:
        policy = (await server.client.get("/")).headers["content-security-policy"]
        assert "default-src 'self';" in policy
        assert "connect-src 'self'; frame-ancestors 'none'" in policy
        assert "unsafe" not in policy


@pytest.mark.usefixtures("built")
async def test_hashed_names_are_kept_for_ever_and_the_rest_is_asked_for_again() -> None:
    async with Harness() as server:
        hashed, page = await server.client.get(HASHED), await server.client.get("/")
        assert "immutable" in hashed.headers["cache-control"]
        assert hashed.headers["content-type"].startswith("text/javascript")
        assert page.headers["cache-control"] == "no-cache"
        again = await server.client.get("/", headers={"if-none-match": f'"x", {page.headers["etag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        assert (await server.client.get("/", headers={"if-none-match": '"x"'})).status_code == 200
        assert (await server.client.head("/")).headers["content-length"] == str(len("<p>page"))


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize(
    "path",
    [
        "/../secret",
        "/%2e%2e/secret",
        "/assets/..%2f..%2fsecret",
        "/leak",
        "/.stamp",
        "/assets",
        "//etc/passwd",
        "/x%00",
    ],
)
async def test_nothing_outside_the_folder_is_served(path: str) -> None:
    async with Harness() as server:
        response = await server.client.get(server.client.base_url.copy_with(raw_path=path.encode()))
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "not_found"


@pytest.mark.usefixtures("built")
async def test_files_take_only_get_and_other_paths_answer_as_before() -> None:
    async with Harness() as server:
        for method, path, status in (
            ("POST", "/theme.js", 404),
            ("POST", "/nowhere", 404),
            ("GET", "/nowhere", 404),
            ("GET", "/v1/chat/completions", 405),
            ("POST", "/", 405),
        ):
            assert (await server.client.request(method, path)).status_code == status, (method, path)


async def test_a_new_build_is_served_without_a_restart(built: Path) -> None:
    async with Harness() as server:
        await server.client.get("/")
        (built / "assets" / "index-Cy4l0_bR.js").write_text("new()")
        (built / "index.html").write_text("<p>new page")
        os.utime(built / "index.html", (1, 1))
        assert (await server.client.get("/")).text == "<p>new page"
        assert (await server.client.get("/assets/index-Cy4l0_bR.js")).text == "new()"


async def test_without_a_build_the_page_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "BUILT", tmp_path / "none")
    async with Harness() as server:
        response = await server.client.get("/")
        assert "make ui" in response.text
        assert response.headers["content-type"].startswith("text/html")
        for path in ("/props", "/props?model=m"):
            assert (await server.client.get(path)).json()["ui"] is False


@pytest.mark.usefixtures("built")
async def test_switched_off_it_is_a_line_of_text() -> None:
    async with Harness(settings(ui=Ui(enabled=False))) as server:
        response = await server.client.get("/")
        assert response.headers["content-type"].startswith("text/plain")
        assert response.text == "Ollama is running"
        assert (await server.client.get(HASHED)).status_code == 404
        assert (await server.client.get("/props")).json()["ui"] is False


async def test_another_interface_may_stand_in_its_place(folder: Path) -> None:
    async with Harness(settings(ui=Ui(path=str(folder)))) as server:
        response = await server.client.get("/")
        assert response.text == "<p>page"
        assert "script-src" not in response.headers["content-security-policy"]
        assert "default-src 'self' 'unsafe-inline'" in response.headers["content-security-policy"]
        assert (await server.client.get("/props")).json()["ui"] is True
        assert "unregister" in (await server.client.get("/sw.js")).text
        (folder / "sw.js").write_text("mine")
        os.utime(folder / "index.html", (1, 1))
        await server.client.get("/")
        assert (await server.client.get("/sw.js")).text == "mine"
