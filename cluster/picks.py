"""Takes that people picked: a shot drawn again from another seed, or one that was drawn before.

Take 0 is drawn from the shot's own seed, take K from one that this and K give. A take is a shot like any
other, with its own key: what was drawn before is found, and only what follows from it is made anew.

Decides: which shot a take is. Does not decide: when its film is made again (loop).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from cluster.tasks import FilmTasks, SegmentTask

Picks = Mapping[tuple[str, str], int]  # row and shot -> take
MOST = 999  # the last take


def seed_of(seed: int, take: int) -> int:
    """The seed of a take, from 0 to 2^63 - 1 unless it is take 0's own."""
    if take == 0:
        return seed
    digest = hashlib.blake2b(f"{seed} take {take}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def with_takes(film: FilmTasks, picks: Picks) -> FilmTasks:
    """The film with the takes that were picked of its shots; the film itself where none was."""
    own = {shot: take for (row, shot), take in picks.items() if row == film.row_id}
    if not own:
        return film
    made = {segment: _taken(segment, own) for segment in film.master.segments}
    segments = tuple(made[segment] for segment in film.master.segments)
    versions = tuple(replace(version, segments=segments) for version in film.versions)
    return replace(film, master=replace(film.master, segments=segments), versions=versions)


def _taken(segment: SegmentTask, own: Mapping[str, int]) -> SegmentTask:
    task = segment.source
    shot = replace(task.shot, seed=seed_of(task.shot.seed, own.get(task.shot.shot_id, 0)))
    return replace(segment, source=replace(task, shot=shot))
