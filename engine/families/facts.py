"""What planning must know of a model folder, read from its JSON files. No torch.

Decides: which family a diffusers folder is of, and the numbers that windows, sizes and prompts follow from.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from engine.camera import Idiom
from engine.families.card import Card, told_card, told_idiom
from engine.families.known import FAMILIES, Known, Parts, number
from engine.families.reading import Config, read_object
from engine.families.world import WORLD

_CHUNK = 1 << 20


@dataclass(frozen=True)
class ModelFacts:
    """Units: compression is pixels a latent (in space) and frames a latent frame (in time)."""

    family: str
    latent_channels: int
    spatial_compression: int
    temporal_compression: int
    patch: int
    window_frames: int
    max_text_tokens: int
    heads: int

    @property
    def size_multiple_px(self) -> int:
        """Width and height of what the model draws are multiples of this."""
        return self.spatial_compression * self.patch


_NUMBERS = tuple(name for name in ModelFacts.__annotations__ if name != "family")


def family_name(folder: Path) -> str:
    """The pipeline class that a diffusers folder is for. Raises ValueError if it is of no known family."""
    family = _index(folder).get("_class_name")
    if not isinstance(family, str) or family not in FAMILIES:
        raise ValueError(f"{folder}: a {family} is not among the families {', '.join(FAMILIES)}")
    return family


def read_facts(folder: Path) -> ModelFacts:
    """The facts of a diffusers folder. Raises ValueError that names what is absent or unknown."""
    family = family_name(folder)
    known = FAMILIES[family]
    parts = _parts(folder, known)
    try:
        known.refuse(parts)
        return ModelFacts(family, **{name: number(getattr(known, name), parts) for name in _NUMBERS})
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def read_card(folder: Path) -> Card:
    """What the folder's world.json, or else its family, recommends. Raises ValueError for a broken folder."""
    known = FAMILIES[family_name(folder)]
    card = known.card if isinstance(known.card, Card) else known.card(_parts(folder, known))
    return told_card(folder, card)


def read_idiom(folder: Path) -> Idiom:
    """The words that its model is told a camera in. Raises ValueError for a broken folder."""
    return told_idiom(folder, FAMILIES[family_name(folder)].camera)


def is_told(folder: Path) -> bool:
    """Whether its model was distilled from guidance: it is told the scale and has no second branch."""
    known = FAMILIES[family_name(folder)]
    return bool(_parts(folder, known)[known.denoiser].get(known.told))


def _parts(folder: Path, known: Known) -> Parts:
    """The configurations of the parts that facts are read from."""
    parts = {part: read_object(folder / part / "config.json") for part in (known.denoiser, "vae")}
    return parts | {"index": _index(folder)}


def _index(folder: Path) -> Config:
    return read_object(folder / "model_index.json")


def folder_digest(folder: Path) -> str:
    """BLAKE2b-256 over names and bytes of all files that weigh on the pictures: the model's identity.

    Neither Markdown nor world.json does: they tell people of the model. Counting them would render every film
    anew for a reworded hint; what a profile takes from a card is part of its tasks' keys anyway.
    """
    digest = hashlib.blake2b(digest_size=32)
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and _weighs(p, folder)):
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _weighs(path: Path, folder: Path) -> bool:
    """Whether a file may change a picture."""
    return path.suffix != ".md" and path != folder / WORLD
