"""What a driver need not do again that takes a job over: checking the manifest, counting it, finished
films.

An earlier driver recorded what it found, under a hash of all that is asked and by which release: the same
manifest under other settings finds nothing here. Files that rows name may change at any time, so a manifest
that names any is checked anew, and its films are looked for one by one.

Decides: what is believed. Does not decide: what is recorded of a film (manifests.finished), or what is done
of one that is not listed (cluster.loop.known).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from cluster.identity import RENDERING
from cluster.progress import Work
from jobs.spec import JobSpec, as_asked
from manifests.findings import Finding
from manifests.finished import Finished
from manifests.source import Manifest
from manifests.store import Store, StoreError

if TYPE_CHECKING:
    from jobs.stock import Stock

MOST_FINDINGS = 10_000  # that are recorded
WHOLE = ("done", "some_failed", "failed")  # ends after which the same command looks at every film again


@dataclass(frozen=True)
class Known:
    """What was found out of a manifest: findings, how much there is to render, whether it names files."""

    findings: tuple[Finding, ...]
    work: Work
    files: bool = False


def asked_of(manifest: Manifest, spec: JobSpec, stocked: Mapping[str, "Stock"]) -> str:
    """A hash of all that checks and plans of a manifest that names no files depend on."""
    models = {name: [one.model.digest, one.model.dtype] for name, one in stocked.items()}
    told = [version("longtake"), RENDERING, manifest.digest, as_asked(spec), models]
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).hexdigest()


def record(store: Store, job_id: str, asked: str, known: Known) -> None:
    """Leave what was found to later drivers, where it stays true. Raises OSError."""
    if known.files or len(known.findings) > MOST_FINDINGS:
        return
    findings = [asdict(finding) for finding in known.findings]
    store.put_marker(_key(job_id, asked), {"findings": findings, "work": asdict(known.work)})


def recorded(store: Store, job_id: str, asked: str) -> Known | None:
    """What an earlier driver found, if it left it and it can be read."""
    try:
        told = store.read_marker(_key(job_id, asked))
    except OSError:  # which is told when the store is probed
        return None
    except StoreError:  # damaged: found out anew
        return None
    if told is None:
        return None
    work = told["work"] | {"n_steps": tuple(told["work"]["n_steps"])}
    return Known(tuple(Finding(**each) for each in told["findings"]), Work(**work))


def finished(store: Store, job_id: str, asked: str, epoch: int, n_rows: int) -> Finished | None:
    """The films that earlier drivers finished; None where they are looked for one by one.

    So they are after a job's own end: whoever gives the command again may have removed something to be made
    again. Raises OSError.
    """
    if _came_to_an_end(store, job_id):
        return None
    try:
        return Finished(store, job_id, asked, epoch, n_rows)
    except StoreError:  # damaged: looked for one by one
        return None


def _came_to_an_end(store: Store, job_id: str) -> bool:
    """Whether the last driver that ended had come to the manifest's end, and left no film out."""
    ended = store.list_keys(f"jobs/{job_id}/ended")
    last: dict[str, Any] = (store.read_marker(ended[-1]) or {}) if ended else {}
    left_out = last.get("early") or last.get("dropped")
    return last.get("status") in WHOLE and bool(last.get("results")) and not left_out


def _key(job_id: str, asked: str) -> str:
    return f"jobs/{job_id}/checked/{asked}.json"
