"""What planning must know of a model folder, read from its JSON files. No torch.

Decides: which family a diffusers folder is of, and the numbers that windows, sizes and prompts follow from.
"""

from dataclasses import dataclass
from pathlib import Path

from engine.camera import Idiom
from engine.families.card import Card, told_card, told_idiom
from engine.families.entry import Holds, Known, Making, Parts, number
from engine.families.known import FAMILIES
from engine.families.reading import read_index, read_object
from engine.takes import NOTHING, Takes


@dataclass(frozen=True)
class ModelFacts:
    """Units: compression is pixels a latent (in space) and frames a latent frame (in time).

    With a period, one of so many latent frames is of a single pixel frame. Windows begin at multiples of
    window_unit latent frames. A token is of patch_frames latent frames. A profile that names no window has
    window_frames; longest_window are the most that the model was trained on, 0 where these are as many.
    given_latents are the first latent frames that its whole family was taught to go on from, at most.
    Of several experts each predicts at noise levels of its own. With guided=0 no scale of guidance changes a
    picture.
    """

    family: str
    latent_channels: int
    spatial_compression: int
    temporal_compression: int
    patch: int
    window_frames: int
    max_text_tokens: int
    heads: int
    period: int = 0
    window_unit: int = 1
    patch_frames: int = 1
    longest_window: int = 0
    given_latents: int = 0
    experts: int = 1
    guided: int = 1
    takes: Takes = NOTHING

    @property
    def reads_text(self) -> bool:
        """Whether prompts change what it draws; a family that reads none has room for one token."""
        return self.max_text_tokens > 1

    @property
    def size_multiple_px(self) -> int:
        """Width and height of what the model draws are multiples of this."""
        return self.spatial_compression * self.patch


_NUMBERS = tuple(name for name in ModelFacts.__annotations__ if name not in ("family", "takes"))


def family_name(folder: Path) -> str:
    """The pipeline class that a diffusers folder is for. Raises ValueError if it is of no known family."""
    family = read_index(folder).get("_class_name")
    if not isinstance(family, str) or family not in FAMILIES:
        raise ValueError(f"{folder}: a {family} is not among the families {', '.join(FAMILIES)}")
    return family


def read_facts(folder: Path) -> ModelFacts:
    """The facts of a diffusers folder. Raises ValueError that names what is absent or unknown."""
    family = family_name(folder)
    _check_kinds(folder, family)
    parts = _parts(folder, FAMILIES[family])
    try:
        return facts_of(family, parts)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def _check_kinds(folder: Path, family: str) -> None:
    """Raise ValueError for a folder whose index names one family and whose parts are of another."""
    known = FAMILIES[family]
    for part, kind in (("vae", known.kinds[1]), (known.denoiser, known.kinds[0])):
        where = folder / part / "config.json"
        found = read_object(where).get("_class_name", kind)
        if found != kind:
            raise ValueError(
                f"{where}: a {found}, where a {family} has a {kind}: is this a folder of another family? "
                "correct the _class_name in its index, or copy the model's folder again"
            )


def facts_of(family: str, parts: Parts) -> ModelFacts:
    """The facts that a family's configurations say. Raises ValueError for what is absent or refused."""
    known = FAMILIES[family]
    known.refuse(parts)
    numbers = {name: number(getattr(known, name), parts) for name in _NUMBERS}
    return ModelFacts(family, **numbers, takes=known.takes(parts))


def read_decoding(folder: Path) -> Holds:
    """What decoding a shot as a stream holds. Raises ValueError for a broken folder."""
    known = FAMILIES[family_name(folder)]
    return known.decoding(_parts(folder, known))


def read_making(folder: Path) -> Making:
    """What decoding a pixel computes. Raises ValueError for a broken folder."""
    known = FAMILIES[family_name(folder)]
    return known.making(_parts(folder, known))


def read_encoding(folder: Path) -> Holds:
    """What encoding given frames holds. Raises ValueError for a broken folder."""
    known = FAMILIES[family_name(folder)]
    return known.encoding(_parts(folder, known))


def read_card(folder: Path) -> Card:
    """What the folder's world.json, or else its family, recommends. Raises ValueError for a broken folder."""
    family = family_name(folder)
    return told_card(folder, card_of(family, _parts(folder, FAMILIES[family])))


def card_of(family: str, parts: Parts) -> Card:
    """What a family recommends for these configurations."""
    card = FAMILIES[family].card
    return card if isinstance(card, Card) else card(parts)


def read_idiom(folder: Path) -> Idiom:
    """The words that its model is told a camera in. Raises ValueError for a broken folder."""
    return told_idiom(folder, FAMILIES[family_name(folder)].camera)


def _parts(folder: Path, known: Known) -> Parts:
    """The configurations of the parts that are read."""
    files = {known.denoiser: "config.json", "vae": "config.json"} | dict(known.more)
    parts = {part: read_object(folder / part / file) for part, file in files.items()}
    return parts | {"pipeline": read_index(folder)}
