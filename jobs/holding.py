"""Which shots have their colours held to their beginning, and what is told of those that had.

Decides: what of a profile's quality.max_drift a shot comes to, and the notes to a film's figures. Does not
decide: which shots are meant to change (engine.changes), or how colours are held (engine.quality.steady).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.once import marker_key
from cluster.shots import ShotTask
from cluster.tasks import SegmentTask
from engine.camera import parse_camera
from engine.changes import LEFT, Hold, meant_to_change
from manifests.store import open_store

if TYPE_CHECKING:
    from jobs.stock import Stock


def hold_of(task: ShotTask, camera: str, one: Stock) -> Hold:
    """How a shot is held. One window draws all of its frames at once, and is left."""
    limit = one.profile.quality.max_drift
    if not limit or len(task.layout.windows(task.n_canvas)) == 1:
        return LEFT
    roles = {asset.role for given in task.given for asset in given.assets}
    prompts = [span.prompt for span in task.shot.prompts]
    why = meant_to_change(prompts, parse_camera(camera) if camera else None, roles, one.changes)
    return Hold(why=why) if why else Hold(limit)


def notes_of(segments: Sequence[SegmentTask], film: Path) -> Iterator[str]:
    """What must be known of a film's drift: which shots are meant to change, and which were held.

    The latter is known where the film still lies in the store that it was rendered into.
    """
    rendered = film.absolute().parent.parent
    store = open_store(str(rendered)) if (rendered / "done").is_dir() else None
    for segment in segments:
        name = segment.source.shot.shot_id
        if segment.hold.why:
            yield f"{name} is meant to change, so its drift is no fault: {segment.hold.why}"
        marker = store.read_marker(marker_key(segment.kind, segment.key)) if store else None
        facts = marker["facts"] if marker else {}
        if "held_de_per_min" in facts:
            yield (
                f"{name} drifted by {facts['drift_de_per_min']:.1f} dE a minute as it was drawn; its colours "
                f"were held to its beginning, and drift by {facts['held_de_per_min']:.1f}"
            )
