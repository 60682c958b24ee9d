"""The certificate that the proxies serve with, checked before anything starts."""

from __future__ import annotations

import ssl

from supervisor.schema import Invalid


def check(cert: str, key: str) -> None:
    """Raises Invalid unless both files are there and belong together."""
    for name, path in (("tls_cert", cert), ("tls_key", key)):
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise Invalid(("server", name), "a file that can be read", path, str(error.strerror)) from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise Invalid(("server", "tls_cert"), "a PEM certificate of tls_key", cert, str(error)) from None


def _no_password() -> str:
    raise ValueError("the key is encrypted; nobody is there to ask for its password")
