"""What an edit changes of a film: which shots are rendered anew, and why, against what the store last showed.

A film that is done leaves a note of each shot's facts. The next plan lays its own facts beside them.

Decides: what is said to have changed. Does not decide: what is rendered anew, which a task's key does.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cluster.outcomes import Outcome
from cluster.shots import ShotTask
from cluster.tasks import FilmTasks
from manifests.places import StoreError

if TYPE_CHECKING:
    from manifests.store import Store

Facts = dict[str, Any]


def facts_of(task: ShotTask) -> Facts:
    """All that changes a shot's latents, by the words in which people ask for it."""
    shot, given = task.shot, [each.key for each in task.given]
    return {
        "prompt": [asdict(span) for span in shot.prompts],
        "negative_prompt": shot.negative_prompt,
        "seed": shot.seed,
        "length": [task.n_latent, task.n_resting],
        "size": [task.height_px, task.width_px],
        "model": [*task.model.identity, task.model.quantise],
        "sampling": task.sampling.identity,
        "windows": [task.layout.identity, task.stitch.identity],
        "given files": given,
        "adapters": [[each.artefact, each.scale] for each in task.adapters],
        "text length": task.max_text_tokens,
    }


def note_key(row_id: str) -> str:
    """Where the note of a film lies."""
    return f"notes/{row_id}.json"


def leave_note(store: "Store", film: FilmTasks) -> None:
    """Note the shots of a film that is done, in place of an older note. Raises OSError."""
    shots = {segment.source.shot.shot_id: segment.source for segment in film.master.segments}
    note = {shot_id: {"key": task.key, "facts": facts_of(task)} for shot_id, task in shots.items()}
    data = json.dumps(note, sort_keys=True, ensure_ascii=False, default=str).encode()
    store.publish(store.put_artefact(data), note_key(film.row_id))


def changes(store: "Store", film: FilmTasks, done: Mapping[str, Outcome]) -> dict[str, str]:
    """The film's shots that are to be rendered, each with the reason, in the film's order. Raises OSError."""
    left = film.unfinished(done)
    noted = _noted(store, film.row_id)
    return {
        segment.source.shot.shot_id: _why(segment.source, noted)
        for segment in film.master.segments
        if segment.source.key in left and segment.source.key not in done
    }


def _noted(store: "Store", row_id: str) -> dict[str, Any] | None:
    """The film's last note; None where there is none that can be read."""
    try:
        data = store.read(note_key(row_id))
        note = json.loads(data) if data is not None else None
    except (StoreError, ValueError):
        return None
    return note if isinstance(note, dict) else None


def _why(task: ShotTask, noted: dict[str, Any] | None) -> str:
    if noted is None:
        return "the film is new"
    before = noted.get(task.shot.shot_id)
    if before is None:
        return "the shot is new"
    if before["key"] == task.key:
        return "its latents are gone from the store"
    now = json.loads(json.dumps(facts_of(task), default=str))
    changed = [name for name, value in now.items() if before["facts"].get(name) != value]
    return f"another {' and '.join(changed)}" if changed else "another release renders it"
