"""The families there are: which class loads each, how its facts are read, what it can be asked for. No torch.

A new family is its file and its entry here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.families.reading import Config, fact

Parts = Mapping[str, Config]  # a folder's configurations, by part
# A number itself; "part.key" of a configuration, of a list its last; or what a function makes of them.
Read = int | str | Callable[[Parts], int]


@dataclass(frozen=True)
class Known:
    """A family: the class that loads it, as module:name, and where its folders say what planning must know.

    Units as in ModelFacts. `denoiser` is the part that predicts.
    """

    loader: str
    schedulers: tuple[str, ...]  # that a profile can ask for
    window_frames: Read
    max_text_tokens: Read
    denoiser: str = "transformer"
    latent_channels: Read = "transformer.in_channels"
    spatial_compression: Read = "vae.spatial_compression_ratio"
    temporal_compression: Read = "vae.temporal_compression_ratio"
    patch: Read = "transformer.patch_size"
    heads: Read = "transformer.num_attention_heads"
    refuse: Callable[[Parts], None] = lambda parts: None  # raises ValueError
    encodes: bool = False  # whether it can go on from a given picture, if its weights were taught to
    continues: int = 0  # the most first latent frames that all its weights were taught to go on from


def number(read: Read, parts: Parts) -> int:
    """What a folder says. Raises ValueError that names a key that is absent, zero or of another type."""
    if isinstance(read, int):
        return read
    if callable(read):
        made: int = read(parts)
        return made
    part, _, key = read.partition(".")
    value: Any = fact(parts[part], key, int | float | list)
    return int(value[-1] if isinstance(value, list) else value)


def _or(read: str, older: int) -> Callable[[Parts], int]:
    """Of folders that may leave a key out, as older ones do."""
    part, _, key = read.partition(".")
    return lambda parts: number(read, parts) if key in parts[part] else older


def _cogvideox_window(parts: Parts) -> int:
    frames = number("transformer.sample_frames", parts)
    return (frames - 1) // number("vae.temporal_compression_ratio", parts) + 1


def _cogvideox_1_5(parts: Parts) -> None:
    if parts["transformer"].get("patch_size_t"):
        raise ValueError("its patches are of several frames, as CogVideoX 1.5's: only 1.0 is read yet")


def _halvings(parts: Parts) -> int:
    """CogVideoX's autoencoder halves the sides between its levels."""
    halvings = len(fact(parts["vae"], "block_out_channels", list)) - 1
    return int(2**halvings)


def _opensora_channels(parts: Parts) -> int:
    """Open-Sora's transformer counts the channels of a patch."""
    return number("transformer.in_channels", parts) // number("transformer.patch_size", parts) ** 2


FAMILIES = {
    "CogVideoXPipeline": Known(
        "engine.families.cogvideox:CogVideoX",
        schedulers=("ddim", "dpm"),
        window_frames=_cogvideox_window,
        max_text_tokens="transformer.max_text_seq_length",
        spatial_compression=_halvings,
        refuse=_cogvideox_1_5,
        encodes=True,
    ),
    "WanPipeline": Known(
        "engine.families.wan:Wan",
        schedulers=("unipc", "euler"),
        window_frames=21,  # trained on 81 pixel frames
        max_text_tokens=512,
        spatial_compression=_or("vae.scale_factor_spatial", 8),
        temporal_compression=_or("vae.scale_factor_temporal", 4),
    ),
    "OpenSoraPipeline": Known(
        "engine.families.opensora:OpenSora",
        schedulers=("euler",),
        window_frames=33,  # trained on up to 129 pixel frames
        max_text_tokens=512,
        latent_channels=_opensora_channels,
    ),
    "HunyuanVideoPipeline": Known(
        "engine.families.hunyuan:HunyuanVideo",
        schedulers=("euler",),
        window_frames=33,  # trained on up to 129 pixel frames
        max_text_tokens=256,  # without the template around them
    ),
}
