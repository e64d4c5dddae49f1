"""Films as they are planned where people have picked takes of their shots; a pick of nothing is told."""

import sys
from collections.abc import Collection, Iterable, Iterator

from cluster.picks import Picks, with_takes
from cluster.tasks import FilmTasks


def picked(films: Iterable[FilmTasks], picks: Picks) -> Iterator[FilmTasks]:
    """The films, each with the takes that are picked of it when it is drawn."""
    for film in films:
        shots = {segment.source.shot.shot_id for segment in film.master.segments}
        for row, shot in picks:
            if row == film.row_id and shot not in shots:
                print(f"longtake: row {row} has no shot {shot!r} to pick a take of", file=sys.stderr)
        yield with_takes(film, picks)


def all_of(rows: Collection[str], films: Iterable[FilmTasks]) -> Iterator[FilmTasks]:
    """The films of these rows; a row that has none is told once they are drawn."""
    left = set(rows)
    for film in films:
        left.discard(film.row_id)
        yield film
    if left:
        print(f"longtake: the job has no row {', '.join(sorted(left))} to make again", file=sys.stderr)
