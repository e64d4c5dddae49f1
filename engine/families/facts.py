"""What planning must know of a model folder, read from its JSON files. No torch.

Decides: which family a diffusers folder is of, the numbers that windows, sizes and prompts follow from, and,
where the folder says what its model was taught, which words of a prompt lie outside of that.
"""

import hashlib
import json
import re
import string
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORLD = "world.json"
_CHUNK = 1 << 20
Config = dict[str, Any]  # of one part, as its JSON says


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


@dataclass(frozen=True)
class World:
    """What a model was taught, in its folder's own words: `draws` and `note` are for people.

    `words` are all that its training captions held, `ignored` those that ask for nothing, such as "are".
    `images` says that it was taught to go on from a first frame that is given.
    """

    name: str
    note: str
    words: frozenset[str]
    ignored: frozenset[str]
    draws: tuple[str, ...]
    images: bool = False

    def unknown(self, prompt: str) -> tuple[str, ...]:
        """The words of a prompt that the model was not taught, each once, in their order."""
        found = (word for word in words_of(prompt) if word not in self.words and word not in self.ignored)
        return tuple(dict.fromkeys(found))

    def kin(self, word: str) -> str | None:
        """Another form of an English word that the model was taught, as "hills" for "hill"; the shortest."""
        forms = (known for known in self.words if _stem(known) == _stem(word))
        return min(forms, key=lambda known: (len(known), known), default=None)


def words_of(text: str) -> list[str]:
    """A text's words as tokenizers cut them: NFKC, lower case, apart at white space and punctuation."""
    flat = unicodedata.normalize("NFKC", text).lower()
    return "".join(" " if _is_punctuation(char) else char for char in flat).split()


def _is_punctuation(char: str) -> bool:
    return char in string.punctuation or unicodedata.category(char)[0] == "P"


def _stem(word: str) -> str:
    """What forms of an English word share: rise, rises and rising; sets and setting."""
    return re.sub(r"(.)\1$", r"\1", re.sub(r"(?<=\w{3})(?:ing|ed|es|s|e)$", "", word))


def read_world(folder: Path) -> World | None:
    """What a folder's world.json says; None without one. Raises ValueError that names what is wrong in it."""
    path = folder / WORLD
    if not path.exists():
        return None
    try:
        content = _read(path)
        return World(
            name=_fact(content, "name", str),
            note=_fact(content, "note", str),
            words=_words(_texts(content, "words")),
            ignored=_words(_texts(content, "ignored") if "ignored" in content else ()),
            draws=tuple(_texts(content, "draws")),
            images=content.get("images") is True,
        )
    except ValueError as error:
        raise ValueError(f"{error}; mend {path} or remove it: nothing is rendered from it") from error


def _words(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(word for text in texts for word in words_of(text))


def _texts(config: dict[str, Any], key: str) -> list[str]:
    """A list of texts that is not empty."""
    texts: list[str] = _fact(config, key, list)
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"its {key} holds {text!r}, which is no text")
    return texts


def family_name(folder: Path) -> str:
    """The pipeline class that a diffusers folder is for. Raises ValueError if it is of no known family."""
    family = _read(folder / "model_index.json").get("_class_name")
    if not isinstance(family, str) or family not in FAMILIES:
        raise ValueError(f"{folder}: a {family} is not among the families {', '.join(FAMILIES)}")
    return family


def read_facts(folder: Path) -> ModelFacts:
    """The facts of a diffusers folder. Raises ValueError that names what is absent or unknown."""
    family = family_name(folder)
    transformer, vae = _read(folder / "transformer" / "config.json"), _read(folder / "vae" / "config.json")
    try:
        return FAMILIES[family].facts(family, transformer, vae)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def _cogvideox(family: str, transformer: Config, vae: Config) -> ModelFacts:
    if transformer.get("patch_size_t"):
        raise ValueError("its patches are of several frames, as CogVideoX 1.5's: only 1.0 is read yet")
    temporal = int(_fact(vae, "temporal_compression_ratio", int | float))
    return ModelFacts(
        family=family,
        latent_channels=_fact(transformer, "in_channels", int),
        spatial_compression=2 ** (len(_fact(vae, "block_out_channels", list)) - 1),
        temporal_compression=temporal,
        patch=_fact(transformer, "patch_size", int),
        window_frames=(_fact(transformer, "sample_frames", int) - 1) // temporal + 1,
        max_text_tokens=_fact(transformer, "max_text_seq_length", int),
        heads=_fact(transformer, "num_attention_heads", int),
    )


def _wan(family: str, transformer: Config, vae: Config) -> ModelFacts:
    """Older folders leave out the autoencoder's ratios, which were 8 and 4 then."""
    return ModelFacts(
        family=family,
        latent_channels=_fact(transformer, "in_channels", int),
        spatial_compression=_fact({"scale_factor_spatial": 8, **vae}, "scale_factor_spatial", int),
        temporal_compression=_fact({"scale_factor_temporal": 4, **vae}, "scale_factor_temporal", int),
        patch=_fact(transformer, "patch_size", list)[-1],
        window_frames=21,  # trained on 81 pixel frames
        max_text_tokens=512,
        heads=_fact(transformer, "num_attention_heads", int),
    )


def _opensora(family: str, transformer: Config, vae: Config) -> ModelFacts:
    """Its transformer counts the channels of a patch."""
    patch = _fact(transformer, "patch_size", int)
    return ModelFacts(
        family=family,
        latent_channels=_fact(transformer, "in_channels", int) // patch**2,
        spatial_compression=_fact(vae, "spatial_compression_ratio", int),
        temporal_compression=_fact(vae, "temporal_compression_ratio", int),
        patch=patch,
        window_frames=33,  # trained on up to 129 pixel frames
        max_text_tokens=512,
        heads=_fact(transformer, "num_attention_heads", int),
    )


def _hunyuan(family: str, transformer: Config, vae: Config) -> ModelFacts:
    """Its prompts are counted without the template around them."""
    return ModelFacts(
        family=family,
        latent_channels=_fact(transformer, "in_channels", int),
        spatial_compression=_fact(vae, "spatial_compression_ratio", int),
        temporal_compression=_fact(vae, "temporal_compression_ratio", int),
        patch=_fact(transformer, "patch_size", int),
        window_frames=33,  # trained on up to 129 pixel frames
        max_text_tokens=256,
        heads=_fact(transformer, "num_attention_heads", int),
    )


@dataclass(frozen=True)
class Known:
    """A family: the class that loads it, as module:name, how facts are read, and what it can be asked for."""

    loader: str
    facts: Callable[[str, Config, Config], ModelFacts]
    schedulers: tuple[str, ...]  # that a profile can ask for
    encodes: bool = False  # whether it can go on from a given picture, if its weights were taught to


FAMILIES = {
    "CogVideoXPipeline": Known("engine.families.cogvideox:CogVideoX", _cogvideox, ("ddim", "dpm"), True),
    "WanPipeline": Known("engine.families.wan:Wan", _wan, ("unipc", "euler")),
    "OpenSoraPipeline": Known("engine.families.opensora:OpenSora", _opensora, ("euler",)),
    "HunyuanVideoPipeline": Known("engine.families.hunyuan:HunyuanVideo", _hunyuan, ("euler",)),
}


def folder_digest(folder: Path) -> str:
    """BLAKE2b-256 over names and bytes of all files that weigh on the pictures: the model's identity.

    Neither Markdown nor world.json does: they tell people of the model, and nothing is rendered from them.
    Counting them would render every film anew for a reworded hint.
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


def _fact(config: dict[str, Any], key: str, kind: Any) -> Any:
    """One value of a part's configuration, of this type and not zero or empty."""
    value = config.get(key)
    if not isinstance(value, kind) or not value:
        raise ValueError(f"its configuration says {key}={value!r}")
    return value


def _read(path: Path) -> dict[str, Any]:
    """One JSON object of the folder."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__} instead of an object")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no readable part of a diffusers folder: {error}") from error
    return content
