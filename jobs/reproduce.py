"""`longtake reproduce`: the step at which a shot was given up, once more, in this process alone.

Decides: which bundle is meant, and how it is told. Does not decide: what is run (cluster.reproduce).
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from jobs.outcome import DONE, SOME_FAILED
from jobs.places import opened, reading
from jobs.refusal import Refused
from jobs.status import known_job

if TYPE_CHECKING:
    from cluster.reproduce import Tried
    from manifests.store import Store


def reproduce(arguments: argparse.Namespace) -> int:
    """Say of each window of the step what happened; exit 4 if anything went wrong again."""
    from cluster import reproduce as replay
    from engine.numerics import default_device

    store = opened(arguments.out)
    with reading(arguments.out):
        known_job(store, arguments.job, arguments.out)
        bundle = _bundle(store, arguments.job, arguments.row, arguments.shot)
    step, window = _place(bundle, arguments)
    device = default_device() if arguments.device == "auto" else arguments.device
    text = arguments.output == "text"
    if text:
        print("\n".join(_head(bundle)), flush=True)
    tried = []
    try:
        for each in replay.reproduce(bundle, store, step, window, device, int(bundle.get("threads", 1))):
            tried.append(each)
            if text:
                print(_line(each), flush=True)
    except (ValueError, FileNotFoundError) as error:
        raise Refused(f"the step cannot be run: {error}") from error
    bad = any(each.failed for each in tried)
    if text:
        print("it went wrong again" if bad else "nothing went wrong: look at the host and device it was on")
    else:
        facts = {"bundle": bundle, "tried": [asdict(each) for each in tried], "failed": bad}
        print(json.dumps(facts, ensure_ascii=False, indent=1))
    return SOME_FAILED if bad else DONE


def _bundle(store: "Store", job: str, row_id: str, shot_id: str) -> dict[str, Any]:
    """The newest bundle of a shot. Raises Refused with what there is instead."""
    from cluster.quarantine import folder

    kept = store.list_keys(f"jobs/{job}/quarantine")
    of_shot = [key for key in kept if key.startswith(f"{folder(job, row_id, shot_id)}/")]
    if not of_shot:
        others = sorted({" ".join(key.split("/")[3:5]) for key in kept})
        shown = f"it has {', '.join(others[:10])}" if others else "it has none"
        raise Refused(f"{job} has no shot {shot_id} of row {row_id} in quarantine: {shown}")
    made = store.read_marker(of_shot[-1])
    assert made is not None, "a bundle is never removed"
    return made


def _place(bundle: dict[str, Any], arguments: argparse.Namespace) -> tuple[int, int]:
    """The step and window that are asked for, else those at which the shot was given up."""
    at = bundle.get("at", {})
    step = arguments.step if arguments.step is not None else max(at.get("step", -1), 0)
    same = step == at.get("step")
    window = arguments.window if arguments.window is not None else at.get("part", -1) if same else -1
    return step, window


def _head(bundle: dict[str, Any]) -> Iterator[str]:
    at, error = bundle.get("at", {}), bundle["error"]
    yield f"{bundle['row_id']} {bundle['shot_id']}: {error['code']} {error['message']}"
    where = f"step {at.get('step')}, window {at.get('part')}, by {at.get('worker')}"
    host, device = at.get("host") or bundle.get("driver_host"), bundle.get("device") or "device unknown"
    yield f"  then   {where} on {host}, {device}, {bundle.get('at_utc')}"


def _line(tried: "Tried") -> str:
    what = f"step {tried.step}, " + ("all windows blended" if tried.part < 0 else f"window {tried.part}")
    if tried.failure is not None:
        return f"  now    {what}: {tried.failure.code} {tried.failure.message}"
    if tried.part < 0:
        return f"  now    {what}: sound"
    bad = f"{tried.not_finite:,} of {tried.values:,} values are NaN or infinite"
    told = f"largest {tried.largest:.4g}, {tried.seconds:.2f} s, bits {tried.digest}"
    return f"  now    {what}: {bad if tried.not_finite else 'sound'}, {told}"
