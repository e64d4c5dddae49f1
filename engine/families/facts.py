"""What planning must know of a model folder, read from its JSON files. No torch.

Decides: which family a diffusers folder is of, and the numbers that windows, sizes and prompts follow from.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FAMILIES = {"CogVideoXPipeline": "engine.families.cogvideox:CogVideoX"}
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

    @property
    def size_multiple_px(self) -> int:
        """Width and height of what the model draws are multiples of this."""
        return self.spatial_compression * self.patch


def read_facts(folder: Path) -> ModelFacts:
    """The facts of a diffusers folder. Raises ValueError that names what is absent or unknown."""
    family = _read(folder / "model_index.json").get("_class_name")
    if not isinstance(family, str) or family not in FAMILIES:
        raise ValueError(f"{folder}: a {family} is not among the families {', '.join(FAMILIES)}")
    transformer, vae = _read(folder / "transformer" / "config.json"), _read(folder / "vae" / "config.json")
    try:
        temporal = int(_fact(vae, "temporal_compression_ratio", int | float))
        return ModelFacts(
            family=family,
            latent_channels=_fact(transformer, "in_channels", int),
            spatial_compression=2 ** (len(_fact(vae, "block_out_channels", list)) - 1),
            temporal_compression=temporal,
            patch=_fact(transformer, "patch_size", int),
            window_frames=(_fact(transformer, "sample_frames", int) - 1) // temporal + 1,
            max_text_tokens=_fact(transformer, "max_text_seq_length", int),
        )
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def folder_digest(folder: Path) -> str:
    """BLAKE2b-256 over names and bytes of all files that weigh on the pictures: the model's identity."""
    digest = hashlib.blake2b(digest_size=32)
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".md"):
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


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
