"""Which row of the manifest a film under way is, and the list of films that are finished.

Decides: which films are finished for good: those that are done in all languages. Does not decide: how they
are listed (manifests.finished).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from cluster.events import FilmDone
from cluster.tasks import FilmTasks
from manifests.finished import Finishing


class Journal:
    """Told of films as they are drawn and as they end; without a list it only listens."""

    def __init__(self, finishing: Finishing | None) -> None:
        self._finishing, self._places = finishing, dict[str, int]()

    def drawn(self, films: Iterable[tuple[int, FilmTasks]]) -> Iterator[FilmTasks]:
        """The films, each once its place in the manifest is noted."""
        for place, film in films:
            self._places[film.row_id] = place
            yield film

    def ended(self, film: FilmDone, rows: Sequence[Mapping[str, Any]]) -> None:
        """List a film that is done and published, with its rows of results. Raises OSError."""
        place = self._places.pop(film.film.row_id)
        if self._finishing is not None and all(row["status"] == "done" for row in rows):
            shots = {segment.source.key: segment.source for segment in film.film.master.segments}
            self._finishing.add(place, sum(shot.course.n_predictions for shot in shots.values()), rows)

    def tick(self) -> None:
        """Time has passed. Raises OSError."""
        if self._finishing is not None:
            self._finishing.flush_if_due()
