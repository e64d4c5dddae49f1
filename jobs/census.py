"""The size of a job, counted by columns: no row becomes tasks, but one of each kind of shot does.

Two shots are of one kind if only their texts, names and seeds differ: then they have as many windows, and
cost as much. A shot with later prompts, adapters or files of its own is planned by itself. What films share
is counted once, as `jobs.preview.forecast` does it film by film. Decides: what tells things apart. Does not
decide: what a shot's tasks are (jobs.plan).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from cluster.progress import Work
from cluster.sketch import Load, load_of
from cluster.tasks import VISUAL_ONLY, SegmentTask
from engine.camera import parse_camera
from jobs.assets import given_of
from jobs.distinct import Distinct
from jobs.plan import fps_of, seed_of, segment_task, shot_of
from jobs.preview import Size
from jobs.sifting import Frames, with_files
from jobs.stock import Stock
from manifests.findings import Levels
from manifests.texts import (
    coded,
    given,
    grouped,
    hashes,
    ints,
    joined,
    lengths_of,
    replaced,
    taken,
    texts_of,
    told,
    trimmed,
)

# Validation lets none of these into a text.
UNIT, RECORD, GROUP = "\x1f", "\x1e", "\x1d"
_SIZES = ("width_px", "height_px", "fps_num", "fps_den")
ROW = ("row_id", "profile", *_SIZES, "seed", "prompt", "negative_prompt", "adapters")


def census(batches: Iterable[Levels], stocked: Mapping[str, Stock], batch: int = 1) -> Size:
    """The size of a manifest of sound rows, of which nothing was done before."""
    kinds, films = Kinds(stocked, batch), _Films()
    with Distinct() as shots, Distinct() as prompts, Distinct() as versions:
        for levels in batches:
            if len(levels.rows.rows):
                some = Shots(levels, kinds)
                shots.add(some.numbers, some.kind)
                prompts.add(np.unique(some.prompt_numbers))
                versions.add(_versions(levels, some))
                films.add(some)
        return films.size(kinds, shots.by_kind(), prompts.total, versions.total)


@dataclass(frozen=True)
class Kind:
    """All that a shot is, but for its texts, its name and its seed; the numbers stand for what is equal."""

    load: Load
    stitched: tuple[str, str]
    n_windows: int
    n_predictions: int
    seconds: Fraction
    latents: int
    embedding: int
    picture: int


class Kinds:
    """The kinds of shots that were met, by an index."""

    def __init__(self, stocked: Mapping[str, Stock], batch: int) -> None:
        self.stocked, self.batch = stocked, batch
        self.profiles, self.cameras, self.list = list(stocked), {"": 0}, list[Kind]()
        self._known, self._numbers, self._places = dict[Any, int](), dict[Any, int](), dict[Kind, int]()
        self._columns: dict[str, Any] = {}

    def of(self, key: Any, row: Mapping[str, Any], shot: Mapping[str, Any]) -> int:
        """The index of the kind that goes by `key`, made of one of its shots if it is new."""
        if key not in self._known:
            self._known[key] = self.of_one(row, shot)
        return self._known[key]

    def of_one(self, row: Mapping[str, Any], shot: Mapping[str, Any]) -> int:
        """The index of the kind of one shot."""
        one = self.stocked[row["profile"]]
        kind = self._kind(segment_task(row, shot, one, self.batch), one.profile.quality.max_drift)
        place = self._places.setdefault(kind, len(self.list))
        if place == len(self.list):
            self.list.append(kind)
            self._columns = {}
        return place

    def _kind(self, task: SegmentTask, max_drift: float) -> Kind:
        source = task.source
        bare = tuple(replace(span, prompt="") for span in source.shot.prompts)
        blank = replace(
            source, shot=replace(source.shot, shot_id="", prompts=bare, negative_prompt="", seed=0)
        )
        # Whether it is held its prompts and its camera say, which equal latents have in common.
        held = max_drift if len(source.layout.windows(source.n_canvas)) > 1 else 0.0
        return Kind(
            load_of(source, task.tiles),
            (source.stitch.mode, source.stitch.why),
            source.course.n_windows,
            source.course.n_predictions,
            source.shot.n_frames / task.picture.fps,
            self._number(blank.key),
            self._number((*source.model.identity, source.max_text_tokens)),
            self._number((source.shot.n_frames, task.picture, held)),
        )

    def _number(self, thing: Any) -> int:
        return self._numbers.setdefault(thing, len(self._numbers))

    def column(self, name: str) -> Any:
        """A number of every kind, numpy."""
        if name not in self._columns:
            self._columns[name] = np.array([getattr(kind, name) for kind in self.list])
        return self._columns[name]


class Shots:
    """The shots of some rows: numpy `kind`, and `numbers` that only equal shots share."""

    def __init__(self, levels: Levels, kinds: Kinds) -> None:
        self.levels, self.kinds = levels, kinds
        rows, shots = levels.rows, levels.shots
        self.n_rows, self.rows = len(rows.rows), shots.rows
        self.columns = {name: rows.column(name) for name in ROW}
        place = np.arange(len(shots.rows))
        lent = {name: taken(rows.column(name), shots.rows) for name in ("prompt", "negative_prompt")}
        self.prompt = trimmed(shots.column("prompt"), lent["prompt"])
        self.negative = trimmed(shots.column("negative_prompt"), lent["negative_prompt"])
        self.seed = self._seeds()
        self.kind = np.zeros(len(place), np.int64)
        self._keys, special = self._columns(), _special(levels)
        self._place_plain(np.flatnonzero(~special))
        self._later = self._place_special(np.flatnonzero(special))
        self.special = special
        latents = kinds.column("latents")[self.kind]
        parts = (latents, shots.column("shot_id"), self.prompt, self.negative, self.seed)
        self.numbers = hashes(joined(*parts, by=RECORD))

    @property
    def prompt_numbers(self) -> Any:
        """A number for each text that is encoded."""
        embedding = self.kinds.column("embedding")[self.kind]
        one = np.flatnonzero(~self.special)
        texts = [joined(embedding[one], taken(self.prompt, one), by=RECORD)]
        texts += [joined(embedding, self.negative, by=RECORD), self._later]
        return np.concatenate([hashes(each) for each in texts])

    def film_numbers(self) -> Any:
        """A number for the pictures of each row."""
        segments = joined(self.numbers, self.kinds.column("picture")[self.kind], by=RECORD)
        return hashes(grouped(segments, self.rows, self.n_rows, GROUP))

    def _seeds(self) -> Any:
        """The seed of each shot, as planning has it."""
        rows, shots = self.levels.rows, self.levels.shots
        seeds, asked = ints(rows.column("seed")), given(rows.column("seed"))
        for at in np.flatnonzero(~asked):
            seeds[at] = seed_of({"row_id": rows.ids[int(at)].as_py()}, {})
        own = given(shots.column("seed"))
        return np.where(own, ints(shots.column("seed")), seeds[shots.rows])

    def _place_plain(self, at: Any) -> None:
        """The kinds of shots that are as their columns say, and the words of their cameras."""
        keys = self._keys
        first, inverse = _distinct([each[at] for each in keys])
        found = np.zeros(len(first), np.int64)
        for one in np.argsort(first):
            shot = int(at[first[one]])
            found[one] = self.kinds.of(self._key(shot), *self._asked(shot))
        self.kind[at] = found[inverse]
        self._direct(at[keys[-1][at] > 0])

    def _columns(self) -> list[Any]:
        """The numbers of each shot that tell plain kinds apart: profile, size, rate, length and camera."""
        frames = Frames(self.levels, {name: one.profile for name, one in self.kinds.stocked.items()})
        profile = np.array([self.kinds.profiles.index(name) for name in frames.names])[frames.profile]
        sizes = (profile, frames.width_px, frames.height_px, frames.num, frames.den)
        return [*(each[self.rows] for each in sizes), frames.of_shot, self._cameras()]

    def _key(self, at: int) -> tuple[int, ...]:
        return tuple(int(each[at]) for each in self._keys)

    def _cameras(self) -> Any:
        """The camera of each shot as a number that stays, 0 for none."""
        codes, names = coded(self.levels.shots.column("camera"))
        known = self.kinds.cameras
        return np.array([*(known.setdefault(name.strip(), len(known)) for name in names), 0])[codes]

    def _direct(self, at: Any) -> None:
        """Put the words of their cameras behind the prompts of these shots."""
        profile, *_, cameras = self._keys
        names = [parse_camera(name) if name else None for name in self.kinds.cameras]
        idioms = [self.kinds.stocked[name].idiom for name in self.kinds.profiles]
        texts = taken(self.prompt, at).to_pylist()
        directed = [
            idioms[row].directed(text, names[camera])
            for row, camera, text in zip(profile[at], cameras[at], texts, strict=True)
        ]
        self.prompt = replaced(self.prompt, at, directed)

    def _place_special(self, at: Any) -> Any:
        """Plan these shots one by one; the texts that they have encoded, each with what encodes it."""
        prompts = []
        for one in map(int, at):
            row, asked = self._asked(one)
            stock, more = self.kinds.stocked[row["profile"]], _more(row, asked)
            if more is None:
                self.kind[one] = self.kinds.of_one(row, asked)
            else:
                self.kind[one] = self.kinds.of((self._key(one), more), row, asked)
            shot = shot_of(row, asked, fps_of(row, stock.profile), stock.idiom)
            prompts.append([span.prompt for span in shot.prompts])
        self.prompt = replaced(self.prompt, at, [UNIT.join(each) for each in prompts])
        owner = np.repeat(self.kind[at], [len(each) for each in prompts])
        embedding = self.kinds.column("embedding")[owner] if len(owner) else owner
        return joined(embedding, texts_of(text for each in prompts for text in each), by=RECORD)

    def _asked(self, at: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """A shot and its row as plain values."""
        row, shots = int(self.rows[at]), self.levels.shots
        return {name: column[row].as_py() for name, column in self.columns.items()}, shots.data[at].as_py()


def _special(levels: Levels) -> Any:
    """Shots that more than their columns of numbers tell apart."""
    rows, shots = levels.rows, levels.shots
    own = given(shots.column("adapters")) | (lengths_of(shots.column("prompts")) > 0)
    return own | (given(rows.column("adapters")) | with_files(levels))[shots.rows]


def _distinct(columns: Sequence[Any]) -> tuple[Any, Any]:
    """Of rows of numbers, by columns: where each distinct one is first, and which of these each row is."""
    inverse = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        codes = np.unique(column, return_inverse=True)[1].reshape(-1)
        # made dense each time, so that no product of two is too large
        _, inverse = np.unique(inverse * (codes.max(initial=0) + 1) + codes, return_inverse=True)
    return np.unique(inverse, return_index=True)[1], inverse.reshape(-1)


def _more(row: Mapping[str, Any], shot: Mapping[str, Any]) -> str | None:
    """What tells a special shot's kind beside its columns; None where that is in its files."""
    if given_of(shot):
        return None
    spans = [[span["start_s"], span.get("blend_s")] for span in shot.get("prompts") or []]
    return repr([spans, shot.get("adapters"), row.get("adapters")])


def _versions(levels: Levels, shots: Shots) -> Any:
    """A number for each language version; a row without languages has one."""
    languages, segments = levels.languages, levels.segments
    films = shots.film_numbers()
    titles = told(languages.column("title"), taken(levels.rows.column("title"), languages.rows))
    texts = joined(segments.column("shot_id"), segments.column("text"), by=UNIT)
    narrated = grouped(texts, segments.parent, len(languages.rows), RECORD)
    spoken = hashes(joined(films[languages.rows], languages.column("lang"), titles, narrated, by=GROUP))
    silent = films[np.bincount(languages.rows, minlength=len(films)) == 0]
    return np.concatenate([spoken, hashes(joined(silent, texts_of([VISUAL_ONLY] * len(silent)), by=GROUP))])


class _Films:
    """What is summed up film by film."""

    def __init__(self) -> None:
        self.n_films, self.n_given, self.most = 0, 0, -1
        self.longest: Counter[int] = Counter()
        self.shown: Counter[int] = Counter()  # shots by kind, as often as they are shown

    def add(self, shots: Shots) -> None:
        """Take up some rows."""
        self.n_films += shots.n_rows
        self.n_given += int(with_files(shots.levels).sum())
        found, first, n = np.unique(shots.kind, return_index=True, return_counts=True)
        for at in np.argsort(first):  # so that kinds stand in the order of their first shots
            self.shown[int(found[at])] += int(n[at])
        steps = np.zeros(shots.n_rows, np.int64)
        np.add.at(steps, shots.rows, shots.kinds.column("n_predictions")[shots.kind])
        at = int(np.argmax(steps))
        if steps[at] > self.most:
            self.most, self.longest = int(steps[at]), Counter(shots.kind[shots.rows == at].tolist())

    def size(self, kinds: Kinds, n_shots: Any, n_prompts: int, n_versions: int) -> Size:
        """All of it, where nothing was done before."""
        size, distinct = Size(given=self.n_given), dict(enumerate(n_shots.tolist()))
        size.total["films"], size.total["prompts"] = self.n_films, n_prompts
        size.total["versions"] = n_versions
        seconds: Any = sum(kinds.list[at].seconds * n for at, n in self.shown.items())  # a fraction
        size.total["film_s"] = seconds
        for at in self.shown:
            kind, n = kinds.list[at], distinct.get(at, 0)
            if n:
                size.total.update(
                    {"shots": n, "windows": n * kind.n_windows, "window_steps": n * kind.n_predictions}
                )
                size.stitched[kind.stitched] += n
                size.loads[kind.load] += n
        for at, n in self.longest.items():
            size.longest[kinds.list[at].load] += n
        size.to_do.update(size.total)
        return size


def work_of_size(size: Size) -> Work:
    """What a job of this size has to render."""
    total = size.total
    steps = {n for load in size.loads for n, _ in load.course.legs}
    return Work(total["films"], total["shots"], total["windows"], total["window_steps"], tuple(sorted(steps)))
