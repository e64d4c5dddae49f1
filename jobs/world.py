"""Prompts in words that their model was not taught. They render all the same, so a plan only warns of them.

Decides: which texts of a row are judged, and how much of a warning is kept: two numbers and a few examples a
profile, however long the manifest is. Does not decide which words a model knows (`engine.families.world`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np

from engine.camera import ENGLISH, Idiom, parse_camera
from engine.families.world import World, read_world
from jobs.plan import Row
from jobs.show import count, one_line
from jobs.stock import Stock
from manifests.findings import Levels
from manifests.texts import coded, given, taken, trimmed
from manifests.texts import words as words_of

CODE = "W701_OUTSIDE_WORLD"
SHOWN = 5  # examples of a profile, each with other words
REMEMBERED = 65_536  # words, and sequences of unknown ones


@dataclass(frozen=True)
class Example:
    """One prompt's unknown words, and for some of them the form that its model does know."""

    row_id: str
    json_path: str
    words: tuple[str, ...]
    known_as: Mapping[str, str]


@dataclass
class Outside:
    """How many prompts of a profile have unknown words, and the first of them."""

    profile: str
    world: World
    idiom: Idiom = ENGLISH
    n_prompts: int = 0
    n_outside: int = 0
    examples: list[Example] = field(default_factory=list)

    def show(self, row: Row) -> None:
        """Take an example of a row, if it has one with other words."""
        found = [(json_path, self.world.unknown(text)) for json_path, text in prompts(row)]
        for json_path, words in [*found, *_cameras(row, self.idiom)]:
            if words and len(self.examples) < SHOWN and all(words != one.words for one in self.examples):
                kin = {word: known for word in words if (known := self.world.kin(word))}
                self.examples.append(Example(row["row_id"], json_path, words, kin))


def _cameras(row: Row, idiom: Idiom) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Cameras by JSON path, each with itself where the model was never taught it."""
    for place, shot in enumerate(row["shots"]):
        if idiom.taught and (asked := (shot.get("camera") or "").strip()):
            text = parse_camera(asked).text
            yield f"/shots/{place}/camera", () if text in idiom.words else (text,)


def worlds(stocked: Mapping[str, Stock]) -> dict[str, World]:
    """The worlds of those profiles whose model tells of one. Raises SpecError for a damaged file."""
    found = {}
    for name, one in stocked.items():
        try:
            world = read_world(one.folder)
        except ValueError as error:
            raise one.refused(name, error) from error
        if world is not None:
            found[name] = world
    return found


def outside(
    batches: Iterable[Levels], known: Mapping[str, World], idioms: Mapping[str, Idiom] = MappingProxyType({})
) -> list[Outside]:
    """A warning for each profile with prompts outside its model's world, or cameras outside its idiom."""
    judged = {name: Outside(name, world, idioms.get(name, ENGLISH)) for name, world in known.items()}
    readers = {name: _Reader(one) for name, one in judged.items()}
    for levels in batches if judged else ():
        codes, names = coded(levels.rows.column("profile"))
        for number, name in enumerate(names):
            if name in readers:
                readers[name].read(levels.of_rows(codes == number))
    return [one for one in judged.values() if one.n_outside]


class _Reader:
    """Judges the rows of one profile, many at a time; a row becomes plain values only to be an example."""

    def __init__(self, told: Outside) -> None:
        self.told = told
        self.unknown = lru_cache(REMEMBERED)(told.world.unknown)
        self.seen: set[int] = set()  # numbers of the sequences of unknown words that were looked at

    def read(self, levels: Levels) -> None:
        """Count prompts and cameras."""
        rows, shots, later = levels.rows, levels.shots, levels.prompts
        own = given(trimmed(shots.column("prompt"), shots.column("prompt")))
        lent = given(trimmed(rows.column("prompt"), rows.column("prompt")))
        bare = np.bincount(shots.rows[~own], minlength=len(rows.rows)) > 0
        fresh = np.zeros(len(rows.rows), bool)
        for level, chosen in ((rows, lent & bare), (shots, own), (later, np.ones(len(later.rows), bool))):
            at = np.flatnonzero(chosen)
            numbers = self._unknown(taken(level.column("prompt"), at))
            self._count(len(at), numbers, level.rows[at], fresh)
        if self.told.idiom.taught:
            at = np.flatnonzero(given(trimmed(shots.column("camera"), shots.column("camera"))))
            self._count(len(at), self._untaught(taken(shots.column("camera"), at)), shots.rows[at], fresh)
        for row in np.flatnonzero(fresh):
            if len(self.told.examples) < SHOWN:
                self.told.show(rows.data[int(row)].as_py())

    def _count(self, n: int, numbers: Any, rows: Any, fresh: Any) -> None:
        """Count n texts, whose unknown words have these numbers, 0 for none; mark rows of new ones."""
        outside = np.flatnonzero(numbers)
        self.told.n_prompts += n
        self.told.n_outside += len(outside)
        if len(self.told.examples) >= SHOWN:
            return
        distinct, first = np.unique(numbers[outside], return_index=True)
        new = [at for number, at in zip(distinct.tolist(), first, strict=True) if number not in self.seen]
        self.seen.update(numbers[outside][new].tolist() if len(self.seen) < REMEMBERED else ())
        fresh[rows[outside[new]]] = True

    def _unknown(self, texts: Any) -> Any:
        """A number for each text's sequence of unknown words, 0 where there is none."""
        owner, codes, vocabulary = words_of(texts)
        numbers = np.array([hash(new) | 1 if (new := self.unknown(word)) else 0 for word in vocabulary])
        each = numbers.astype(np.int64)[codes] if vocabulary else codes
        there = np.flatnonzero(each)
        behind = np.arange(len(there)) - np.searchsorted(owner[there], owner[there])
        found = np.zeros(len(texts), np.int64)
        np.add.at(found, owner[there], each[there] * (2 * behind + 1))
        outside = np.bincount(owner[there], minlength=len(texts)) > 0
        return np.where(outside & (found == 0), 1, found)

    def _untaught(self, cameras: Any) -> Any:
        """The same for cameras that the model was never taught."""
        codes, names = coded(cameras)
        texts = [parse_camera(name.strip()).text for name in names]
        numbers = [0 if text in self.told.idiom.words else hash((text,)) | 1 for text in texts]
        return np.array([*numbers, 0], np.int64)[codes]


def prompts(row: Row) -> Iterator[tuple[str, str]]:
    """What a row's shots show, by JSON path; the row's own prompt once, if a shot takes it."""
    shots = row["shots"]
    own = [_given(shot) for shot in shots]
    if _given(row) and not all(own):
        yield "/prompt", row["prompt"]
    for place, shot in enumerate(shots):
        if own[place]:
            yield f"/shots/{place}/prompt", shot["prompt"]
        for number, later in enumerate(shot.get("prompts") or []):
            yield f"/shots/{place}/prompts/{number}/prompt", later["prompt"]


def _given(entry: Row) -> bool:
    """Whether there is a prompt: validation counts a text of spaces as none."""
    return bool((entry.get("prompt") or "").strip())


def as_json(one: Outside) -> dict[str, Any]:
    """A warning for scripts."""
    return {
        "code": CODE,
        "profile": one.profile,
        "prompts": one.n_outside,
        "of_prompts": one.n_prompts,
        "examples": [asdict(example) for example in one.examples],
        "model": one.world.name,
        "note": one.world.note,
        "draws": list(one.world.draws),
    }


def as_text(one: Outside) -> str:
    """A warning for people: how many, a few of them, and what the model can draw instead."""
    name, verb = one_line(one.world.name, 100), "use" if one.n_outside > 1 else "uses"
    head = f"{CODE}  {one.n_outside:,} of {count(one.n_prompts, 'prompt')} of profile {one.profile}"
    lines = [f"{head} {verb} words that {name} does not know; they render, without what these words ask for"]
    lines += [f"    {_example(example)}" for example in one.examples]
    if one.n_outside > len(one.examples):
        lines += [f"    … and {count(one.n_outside - len(one.examples), 'prompt')} more"]
    lines += [f"{one_line(one.world.note)} It can draw:"]
    return "\n".join([*lines, *(f"    {one_line(text)}" for text in one.world.draws)])


def _example(example: Example) -> str:
    """Where it is and its unknown words, each with its known form if it has one."""
    known = example.known_as
    shown = (_visible(word) + (f" (say {known[word]})" if word in known else "") for word in example.words)
    return one_line(f"row {example.row_id} {example.json_path}: {', '.join(shown)}", 500)


def _visible(word: str) -> str:
    """A word whose invisible characters, which alone may make it unknown, are shown by their numbers."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in word)
