"""A model hub on this machine: for one folder, what huggingface_hub's client asks of huggingface.co."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

REPO, COMMIT = "studio/tiny", "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves a folder as the commit of a repository, and notes which files were got, and how much of them."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.folder, self.got = folder, list[tuple[str, int]]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def facts(self) -> dict[str, dict[str, Any]]:
        """Every file with its size and hash: weights are in large file storage, as the hub keeps them."""
        found = {}
        for path in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            data = path.read_bytes()
            large = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            name = path.relative_to(self.folder).as_posix()
            found[name] = {"size": len(data), "blobId": blob}
            if path.suffix in (".safetensors", ".bin"):
                found[name]["lfs"] = large
        return found


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path == f"/api/models/{REPO}/revision/main" or path == f"/api/models/{REPO}/revision/{COMMIT}":
            siblings = [{"rfilename": name, **facts} for name, facts in self.server.facts().items()]
            return self.answer({"id": REPO, "modelId": REPO, "sha": COMMIT, "siblings": siblings})
        if path.startswith(f"/api/models/{REPO}/tree/{COMMIT}"):
            below = path.partition(COMMIT)[2].strip("/")
            return self.answer([self.entry(name) for name in self.server.facts() if name.startswith(below)])
        if path.startswith(f"/{REPO}/resolve/{COMMIT}/"):
            return self.file(path.partition(f"{COMMIT}/")[2])
        self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer([self.entry(name) for name in asked["paths"] if name in self.server.facts()])

    def entry(self, name: str) -> dict[str, Any]:
        facts = self.server.facts()[name]
        entry = {"type": "file", "path": name, "size": facts["size"], "oid": facts["blobId"]}
        if "lfs" in facts:
            entry["lfs"] = {**facts["lfs"], "oid": facts["lfs"]["sha256"]}
        return entry

    def file(self, name: str) -> None:
        facts = self.server.facts()[name]
        data, status = (self.server.folder / name).read_bytes(), 200
        tag = facts["lfs"]["sha256"] if "lfs" in facts else facts["blobId"]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{tag}"', "Accept-Ranges": "bytes"}
        if asked := self.headers.get("Range"):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            end = min(int(last) + 1 if last else len(data), len(data))
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(data)}"
            data, status = data[int(first) : end], 206
        if self.command == "GET":
            self.server.got.append((name, len(data)))
        self.send(data, status, headers)

    def answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        kind = {"Content-Type": "application/json"}
        self.send(json.dumps(content).encode(), status, kind | (headers or {}))

    def send(self, data: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def hub_of(folder: Path) -> Iterator[Hub]:
    """A hub that has this folder as REPO at COMMIT, which is its main branch."""
    with Hub(folder) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
