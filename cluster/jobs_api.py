"""Ray's Jobs API: hand a driver to a cluster, follow its log, and ask how it ended.

The log of a job goes to whoever asks over HTTP; nothing here joins the cluster.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from cluster.connect import Unreachable

POLL_S = 1.0
# The HTTP client's own errors are OSErrors; Ray raises RuntimeError for a status, ValueError for an address.
TROUBLE = (OSError, RuntimeError, ValueError, AuthenticationError)


class Taken(Exception):
    """The cluster has had a job of this id."""


class JobsApi:
    """One cluster's Jobs API, at http://HOST:8265, or without an address where Ray's variables say.

    Raises Unreachable.
    """

    def __init__(self, address: str | None) -> None:
        if address:
            os.environ["RAY_API_SERVER_ADDRESS"] = address  # which Ray would prefer to its own argument
        try:
            self._client = JobSubmissionClient(address)
        except TROUBLE as error:
            raise Unreachable(_told(address, error)) from error
        self.address: str = self._client.get_address()

    def submit(self, entrypoint: str, job_id: str, working_dir: Path) -> None:
        """Start a shell command on the head, in an upload of `working_dir`. Raises Taken, Unreachable."""
        try:
            self._client.submit_job(
                entrypoint=entrypoint, submission_id=job_id, runtime_env={"working_dir": str(working_dir)}
            )
        except TROUBLE as error:
            if "already exists" in str(error):
                raise Taken(job_id) from error
            raise Unreachable(_told(self.address, error)) from error

    def log(self, job_id: str) -> Iterator[str]:
        """Pieces of the job's log until it ends. Raises Unreachable."""
        loop, pieces = asyncio.new_event_loop(), self._client.tail_job_logs(job_id)
        try:
            while True:
                yield loop.run_until_complete(anext(pieces))
        except StopAsyncIteration:
            return
        except TROUBLE as error:
            raise Unreachable(_told(self.address, error)) from error
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def end(self, job_id: str) -> tuple[str, int | None]:
        """Wait for a job's end: Ray's word for it, the driver's exit code or None. Raises Unreachable."""
        while True:
            try:
                info: Any = self._client.get_job_info(job_id)
            except TROUBLE as error:
                raise Unreachable(_told(self.address, error)) from error
            if info.status.is_terminal():
                code = 0 if info.status == JobStatus.SUCCEEDED else info.driver_exit_code
                return str(info.status.value), code
            time.sleep(POLL_S)


def _told(address: str | None, error: Exception) -> str:
    """One message, with what to do about it."""
    where = address or "the address that Ray's variables give"
    return f"no answer from a Ray dashboard at {where}: {' '.join(str(error).split())[:300]}"
