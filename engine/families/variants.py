"""What folders of one family differ in: which are read, and what each takes and recommends. No torch.

Functions of a folder's configurations, for the entries in `known`. Those that refuse raise ValueError with
the key, its value and what is read instead. Does not decide: what is alike in all folders of a family.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from engine.families.card import Card
from engine.families.entry import Parts, halvings, number
from engine.families.reading import Config, fact
from engine.takes import FIRST, LAST, NOTHING, SOURCE, Takes

UNTAUGHT = Takes(frozenset({SOURCE}))  # of any model whose family encodes: no weights are taught this
PICTURE = Takes(frozenset({FIRST}), frozenset({FIRST}), together=True, one_window=True)


def cogvideox_window(parts: Parts) -> int:
    """Latent frames of the clips that it was trained on, in whole patches."""
    frames, patch = number("transformer.sample_frames", parts), cogvideox_patch(parts)
    latent = (frames - 1) // number("vae.temporal_compression_ratio", parts) + 1
    return latent + -latent % patch


def cogvideox_patch(parts: Parts) -> int:
    """CogVideoX 1.0 has patches in space only."""
    given = parts["transformer"].get("patch_size_t") is not None
    return number("transformer.patch_size_t", parts) if given else 1


def cogvideox_takes(parts: Parts) -> Takes:
    """A clip that is redrawn begins and ends within patches of several frames, which is not proven."""
    return NOTHING if parts["transformer"].get("patch_size_t") else UNTAUGHT


def cogvideox_card(parts: Parts) -> Card:
    """The size that its positions were made for, as the folder says it in latents; of 1.5 they have none."""
    side, config = halvings(parts), parts["transformer"]
    if config.get("patch_size_t"):
        return Card(50, 6.0, 1360, 768, 16, most_px=1360 * 768, widest=2.0)
    width_px, height_px = (
        config.get(f"sample_{name}", n) * side for name, n in (("width", 90), ("height", 60))
    )
    return Card(50, 6.0, width_px, height_px, 8, most_px=720 * 480, widest=2.0)


def wan_experts(parts: Parts) -> int:
    """Wan 2.2 of two experts says where the second takes over."""
    return 2 if parts["pipeline"].get("boundary_ratio") else 1


def wan_card(parts: Parts) -> Card:
    """Wan 2.2 of 5B has a deeper autoencoder; 2.2 of two experts says where the second takes over."""
    wan = partial(Card, most_px=1280 * 720, widest=2.0)
    if parts["vae"].get("z_dim") == 48:
        return wan(50, 5.0, 1280, 704, 24)
    experts = parts["pipeline"].get("boundary_ratio")
    return wan(40, 4.0, 1280, 720, 16) if experts else wan(50, 5.0, 832, 480, 16)


def wan_image_card(parts: Parts) -> Card:
    """As for text, but two experts are guided less."""
    card = wan_card(parts)
    return replace(card, guidance_scale=3.5) if parts["pipeline"].get("boundary_ratio") else card


def wan_takes(parts: Parts) -> Takes:
    """With timesteps of tokens, a model draws from a picture or without one."""
    if not parts["pipeline"].get("expand_timesteps"):
        return UNTAUGHT
    return Takes(frozenset({FIRST, SOURCE}))


def wan_image_takes(parts: Parts) -> Takes:
    """Two pictures, if CLIP's of both have places; one or two without CLIP; else one."""
    transformer = parts["transformer"]
    if parts["pipeline"].get("expand_timesteps"):
        return Takes(frozenset({FIRST}))
    if transformer.get("pos_embed_seq_len"):
        return replace(PICTURE, may=frozenset({FIRST, LAST}), must=frozenset({FIRST, LAST}))
    return PICTURE if transformer.get("image_dim") else replace(PICTURE, may=frozenset({FIRST, LAST}))


def opensora_channels(parts: Parts) -> int:
    """Open-Sora's transformer counts the channels of a patch."""
    return number("transformer.in_channels", parts) // number("transformer.patch_size", parts) ** 2


def opensora_takes(parts: Parts) -> Takes:
    """Pictures at either end, or none, unless it was made without its condition's embedder."""
    seen = parts["transformer"].get("cond_embed", True)
    return Takes(frozenset({FIRST, LAST})) if seen else NOTHING


def refuse_svd(parts: Parts) -> None:
    """Of its latents and those of a picture beside them."""
    seen, drawn = (number(f"unet.{key}", parts) for key in ("in_channels", "out_channels"))
    if seen != 2 * drawn:
        raise ValueError(
            f"its configuration says in_channels={seen} and out_channels={drawn}: only twice is read"
        )


def ltx_ratio(key: str, patch: str) -> Callable[[Parts], int]:
    """Older folders leave the autoencoder's ratios out, which follow from its blocks then."""

    def read(parts: Parts) -> int:
        if parts["vae"].get(key) is not None:
            return number(f"vae.{key}", parts)
        halvings = sum(fact(parts["vae"], "spatio_temporal_scaling", list))
        return int(number(f"vae.{patch}", parts) * 2**halvings)

    return read


def refuse_ltx_patches(parts: Parts) -> None:
    for key in ("patch_size", "patch_size_t"):
        if (size := number(f"transformer.{key}", parts)) != 1:
            raise ValueError(f"its {key} is {size}: LTXPipeline reads only folders with 1 latent a token")


def refuse_minimax_h3(parts: Parts) -> None:
    """Its sound and its clips are laid out for the numbers that it was published with."""
    for part, key, published in (
        ("transformer", "audio_in_channels", 32),
        ("vae", "clip_length", 17),
        ("vae", "token_drop", 3),
        ("vae", "temporal_downsample_factors", 4),
    ):
        value = parts[part].get(key)
        value = math.prod(value) if isinstance(value, list) else value
        if value != published:
            raise ValueError(
                f"its configuration says {key}={parts[part].get(key)!r}: only {published} is read"
            )


def refuse_skyreels(parts: Parts) -> None:
    if parts["transformer"].get("image_dim"):
        raise ValueError(
            "it sees a picture beside the latents (image_dim): only SkyReelsV2ImageToVideoPipeline reads such"
        )
    refuse_skyreels_blocks(parts)


def refuse_skyreels_pictures(parts: Parts) -> None:
    """Stock has CLIP see every picture."""
    if not parts["transformer"].get("image_dim"):
        raise ValueError(
            "it has no image_dim: SkyReelsV2ImageToVideoPipeline reads models that CLIP tells of"
        )
    refuse_skyreels_blocks(parts)


def refuse_skyreels_blocks(parts: Parts) -> None:
    config = parts["transformer"]
    if (frames := config.get("num_frame_per_block", 1)) != 1:
        raise ValueError(
            f"its num_frame_per_block is {frames}: it attends in causal blocks of latent frames, which only "
            "stock's asynchronous mode has a use for; set it to 1 for synchronous windows"
        )


def is_guided(guider: Mapping[str, Any]) -> bool:
    """Whether a folder's guider, by its configuration, guides at all: one of a distilled model does not."""
    return bool(guider.get("enabled", True)) and guider.get("guidance_scale") != 1.0


_PLAIN_GUIDER = {"guidance_rescale": 0.0, "use_original_formulation": False, "start": 0.0, "stop": 1.0}


def refuse_hunyuan15(parts: Parts) -> None:
    transformer = parts["transformer"]
    if transformer.get("use_meanflow"):
        raise ValueError("its use_meanflow is true: where a step ends is not told to such a model yet")
    channels, latents = (number(f"transformer.{key}_channels", parts) for key in ("in", "out"))
    if channels != 2 * latents + 1:
        raise ValueError(
            f"its in_channels is {channels}, but {latents} of latents, as many of given frames and one that "
            f"says which are {2 * latents + 1}"
        )
    if "guider" in parts:  # of a folder; a checkpoint that is described without one has nothing to refuse
        _refuse_other_guiders(parts["guider"])


def hunyuan15_guided(parts: Parts) -> int:
    """A checkpoint that is described without a guider is one for guidance."""
    return int(is_guided(parts.get("guider", {})))


def hunyuan15_card(parts: Parts) -> Card:
    """Of a folder that was distilled from guidance, none."""
    return Card(50, 6.0 if hunyuan15_guided(parts) else 1.0, 832, 480, 24, most_px=1280 * 720, widest=2.0)


def _refuse_other_guiders(guider: Config) -> None:
    if (kind := guider.get("_class_name")) != "ClassifierFreeGuidance":
        raise ValueError(f"its guider is a {kind}: only ClassifierFreeGuidance is read yet")
    for key, plain in _PLAIN_GUIDER.items() if is_guided(guider) else ():
        if (value := guider.get(key, plain)) != plain:
            raise ValueError(f"its guider's {key} is {value}: only {plain} is read yet")
