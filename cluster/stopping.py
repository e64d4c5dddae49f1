"""Why a job ends before its films do: something without which none can be done, its budget, or the breaker.

Decides: when, and what is said of it. Does not decide: what becomes of the films (dispatch, films).
"""

from cluster.outcomes import Failure
from cluster.state import State


def early(state: State) -> Failure | None:
    """Why the job should end early, if it should."""
    limits = state.limits
    if state.ruin is not None:
        return state.ruin
    if state.spent_gpu_s >= limits.budget_gpu_s:
        return Failure(
            "E940_BUDGET",
            f"the job's gangs took {state.spent_gpu_s:,.0f} of {limits.budget_gpu_s:,.0f} GPU-seconds",
            "raise cluster.budget_gpu_s or budget_money and give the same command again; what is done stays",
            "USER",
        )
    if 0 < limits.breaker_films <= state.failed and state.failed >= limits.breaker_share * state.ended:
        return Failure(
            "E941_BREAKER",
            f"{state.failed} of {state.ended} films failed, so the others were not begun",
            "mend what failed and give the same command again, or raise cluster.breaker_films",
            "USER",
        )
    return None
