"""When a request to a store is made again, and after what pause.

Decides: how long troubles that pass by themselves are waited out. Does not decide which replies are of such
trouble (replies), nor whether a request is safe to make again (bucket): there it always is.
"""

import random
import time
from collections.abc import Callable
from itertools import count
from typing import TypeVar

PATIENT_S = 120.0  # in which a service that is restarted comes back, and no night is lost
BRIEF_S = 8.0  # for a person who waits for an answer
BASE_S, MOST_S = 0.2, 20.0

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
    return isinstance(error, (ConnectionError, TimeoutError))
