"""Which shots are meant to change as they go on, by facts of what is asked for. No torch.

Decides: whether a shot's colours may be held to its beginning, from its prompts, its camera and the files
that it is given. Does not decide: how much they drift (quality.trends), nor what is done about it
(quality.steady).

In doubt a shot is left as it is drawn: a drift that stays is told of, where a correction would have worked
against a sunset.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from engine.camera import MOVES, STATIC, Camera
from engine.families.world import stem, words_of
from engine.takes import LAST, SOURCE

APART = 3  # words: how far the next word of a phrase may lie behind the one before
CHANGES = (
    "appears", "becomes", "blooms", "brightens", "burns", "changes", "closes", "clouds form", "clouds gather",
    "darkens", "dawn", "day turns", "daybreak", "disappears", "dissolves", "dusk", "explodes", "fades",
    "from day to night", "from night to day", "gets bright", "gets dark", "gets light", "goes out", "grows",
    "lights up", "melts", "moon rises", "moon sets", "moonrise", "night falls", "nightfall", "opens",
    "rising moon", "rising sun", "setting moon", "setting sun", "shrinks", "storm comes", "sun comes up",
    "sun goes down", "sun rises", "sun sets", "sunrise", "sunset", "time lapse", "timelapse", "transforms",
    "turns into", "turns to", "vanishes",
)  # fmt: skip
MOVING = tuple(
    phrase
    for move, said in MOVES.items()
    if move != STATIC
    for phrase in (move, f"camera {said.split()[0]}")
    if phrase != "orbit"  # planets do
)  # as in "the camera slowly pans left", "a slow zoom in"


@dataclass(frozen=True)
class Hold:
    """Over which drift of its mean colour a shot is held to its beginning, in dE a minute; 0 is never.

    `why` it is never is for people: it changes no picture.
    """

    max_drift: float = 0.0
    why: str = field(default="", compare=False)


LEFT = Hold()


def meant_to_change(
    prompts: Sequence[str], camera: Camera | None, given: Collection[str], own: Iterable[str] = ()
) -> str:
    """Why a shot with these prompts is meant to change; "" where nothing says that it is.

    `given` are the names of engine.takes that it is given files for, `own` the phrases of change that its
    model was taught (World.changes), in any language.
    """
    if len(prompts) > 1:
        return "its prompt changes"
    if camera is not None and camera.direction != STATIC:
        return f"its camera moves ({camera.text})"
    if SOURCE in given:
        return "it redraws a clip, and its colours are the clip's"
    if LAST in given:
        return "it ends with a picture of its own"
    text = stems(prompts[0])
    said = next((phrase for phrase in (*CHANGES, *MOVING, *own) if says(text, stems(phrase))), "")
    return f"its prompt says {said!r}" if said else ""


@lru_cache(maxsize=2048)
def stems(text: str) -> tuple[str, ...]:
    """What is left of a text's words without their forms."""
    return tuple(stem(word) for word in words_of(text))


def says(text: tuple[str, ...], phrase: tuple[str, ...]) -> bool:
    """Whether the words of a phrase come in a text in their order, near each other."""
    ends = {at for at, word in enumerate(text) if (word,) == phrase[:1]}
    for wanted in phrase[1:]:
        ends = {n for at in ends for n in range(at + 1, at + 1 + APART) if text[n : n + 1] == (wanted,)}
    return bool(ends)
