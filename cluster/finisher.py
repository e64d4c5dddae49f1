"""The last stage: a film's segments become its pictures, and with titles and voices its language versions.

Decides: what a version says of its making, and what its marker tells of it. Does not decide: how a film is
joined, spoken, drawn on or signed (engine.film).
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from cluster.logs import reporting
from cluster.once import Made, done_once, found_file, found_task
from cluster.outcomes import Facts, Outcome, taken
from cluster.tasks import MasterTask, SegmentTask, VersionTask
from engine.film.finish import Line, Version, make_version
from engine.film.join import count_frames, join_segments
from engine.film.provenance import Claim, make_development_identity
from engine.film.sheet import contact_sheet
from engine.numerics import set_threads
from manifests.store import open_store


class Finisher:
    """Joins segments, and makes a film's language versions."""

    def __init__(self, store_url: str, identity_folder: str, threads: int = 1) -> None:
        set_threads(threads)
        self.store, self.identity_folder = open_store(store_url), Path(identity_folder)

    @reporting
    def run(self, task: MasterTask | VersionTask) -> Outcome:
        """Do a master or a version."""
        if isinstance(task, MasterTask):
            return done_once(self.store, task, lambda folder: self._master(task, folder))
        return done_once(self.store, task, lambda folder: self._version(task, folder))

    def _master(self, task: MasterTask, folder: Path) -> Made:
        path = folder / "master.mp4"
        segments = self._segments(task.segments, folder)
        count = join_segments(segments, path)
        sheet = folder / "sheet.jpg"
        contact_sheet(segments, [segment.source.shot.shot_id for segment in task.segments], sheet)
        made = [(each, found_task(self.store, "segment", each.key)) for each in task.segments]
        facts = {"frame_count": count, "held": _held(made)}
        shots = {each.source.key: outcome for each, outcome in made}
        return {"master": path, "sheet": sheet}, facts | taken(*shots.values())

    def _version(self, task: VersionTask, folder: Path) -> Made:
        segments = self._segments(task.segments, folder)
        picture = task.segments[0].picture
        version = Version(
            lang=task.lang,
            title=task.title,
            lines=_lines(task, [count_frames(path) for path in segments]),
            claim=_claim(task),
            fps=picture.fps,
            crf=picture.crf,
            preset=picture.preset,
        )
        film, identity = folder / "film.mp4", make_development_identity(self.identity_folder)
        facts = make_version(segments, film, version, identity, folder)
        files = {"film": film} | ({"captions": facts.captions} if facts.captions else {})
        sha256 = hashlib.file_digest(film.open("rb"), "sha256").hexdigest()
        return files, {
            "frame_count": facts.frame_count,
            "duration_s": facts.duration_s,
            "width_px": facts.width_px,
            "height_px": facts.height_px,
            "size_bytes": facts.size_bytes,
            "sha256": sha256,
        }

    def _segments(self, tasks: Iterable[SegmentTask], folder: Path) -> list[Path]:
        """Local copies of the segments, in order."""
        paths = []
        for index, task in enumerate(tasks):
            path = folder / f"{index:04}.mp4"
            self.store.fetch_artefact(found_file(self.store, "segment", task.key, "segment"), path)
            paths.append(path)
        return paths


def _held(made: Sequence[tuple[SegmentTask, Outcome]]) -> list[Facts]:
    """Which shots had their colours held to their beginning, from which drift to which."""
    told = []
    for task, outcome in made:
        if "held_de_per_min" in outcome.facts:
            drifts = {name: outcome.facts[name] for name in ("drift_de_per_min", "held_de_per_min")}
            told.append({"shot_id": task.source.shot.shot_id, **drifts})
    return told


def _lines(task: VersionTask, counts: list[int]) -> tuple[Line, ...]:
    """The narrations, each from the start of its shot and no longer than it."""
    spoken = {narration.shot_id: narration.text for narration in task.narrations}
    lines, start = [], 0
    fps = task.segments[0].picture.fps
    for segment, count in zip(task.segments, counts, strict=True):
        text = spoken.get(segment.source.shot.shot_id)
        if text:
            lines.append(Line(text, float(start / fps), float(count / fps)))
        start += count
    return tuple(lines)


def _claim(task: VersionTask) -> Claim:
    """What the film says of its making: hashes of its texts, never the texts."""
    source = task.segments[0].source
    prompts = [span.prompt for segment in task.segments for span in segment.source.shot.prompts]
    inputs = json.dumps(task.identity, ensure_ascii=False, sort_keys=True, default=str)
    return Claim(
        title=task.title,
        manifest_row_hash=_sha256(inputs),
        model=source.model.digest,
        seed=source.shot.seed,
        prompt_hashes=tuple(_sha256(prompt) for prompt in prompts),
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
