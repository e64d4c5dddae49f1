"""S3 as a real server process of moto, behind a proxy of ours that can misbehave as networks do.

The proxy stands before servers of other clouds too (tests/slow_clouds.py).
"""

import http.client
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from urllib.parse import urlsplit

import fsspec
from s3fs import S3FileSystem

# moto looks and puts in two steps, so that its threads could both win; with one thread the steps are one.
SERVER = """
import sys
from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple
app = DomainDispatcherApplication(create_backend_app)
run_simple("127.0.0.1", int(sys.argv[1]), app, request_handler=MotoRequestHandler)
"""
CONFLICT = b"<Error><Code>ConditionalRequestConflict</Code><Message>again</Message></Error>"
LARGE = 1 << 20  # bytes of a reply that a stalling network holds back


class Proxy(ThreadingHTTPServer):
    """Passes requests on to moto, with the fault that a test asks for, and notes what was got in full."""

    daemon_threads, upstream, fault, puts = True, 0, "", 0

    def __init__(self, upstream: int) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.upstream, self.got, self.stalled = upstream, list[tuple[str, int]](), Event()
        self.putting = Counter[str]()  # by path, now

    @contextmanager
    def at_once(self, path: str) -> Iterator[bool]:
        """Whether a put of the path overlaps another one, which is made likely."""
        self.putting[path] += 1
        time.sleep(0.2)
        try:
            yield self.putting[path] > 1
        finally:
            self.putting[path] -= 1


class Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # answers "100 Continue", which S3 clients wait for

    def pass_on(self) -> None:
        server = self.server
        assert isinstance(server, Proxy)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if server.fault == "ignores conditions at once" and self.puts:
            with server.at_once(urlsplit(self.path).path) as several:
                return self.ask(server, body, several)
        self.ask(server, body, server.fault == "ignores conditions")

    @property
    def puts(self) -> bool:
        """Whether it is a put, as S3 and Azure or as Google have it."""
        return self.command == "PUT" or self.path.startswith("/upload/")

    def ask(self, server: Proxy, body: bytes, anyhow: bool) -> None:
        """Ask the server; to put `anyhow` is without the condition."""
        drop = {"Expect", "If-None-Match" if anyhow else ""}
        if anyhow:
            self.path = self.path.replace("ifGenerationMatch=0", "")
        first = self.puts and server.puts == 0
        server.puts += self.puts
        if first and server.fault == "conflicts":
            return self.answer(409, [], CONFLICT)
        if server.fault == "refuses":
            return self.answer(401, [], b"")
        link = http.client.HTTPConnection("127.0.0.1", server.upstream)
        link.request(self.command, self.path, body, {k: v for k, v in self.headers.items() if k not in drop})
        reply = link.getresponse()
        data = reply.read()
        if first and server.fault == "loses a reply":
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        if self.command == "GET":
            server.got.append((self.path, len(data)))
        self.answer(reply.status, reply.getheaders(), data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        server = self.server
        assert isinstance(server, Proxy)
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() == "last-modified" and server.fault == "is slow by a day":
                value = format_datetime(parsedate_to_datetime(value) - timedelta(days=1), usegmt=True)
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        told = {name.lower(): value for name, value in headers}
        known = told.get("content-length") if self.command == "HEAD" else None
        self.send_header("Content-Length", known or str(len(body)))
        self.end_headers()
        if server.fault == "stalls" and len(body) >= LARGE:
            self.wfile.write(body[: len(body) // 2])
            server.stalled.set()
            time.sleep(60)  # far longer than any test waits
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def moto_process() -> Iterator[int]:
    """The port of a moto server process."""
    with served(sys.executable, "-c", SERVER) as port:
        yield port


@contextmanager
def served(*command: str) -> Iterator[int]:
    """The port that a server process listens on, which is its last argument."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    process = subprocess.Popen([*command, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(2400):  # up to two minutes, where the machine is busy
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, f"{command[:2]} ended at its start"
            time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


@contextmanager
def s3_through_proxy(moto: int, setenv: Callable[[str, str], None]) -> Iterator[Proxy]:
    """S3 as the environment names it, with the bucket `films`."""
    with Proxy(moto) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        for name, value in s3_environment(server.server_port).items():
            setenv(name, value)
        S3FileSystem.clear_instance_cache()  # its clients keep the environment they were made in
        ask_moto(moto, "reset")
        fsspec.filesystem("s3").mkdir("films")
        server.puts = 0
        yield server
        server.shutdown()
    S3FileSystem.clear_instance_cache()


def s3_environment(port: int) -> dict[str, str]:
    """What tells clients of an S3 server of this machine."""
    values = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    values |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    return values | {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}


def ask_moto(port: int, what: str, body: bytes = b"") -> None:
    """One of moto's own commands to itself."""
    link = http.client.HTTPConnection("127.0.0.1", port)
    link.request("POST", f"/moto-api/{what}", body)
    assert link.getresponse().status == 200
