"""Bundles of shots that were given up, put into the job's folder as their films end (cluster.quarantine)."""

import json
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cluster.dispatch import GANG
from cluster.events import Event, FilmDone, Hired, Predicted
from cluster.outcomes import Failure
from cluster.quarantine import bundle, deserves, folder
from cluster.shots import ShotTask
from manifests.store import Store, StoreError


class Quarantine:
    """Watches which device each gang computes on, and keeps what the shots of a film were given up with."""

    def __init__(self, store: Store, job_id: str, epoch: int, facts: Mapping[str, Any]) -> None:
        self._store, self._job_id, self._epoch, self._facts = store, job_id, epoch, facts
        self._devices: dict[str, str] = {}

    def event(self, event: Event) -> None:
        """Remember a gang's device by its answers; a gang that is hired anew may have another."""
        match event:
            case Predicted(gang, _, fared) if fared is not None:
                self._devices[gang] = fared.device
            case Hired(worker, role) if role == GANG:
                self._devices.pop(worker, None)

    def film(self, film: FilmDone) -> None:
        """Leave a bundle of each shot of the film that was given up for no reason that is known.

        Trouble with the store is told, and is no trouble of the job.
        """
        for segment in film.film.master.segments:
            task = segment.source
            failure = film.results.get(task.key)
            if isinstance(failure, Failure) and failure.scene is not None and deserves(failure):
                try:
                    self._keep(film.film.row_id, task, failure)
                except (OSError, StoreError) as error:
                    print(f"longtake: no bundle of {task.key} can be kept: {error}", file=sys.stderr)

    def _keep(self, row_id: str, task: ShotTask, failure: Failure) -> None:
        shot_id, worker = task.shot.shot_id, failure.scene.worker if failure.scene else ""
        facts = dict(self._facts) | {
            "device": self._devices.get(worker),
            "driver_host": platform.node(),
            "at_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        made = bundle(self._store, self._job_id, row_id, task, failure, facts)
        key = f"{folder(self._job_id, row_id, shot_id)}/{self._epoch:06}.json"
        data = json.dumps(made, ensure_ascii=False, sort_keys=True, indent=1).encode("utf-8", "replace")
        self._store.publish(self._store.put_artefact(data), key)
        again = f"longtake reproduce {self._job_id} --out {self._store.url} --row {row_id} --shot {shot_id}"
        print(f"longtake: {failure.code} of {row_id} {shot_id} is kept: {again}", file=sys.stderr, flush=True)
