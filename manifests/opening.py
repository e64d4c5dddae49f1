"""The place that the URL of a store names.

Decides: what is taken for a path, and which client reaches a service. Does not decide what is done there
(places, bucket).
"""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import fsspec
from fsspec.utils import get_protocol

from manifests.bucket import Bucket
from manifests.places import Disk, plain_path

_ONE_SLASH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/(?!/)|(s3|file):(?!//)")  # a scheme without its //


def place_of(url: str, patience_s: float) -> Disk | Bucket:
    """The place at a local path, ``file://`` or ``s3://`` URL; touches nothing. Raises ValueError."""
    _check_url(url)
    protocol = get_protocol(url)
    if protocol not in ("file", "s3"):
        raise ValueError(f"cannot store at {url!r}: protocol {protocol!r} is not one of file, s3")
    if protocol == "file":
        return Disk(Path(fsspec.filesystem("file")._strip_protocol(plain_path(url))))
    fs = _s3()
    root = str(fs._strip_protocol(url)).strip("/")
    if not root:
        raise ValueError(f"cannot store at {url!r}: no bucket; give s3://bucket/prefix")
    staging = Path(tempfile.gettempdir(), f"longtake-staging-{os.getuid()}")
    return Bucket(fs, root, staging, patience_s)


def _s3() -> Any:
    """The client of S3. Parts of a transfer are retried by botocore, with jitter; whole calls by Bucket."""
    retries = {"retries": {"mode": "standard"}}
    # Uncached, because a cached listing would hide the keys of other processes.
    fs = fsspec.filesystem("s3", use_listings_cache=False, config_kwargs=retries)
    fs.retries = 2  # of s3fs, without jitter: beside the two other kinds, its five could be waits of minutes
    return fs


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
