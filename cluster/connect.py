"""Ray, found or started: the cluster that the driver was submitted to, one named by address, or one here."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

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
    try:
        if found:
            ray.init(address=found, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _node_ip_address="127.0.0.1",  # a laptop's Ray is nobody else's
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        what = f"no Ray cluster at {found}" if found else "Ray cannot be started here"
        raise Unreachable(f"{what}: {' '.join(str(error).split())[:300]}") from error
    try:
        yield
    finally:
        ray.shutdown()
