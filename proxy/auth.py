"""Who may do what: API keys with scopes; without keys, everybody who is no foreign web page. API.md, 1.7."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from proxy import context, cors
from proxy.cors import header
from proxy.errors import ApiError
from supervisor.config import Config, Key

PUBLIC = {
    "/health",
    "/v1/health",
    "/",
    "/index.html",
    "/sw.js",
    "/openapi.json",
    "/docs",
}  # need no key; nor do the interface's files


class Auth:
    """ASGI middleware: sets `key` and `admin` of the Context. Raises ApiError 401, 403."""

    def __init__(self, app: ASGIApp, config: Callable[[], Config], public: Callable[[str], bool]) -> None:
        """`config` gives the present one: keys come and go."""
        self.app, self.config, self.public = app, config, public
        self.hosts = {host.lower() for host in config().server.allowed_hosts} | machine_names()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.public(scope["path"]):
            self._admit(scope)
        await self.app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        who, config = context.of(scope), self.config()
        if config.keys:
            who.key = find(presented(scope), config.keys)
            if who.key is None:
                raise ApiError("invalid_api_key", "a valid API key is required (Authorization: Bearer …)")
            who.admin = who.key.admin
            check_endpoint(who.key, scope["path"])
        else:
            refuse_foreign_pages(scope, config.server.cors_origins, self.hosts)
            who.admin = True


def check_endpoint(key: Key, path: str) -> None:
    """Raises ApiError unless the key may ask for this path; what is below a model's name is seen once that is cut."""
    if not path.startswith("/upstream/") and not key.reaches(path):
        raise ApiError("endpoint_not_allowed", f"the key {key.name} may not use {path[:200]}")


def presented(scope: Scope) -> str:
    """The key a request carries: Bearer, else X-Api-Key, else the password of Basic, else ""."""
    scheme, _, value = header(scope, b"authorization").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if key := header(scope, b"x-api-key"):
        return key.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def find(text: str, keys: tuple[Key, ...]) -> Key | None:
    """The key whose hash is that of `text`; every key is compared, in constant time each."""
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    matches = [key for key in keys if hmac.compare_digest(key.sha256, digest)]
    return matches[0] if matches and text else None


def refuse_foreign_pages(scope: Scope, origins: cors.Origins, hosts: set[str]) -> None:
    """Raises ApiError unless the request can come from no web page, our own, or an allowed one.

    Without keys, any page open in a browser on this machine could drive the server otherwise; the Host check stops a
    name of the attacker's that resolves to this machine.
    """
    host, origin = header(scope, b"host"), header(scope, b"origin")
    if host and not known_host(host, hosts):
        raise _refused(f"Host {host[:100]!r} is not served; server.allowed_hosts may name it")
    own = origin.partition("://")[2] == host
    if origin and not own and not cors.allowed(origin, origins):
        raise _refused(f"origin {origin[:100]!r} is not allowed; server.cors_origins may name it")
    if header(scope, b"sec-fetch-site") == "cross-site" and not origin and origins != "*":
        raise _refused("a page of another site may not use this server")


def known_host(host: str, hosts: set[str]) -> bool:
    """Whether a Host header is an IP address, localhost, or one of `hosts`."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name in hosts or name.endswith(".localhost") or bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def machine_names() -> set[str]:
    own = socket.gethostname().lower()
    return {"localhost", own, own.partition(".")[0], f"{own.partition('.')[0]}.local"}


def _refused(message: str) -> ApiError:
    return ApiError("origin_not_allowed", message)
