"""Ray, found or started: the cluster that the driver was submitted to, one named by address, or one here."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from cluster.nodes import node_address

KNOCK_S = 5.0  # Ray itself tries a dead address for more than three minutes
OBJECT_STORE_BYTES = 256 << 20  # latents are small; Ray would take a third of a laptop's memory


class Unreachable(Exception):
    """There is no cluster at the address."""


@contextmanager
def connect(address: str | None = None) -> Iterator[None]:
    """Ray inside the block: at `address`, else at RAY_ADDRESS, which a Ray job is given, else started here.

    What was started here ends with the block; a cluster that was found goes on. Raises Unreachable.
    """
    found = address or os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of a lost gang's other ranks
    try:
        if found:
            _knock(found)
            ray.init(address=found, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _node_ip_address="127.0.0.2",  # nobody else's; Ray takes 127.0.0.1 for the address outside
            )
    except (OSError, RuntimeError, ValueError) as error:
        what = f"no Ray cluster at {found}" if found else "Ray cannot be started here"
        raise Unreachable(f"{what}: {' '.join(str(error).split())[:300]}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError unless somebody listens at host:port; other forms, such as auto, are left to Ray."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        if host in ("localhost", "127.0.0.1"):
            host = node_address()  # as Ray will
        socket.create_connection((host, int(port)), KNOCK_S).close()
