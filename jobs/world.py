"""Prompts in words that their model was not taught. They render all the same, so a plan only warns of them.

Decides: which texts of a row are judged, and how much of a warning is kept: two numbers and a few examples a
profile, however long the manifest is. Does not decide which words a model knows (`engine.families.world`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

from engine.camera import ENGLISH, Idiom, parse_camera
from engine.families.world import World, read_world
from jobs.plan import Row
from jobs.show import count, one_line
from jobs.stock import Stock

CODE = "W701_OUTSIDE_WORLD"
SHOWN = 5  # examples of a profile, each with other words


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

    def judge(self, row: Row) -> None:
        """Count a row's prompts, and the cameras of its shots."""
        found = [(json_path, self.world.unknown(text)) for json_path, text in prompts(row)]
        for json_path, words in [*found, *_cameras(row, self.idiom)]:
            self.n_prompts += 1
            self.n_outside += bool(words)
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
    rows: Iterable[Row], known: Mapping[str, World], idioms: Mapping[str, Idiom] = MappingProxyType({})
) -> list[Outside]:
    """A warning for each profile with prompts outside its model's world, or cameras outside its idiom."""
    judged = {name: Outside(name, world, idioms.get(name, ENGLISH)) for name, world in known.items()}
    for row in rows if judged else ():
        if row["profile"] in judged:
            judged[row["profile"]].judge(row)
    return [one for one in judged.values() if one.n_outside]


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
