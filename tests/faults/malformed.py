"""What is no HTTP, and what is no request: all of it must be refused, none of it may hurt. Rows 26 and 27."""

from __future__ import annotations

import socket

_POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
REQUESTS = (
    b"\r\n\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)),  # TLS on a plain port
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    b"BREW /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost localhost\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nA: b\x00c\r\n\r\n",
    b"GET /v1/mod\x00els HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /v1/models/..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /v1/models/a%0d%0aSet-Cookie:x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    _POST + b"Content-Length: -1\r\n\r\n{}",
    _POST + b"Content-Length: 1e9\r\n\r\n{}",
    _POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}    ",
    _POST + b"Content-Length: 99999999999999999999\r\n\r\n",
    _POST + b"Content-Length: 1000000000\r\n\r\n{",
    _POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    _POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    _POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    _POST + b"Content-Length: 2\r\n\r\n[]GARBAGE AFTER IT\r\n\r\n",
)

PATHS = (
    "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/completion", "/rerank", "/infill",
    "/tokenize", "/apply-template",
)  # fmt: skip
_CHAT = '{"model":"a","messages":[{"role":"user","content":"x"}],'
BODIES = tuple(
    text.encode("utf-8", "surrogatepass")
    for text in (
        "", "{", "[]", "null", "1", '"text"', "NaN", "{}{}", '{"model":', "\x00", "{'model': 'a'}", "[" * 100_000,
        '{"a":' * 5_000 + "1" + "}" * 5_000, '{"model":"\ud800","messages":[]}', '{"model":"\\ud800","prompt":1}',
        '{"model":7}', '{"model":["a"]}', '{"model":"' + "x" * 10_000 + '"}', '{"model":"../../etc/passwd"}',
        '{"model":"a","messages":7,"prompt":{},"input":{},"query":7,"content":7,"input_prefix":7}',
        '{"model":"a","messages":[7],"prompt":[{}],"input":[{}],"documents":7,"content":{},"input_suffix":{}}',
        _CHAT + '"max_tokens":1e400,"prompt":{},"input":{},"documents":{},"content":{},"input_prefix":{}}',
        _CHAT + '"max_tokens":NaN}', _CHAT + '"max_tokens":' + "9" * 400 + "}", _CHAT + '"stream":"yes","stream":}',
    )
)  # fmt: skip


def exchange(port: int, sent: bytes, within: float = 3.0) -> bytes:
    """What comes back until the server closes, or for a time: it may wait for more of a request."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=within) as sock:
        try:
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
            while more := sock.recv(65536):
                got += more
        except OSError:
            pass  # it did not want to hear all of it
    return got


def is_refusal(answer: bytes) -> bool:
    """Closed without a word, or an answer that is no server error."""
    words = answer.split(b" ", 2)
    return not answer or (words[0].startswith(b"HTTP/1.") and words[1][:1] in (b"2", b"4"))
