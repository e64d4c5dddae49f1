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
    if family not in FAMILIES:
        raise ValueError(f"{folder}: a {family} is not among the families {', '.join(FAMILIES)}")
    transformer, vae = _read(folder / "transformer" / "config.json"), _read(folder / "vae" / "config.json")
    try:
        temporal = int(vae["temporal_compression_ratio"])
        return ModelFacts(
            family=family,
            latent_channels=transformer["in_channels"],
            spatial_compression=2 ** (len(vae["block_out_channels"]) - 1),
            temporal_compression=temporal,
            patch=transformer["patch_size"],
            window_frames=(transformer["sample_frames"] - 1) // temporal + 1,
            max_text_tokens=transformer["max_text_seq_length"],
        )
    except KeyError as error:
        raise ValueError(f"{folder}: its configuration lacks {error}") from error


def folder_digest(folder: Path) -> str:
    """BLAKE2b-256 over names and bytes of all files that weigh on the pictures: the model's identity."""
    digest = hashlib.blake2b(digest_size=32)
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".md"):
        digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    """One JSON file of the folder."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no readable part of a diffusers folder: {error}") from error
    return content
