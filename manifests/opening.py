"""The place that the URL of a store names.

Decides: what is taken for a path, and which service a URL is of. Does not decide what is done there
(places, bucket), nor how a service is asked (s3, gcs, azure).
"""

import os
import re
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import fsspec
from fsspec.utils import get_protocol

from manifests import azure, gcs, s3
from manifests.bucket import Bucket, Service
from manifests.places import Disk, plain_path

CONNECT: dict[str, Callable[[str], tuple[Service, str]]] = {"s3": s3.connect, "gs": gcs.connect}
CONNECT |= {name: azure.connect for name in ("az", "abfs", "abfss")}
EXTRAS = {"gs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}  # of pyproject.toml
_TRANSLATED = {"s3": s3.translated, "s3a": s3.translated, "gs": gcs.translated, "gcs": gcs.translated}
_TRANSLATED |= {name: azure.translated for name in ("az", "abfs", "abfss")}
_ONE_SLASH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/(?!/)|(s3|gs|az|abfss?|file):(?!//)")  # without its //


def place_of(url: str, patience_s: float) -> Disk | Bucket:
    """The place at a path, ``file://`` or a URL of a service; touches nothing there. Raises ValueError."""
    _check_url(url)
    protocol = get_protocol(url)
    if protocol == "file":
        return Disk(Path(fsspec.filesystem("file")._strip_protocol(plain_path(url))))
    if protocol not in CONNECT:
        known = ", ".join(("file", *CONNECT))
        raise ValueError(f"cannot store at {url!r}: protocol {protocol!r} is not one of {known}")
    if not url.partition("://")[2].strip("/"):
        raise ValueError(f"cannot store at {url!r}: no bucket; give {protocol}://bucket/prefix")
    service, root = _connected(url, protocol)
    staging = Path(tempfile.gettempdir(), f"longtake-staging-{os.getuid()}")
    return Bucket(service, url.rstrip("/"), root.strip("/"), staging, patience_s)


def _connected(url: str, protocol: str) -> tuple[Service, str]:
    try:
        return CONNECT[protocol](url)
    except ImportError as error:
        if protocol not in EXTRAS:
            raise
        package = (error.name or "").split(".")[0]
        todo = f"pip install -e '.[{EXTRAS[protocol]}]' in the checkout, on every node"
        raise ValueError(f"cannot store at {url!r}: {package} is not installed; {todo}") from error
    except ValueError as error:
        raise ValueError(f"cannot store at {url!r}: {error}") from error


def translated(protocol: str) -> AbstractContextManager[None]:
    """Inside, errors of fsspec's client of this protocol become OSErrors, as those of a store do."""
    return _TRANSLATED.get(protocol, nullcontext)()


def _check_url(url: str) -> None:
    """Raises ValueError for what would be taken for a path but cannot be meant as one."""
    if not url.removeprefix("file://").strip():
        raise ValueError(f"cannot store at {url!r}: it names no place; . is the folder you are in")
    if "\0" in url:
        raise ValueError(f"cannot store at {url!r}: no path has a NUL character")
    if _ONE_SLASH.match(url):
        scheme, rest = url.split(":", 1)
        meant = f"{scheme}://{rest.lstrip('/')}"
        raise ValueError(f"cannot store at {url!r}: give {meant} for a URL, or ./{url} for a folder")
