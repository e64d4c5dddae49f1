"""A proxy before an object store, as a process of its own, that misbehaves as networks and services do.

    python tests/fault_proxy.py PORT SEED RATE      the server's port; the share of requests that meet a fault

Prints the port it listens on. Which request meets which fault is drawn by the seed, unless a script was sent
to /faults: a JSON list of names, "" for none, one for each of the next requests. /counts tells what was done.

    500 503 429     answered in the server's place
    reset           the connection is broken before the server hears of the request
    silent          no answer at all, for longer than clients wait
    slow            the reply comes in drops
    truncated       the reply ends in its middle
    flipped         one bit of an object's bytes is another
    lost            the server has done what was asked, and its reply is lost
    regretted       the server has done what was asked, and the answer is 500
"""

import http.client
import json
import random
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

FAULTS = ("500", "503", "429", "reset", "silent", "slow", "truncated", "flipped", "lost", "regretted")
CODES = {"500": "InternalError", "503": "SlowDown", "429": "TooManyRequests"}
SILENT_S = 30.0
Headers = Sequence[tuple[str, str]]


class FaultProxy(ThreadingHTTPServer):
    """Draws faults, and counts them."""

    daemon_threads = True

    def __init__(self, upstream: int, seed: int, rate: float) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.upstream, self.rate = upstream, rate
        self.random, self.lock = random.Random(seed), Lock()
        self.script, self.counts = list[str](), Counter[str]()

    def draw(self) -> str:
        """The next request's fault, "" for none."""
        with self.lock:
            if self.script:
                return self.script.pop(0)
            return self.random.choice(FAULTS) if self.random.random() < self.rate else ""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no trouble of ours."""


class Passing(BaseHTTPRequestHandler):
    """One request, passed on or not."""

    protocol_version = "HTTP/1.1"  # answers "100 Continue", which S3 clients wait for
    server: FaultProxy

    def pass_on(self) -> None:
        """Answer for the server, with the fault that is drawn."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path in ("/faults", "/counts"):
            return self._command(body)
        fault = self.server.draw()
        if fault == "flipped" and not self._asks_an_object():
            fault = ""  # only an object's bytes have a sum to tell it by
        self.server.counts[fault or "none"] += 1
        if fault in CODES:
            return self._refuse(fault)
        if fault in ("reset", "silent"):
            time.sleep(SILENT_S if fault == "silent" else 0)
            return self._break()
        self._answer(fault, *self._asked(body))

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on

    def _asks_an_object(self) -> bool:
        whole = "?" not in self.path and not self.path.startswith(
            "/storage/"
        )  # where Google tells of objects
        return self.command == "GET" and (whole or self.path.endswith("?alt=media"))

    def _asked(self, body: bytes) -> tuple[int, Headers, bytes]:
        """What the server answers."""
        link = http.client.HTTPConnection("127.0.0.1", self.server.upstream)
        headers = {name: value for name, value in self.headers.items() if name != "Expect"}
        link.request(self.command, self.path, body, headers)
        reply = link.getresponse()
        return reply.status, reply.getheaders(), reply.read()

    def _answer(self, fault: str, status: int, headers: Headers, body: bytes) -> None:
        if fault == "lost":
            return self._break()
        if fault == "regretted":
            return self._refuse("500")
        if fault == "flipped" and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        self._head(status, headers, body)
        if fault == "truncated":
            self.wfile.write(body[: len(body) // 2])
            return self._break()
        for piece in _drops(body) if fault == "slow" else (body,):
            self.wfile.write(piece)

    def _head(self, status: int, headers: Headers, body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        told = {name.lower(): value for name, value in headers}
        known = told.get("content-length") if self.command == "HEAD" else None
        self.send_header("Content-Length", known or str(len(body)))
        self.end_headers()

    def _refuse(self, fault: str) -> None:
        text = f"<Error><Code>{CODES[fault]}</Code><Message>by the proxy</Message></Error>".encode()
        body = b"" if self.command == "HEAD" else text
        self._head(int(fault), [("Content-Type", "application/xml")], body)
        self.wfile.write(body)

    def _break(self) -> None:
        """End the connection as a lost link does: by a reset, without a word."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _command(self, body: bytes) -> None:
        if self.path == "/faults":
            self.server.script = json.loads(body)
        told = json.dumps(self.server.counts).encode()
        self._head(200, [], told)
        self.wfile.write(told)

    def log_message(self, *_: object) -> None:
        """Nothing: what was done is counted."""


def _drops(body: bytes) -> Iterator[bytes]:
    size = max(1, len(body) // 8)
    for start in range(0, len(body), size):
        time.sleep(0.03)
        yield body[start : start + size]


@dataclass(frozen=True)
class Remote:
    """The proxy's process as a test knows it."""

    port: int

    def script(self, faults: Sequence[str]) -> None:
        """Which faults the next requests meet."""
        self._ask("POST", "/faults", json.dumps(list(faults)))

    def counts(self) -> dict[str, int]:
        """How many requests met each fault; "none" for those that were passed on."""
        return {str(name): int(n) for name, n in json.loads(self._ask("GET", "/counts")).items()}

    def _ask(self, verb: str, path: str, body: str = "") -> bytes:
        link = http.client.HTTPConnection("127.0.0.1", self.port)
        link.request(verb, path, body)
        return link.getresponse().read()


@contextmanager
def fault_proxy(upstream: int, seed: int = 0, rate: float = 0.0) -> Iterator[Remote]:
    """The proxy's process, for as long as the block lasts."""
    command = [sys.executable, __file__, str(upstream), str(seed), str(rate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Remote(int(process.stdout.readline()))
        finally:
            process.kill()


if __name__ == "__main__":
    with FaultProxy(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])) as proxy:
        print(proxy.server_port, flush=True)
        proxy.serve_forever()
