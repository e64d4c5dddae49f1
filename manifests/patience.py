"""When a request to a store is made again, and after what pause.

Decides: which troubles pass by themselves, and how long they are waited out. Does not decide what a request
does, nor whether it is safe to make it again (manifests.bucket): there it always is.
"""

import random
import time
from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar

PATIENT_S = 120.0  # in which a service that is restarted comes back, and no night is lost
BRIEF_S = 8.0  # for a person who waits for an answer
BASE_S, MOST_S = 0.2, 20.0
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
# Bodies that came damaged, as the service says with a status of 400.
DAMAGED = frozenset({"BadDigest", "IncompleteBody", "RequestTimeout", "XAmzContentSHA256Mismatch"})

Result = TypeVar("Result")


def pause_s(tried: int, draw: float) -> float:
    """The pause after so many tries, from 1, by a number from 0 to 1: exponential, with full jitter.

    Full jitter keeps many workers from coming back at once (Brooker, "Exponential Backoff And Jitter", 2015).
    """
    return draw * min(MOST_S, BASE_S * 2.0 ** min(tried - 1, 30))


def patiently(
    call: Callable[[], Result],
    within_s: float,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    draw: Callable[[], float] = random.random,
) -> Result:
    """What the call returns, made again while its OSErrors pass and `within_s` seconds are not over."""
    end_s = clock() + within_s
    for tried in count(1):
        try:
            return call()
        except OSError as error:
            pause = pause_s(tried, draw())
            if not passes(error) or clock() + pause > end_s:
                raise
            sleep(pause)
    raise AssertionError("there is always a next try")


def passes(error: OSError) -> bool:
    """Whether the same request may be answered well a little later."""
    status = status_of(error)
    if status is not None:
        return status in PASSING or code_of(error) in DAMAGED
    return isinstance(error, (ConnectionError, TimeoutError))


def status_of(error: BaseException) -> int | None:
    """The HTTP status that the error was made of, if it was."""
    status = _reply(error).get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status if isinstance(status, int) else None


def code_of(error: BaseException) -> str:
    """The service's own word for the error, "" if there is none."""
    return str(_reply(error).get("Error", {}).get("Code", ""))


def _reply(error: BaseException) -> dict[str, Any]:
    """What botocore read of the reply; s3fs makes its errors from botocore's."""
    reply: dict[str, Any] | None = getattr(error.__cause__, "response", None)
    return reply or {}
