"""What a model's card recommends, for profiles that leave it open. No torch.

Decides nothing: the numbers stand with each family (`known`), or in a folder's own world.json.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from engine.camera import Idiom, parse_camera
from engine.families.reading import read_object
from engine.families.world import WORLD

CARD = "card"  # the key of world.json


@dataclass(frozen=True)
class Card:
    """Sizes are the film's, which the model draws at 1/upscale of them.

    `most_px` are the pixels of the largest frame that it was trained to draw, and `widest` how many times as
    long the longer side may be as the shorter; 0 bounds nothing.
    """

    n_steps: int = 50
    guidance_scale: float = 5.0
    width_px: int = 768
    height_px: int = 512
    fps_num: int = 24
    fps_den: int = 1
    upscale: int = 1
    most_px: int = 0
    widest: float = 0.0


CAMERA = "camera"  # the key of world.json for the words of cameras that the model was taught, and no others
_KINDS: Mapping[str, Any] = {field.name: type(field.default) for field in fields(Card)}


def told_card(folder: Path, family: Card) -> Card:
    """The family's card, with what the folder's own world.json says instead.

    Raises ValueError that names what is wrong in it.
    """
    path = folder / WORLD
    if not path.exists():
        return family
    told = read_object(path).get(CARD, {})
    if not isinstance(told, dict) or not told.keys() <= _KINDS.keys():
        raise ValueError(f"{path}: its {CARD} must be an object of {', '.join(_KINDS)}, not {told!r}")
    for name, value in told.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (whole or (_KINDS[name] is float and isinstance(value, float))) or value <= 0:
            raise ValueError(f"{path}: its {CARD} says {name}={value!r}, which is no number above 0")
    return replace(family, **told)


def told_idiom(folder: Path, family: Idiom) -> Idiom:
    """The family's words for cameras, or the folder's own; "" for one that it shows unless told otherwise.

    Raises ValueError that names what is wrong in its world.json.
    """
    path = folder / WORLD
    told = read_object(path).get(CAMERA) if path.exists() else None
    if told is None:
        return family
    if not isinstance(told, dict) or not all(isinstance(words, str) for words in told.values()):
        raise ValueError(f"{path}: its {CAMERA} must be an object of words by camera, not {told!r}")
    return Idiom({parse_camera(text).text: words for text, words in told.items()}, taught=True)
