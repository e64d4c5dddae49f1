"""Google Cloud Storage as a server process: gcp-storage-emulator, with what it lacks put in front by us.

    python tests/gcs_server.py PORT

Ours, and not the emulator's: ifGenerationMatch=0 is honoured, when an upload begins and with its last part,
as Google does; and a rewrite takes the content type that it is given. All is done by one thread, so that to
look and to put is one step.
"""

import io
import json
import sys
from functools import partial
from http.server import HTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage


class Conditional(RequestHandler):  # type: ignore[misc]
    """The emulator's handler, behind the precondition."""

    def do_POST(self) -> None:
        """An upload, or a copy."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.rfile = io.BytesIO(body)  # which the emulator reads once more
        url = urlparse(self.path)
        asked, parts = parse_qs(url.query), url.path.split("/")
        if "ifGenerationMatch" in asked and self._there(parts[5], asked.get("name", [""])[0] or named(body)):
            return self._refuse()
        super().do_POST()
        if "rewriteTo" in parts:
            to = parts.index("rewriteTo")
            self._retype(parts[to + 2], unquote(parts[to + 4]), body)

    def _there(self, bucket: str, name: str) -> bool:
        try:
            self.storage.get_file_obj(bucket, name)
            return True
        except NotFound:
            return False

    def _retype(self, bucket: str, name: str, body: bytes) -> None:
        told: dict[str, Any] = self.storage.get_file_obj(bucket, name)
        told |= {"metadata": {}} | json.loads(body)
        self.storage.patch_object(bucket, name, told)

    def _refuse(self) -> None:
        body = b'{"error": {"code": 412, "message": "conditionNotMet"}}'
        self.send_response(412)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def named(body: bytes) -> str:
    """The object's name in the first part of an upload that is one request."""
    return str(json.loads(body.split(b"\n\n")[1].split(b"\n--")[0])["name"])


if __name__ == "__main__":
    storage = Storage(use_memory_fs=True)
    HTTPServer(("127.0.0.1", int(sys.argv[1])), partial(Conditional, storage)).serve_forever()
