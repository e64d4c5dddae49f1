"""The families there are: which class loads each, how its facts are read, what it can be asked for. No torch.

A new family is its file and its entry here.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from engine.camera import ENGLISH, Idiom
from engine.families.card import Card
from engine.families.reading import Config, fact
from engine.takes import FIRST, LAST, NOTHING, SOURCE, Takes

Parts = Mapping[str, Config]  # a folder's configurations, by part; its index of them as "pipeline"
UNTAUGHT = Takes(frozenset({SOURCE}))  # of any model whose family encodes: no weights are taught this
PICTURE = Takes(frozenset({FIRST}), frozenset({FIRST}), together=True, one_window=True)
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
    shared: bool = True  # whether a gang can share one window's sequence, by ring and ulysses
    period: Read = 0
    window_unit: Read = 1
    patch_frames: Read = 1
    longest_window: Read = 0  # 0 where it is window_frames
    experts: Read = 1
    refuse: Callable[[Parts], None] = lambda parts: None  # raises ValueError
    takes: Callable[[Parts], Takes] = lambda parts: NOTHING  # beside what its weights were taught
    more: tuple[tuple[str, str], ...] = ()  # further parts that are read, and the file of each
    dynamic_guidance: bool = False  # whether its pipeline has a cosine schedule
    adapters: bool = False  # whether LoRA adapters were proven on it
    camera: Idiom = ENGLISH
    card: Card | Callable[[Parts], Card] = Card()  # noqa: RUF009  # frozen


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
    """Latent frames of the clips that it was trained on, in whole patches."""
    frames, patch = number("transformer.sample_frames", parts), _cogvideox_patch(parts)
    latent = (frames - 1) // number("vae.temporal_compression_ratio", parts) + 1
    return latent + -latent % patch


def _cogvideox_patch(parts: Parts) -> int:
    """CogVideoX 1.0 has patches in space only."""
    given = parts["transformer"].get("patch_size_t") is not None
    return number("transformer.patch_size_t", parts) if given else 1


def _cogvideox_1_5(parts: Parts) -> None:
    if parts["transformer"].get("patch_size_t"):
        raise ValueError("its patches are of several frames, as CogVideoX 1.5's: of I2V only 1.0 is read yet")


def _halvings(parts: Parts) -> int:
    """An autoencoder that halves the sides between its levels."""
    halvings = len(fact(parts["vae"], "block_out_channels", list)) - 1
    return int(2**halvings)


def _cogvideox_card(parts: Parts) -> Card:
    """The size that its positions were made for, as the folder says it in latents; of 1.5 they have none."""
    side, config = _halvings(parts), parts["transformer"]
    if config.get("patch_size_t"):
        return Card(50, 6.0, 1360, 768, 16, most_px=1360 * 768, widest=2.0)
    width_px, height_px = (
        config.get(f"sample_{name}", n) * side for name, n in (("width", 90), ("height", 60))
    )
    return Card(50, 6.0, width_px, height_px, 8, most_px=720 * 480, widest=2.0)


def _wan_experts(parts: Parts) -> int:
    """Wan 2.2 of two experts says where the second takes over."""
    return 2 if parts["pipeline"].get("boundary_ratio") else 1


def _wan_card(parts: Parts) -> Card:
    """Wan 2.2 of 5B has a deeper autoencoder; 2.2 of two experts says where the second takes over."""
    wan = partial(Card, most_px=1280 * 720, widest=2.0)
    if parts["vae"].get("z_dim") == 48:
        return wan(50, 5.0, 1280, 704, 24)
    experts = parts["pipeline"].get("boundary_ratio")
    return wan(40, 4.0, 1280, 720, 16) if experts else wan(50, 5.0, 832, 480, 16)


def _wan_image_card(parts: Parts) -> Card:
    """As for text, but two experts are guided less."""
    card = _wan_card(parts)
    return replace(card, guidance_scale=3.5) if parts["pipeline"].get("boundary_ratio") else card


def _opensora_channels(parts: Parts) -> int:
    """Open-Sora's transformer counts the channels of a patch."""
    return number("transformer.in_channels", parts) // number("transformer.patch_size", parts) ** 2


def _wan_takes(parts: Parts) -> Takes:
    """With timesteps of tokens, a model draws from a picture or without one."""
    if not parts["pipeline"].get("expand_timesteps"):
        return UNTAUGHT
    return Takes(frozenset({FIRST, SOURCE}), together=True)


def _wan_image_takes(parts: Parts) -> Takes:
    """Two pictures, if CLIP's of both have places; one or two without CLIP; else one."""
    transformer = parts["transformer"]
    if parts["pipeline"].get("expand_timesteps"):
        return Takes(frozenset({FIRST}), together=True)
    if transformer.get("pos_embed_seq_len"):
        return replace(PICTURE, may=frozenset({FIRST, LAST}), must=frozenset({FIRST, LAST}))
    return PICTURE if transformer.get("image_dim") else replace(PICTURE, may=frozenset({FIRST, LAST}))


def _svd(parts: Parts) -> None:
    """Of its latents and those of a picture beside them."""
    seen, drawn = (number(f"unet.{key}", parts) for key in ("in_channels", "out_channels"))
    if seen != 2 * drawn:
        raise ValueError(
            f"its configuration says in_channels={seen} and out_channels={drawn}: only twice is read"
        )


def _ltx_ratio(key: str, patch: str) -> Callable[[Parts], int]:
    """Older folders leave the autoencoder's ratios out, which follow from its blocks then."""

    def read(parts: Parts) -> int:
        if parts["vae"].get(key) is not None:
            return number(f"vae.{key}", parts)
        halvings = sum(fact(parts["vae"], "spatio_temporal_scaling", list))
        return int(number(f"vae.{patch}", parts) * 2**halvings)

    return read


def _ltx_patches(parts: Parts) -> None:
    for key in ("patch_size", "patch_size_t"):
        if (size := number(f"transformer.{key}", parts)) != 1:
            raise ValueError(f"its {key} is {size}: LTXPipeline reads only folders with 1 latent a token")


def _product(read: str) -> Callable[[Parts], int]:
    """Of a list of factors, one a level."""
    part, _, key = read.partition(".")
    return lambda parts: math.prod(fact(parts[part], key, list))


def _minimax_h3(parts: Parts) -> None:
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


def _skyreels_variants(parts: Parts) -> None:
    config = parts["transformer"]
    if config.get("image_dim"):
        raise ValueError("it starts from a picture (image_dim): only text to video is read yet")
    if (frames := config.get("num_frame_per_block", 1)) != 1:
        raise ValueError(
            f"its num_frame_per_block is {frames}: it attends in causal blocks of latent frames, which only "
            "stock's asynchronous mode has a use for; set it to 1 for synchronous windows"
        )


def is_guided(guider: Mapping[str, Any]) -> bool:
    """Whether a folder's guider, by its configuration, guides at all: one of a distilled model does not."""
    return bool(guider.get("enabled", True)) and guider.get("guidance_scale") != 1.0


_PLAIN_GUIDER = {"guidance_rescale": 0.0, "use_original_formulation": False, "start": 0.0, "stop": 1.0}


def _hunyuan15_variants(parts: Parts) -> None:
    transformer = parts["transformer"]
    if transformer.get("use_meanflow"):
        raise ValueError("its use_meanflow is true: stock's text to video does not tell where a step ends")
    channels, latents = (number(f"transformer.{key}_channels", parts) for key in ("in", "out"))
    if channels != 2 * latents + 1:
        raise ValueError(
            f"its in_channels is {channels}, but {latents} of latents, as many of given frames and one that "
            f"says which are {2 * latents + 1}"
        )
    if "guider" in parts:  # of a folder; a checkpoint that is described without one has nothing to refuse
        _other_guiders(parts["guider"])


def _hunyuan15_card(parts: Parts) -> Card:
    """Of a folder that was distilled from guidance, none."""
    guided = is_guided(parts.get("guider", {}))
    return Card(50, 6.0 if guided else 1.0, 832, 480, 24, most_px=1280 * 720, widest=2.0)


def _other_guiders(guider: Config) -> None:
    if (kind := guider.get("_class_name")) != "ClassifierFreeGuidance":
        raise ValueError(f"its guider is a {kind}: only ClassifierFreeGuidance is read yet")
    for key, plain in _PLAIN_GUIDER.items() if is_guided(guider) else ():
        if (value := guider.get(key, plain)) != plain:
            raise ValueError(f"its guider's {key} is {value}: only {plain} is read yet")


# Of the moves that its training captions were labelled with (arXiv:2412.03603, "camera movement types").
_HUNYUAN_CAMERA = Idiom(
    {move: move for move in ("zoom in", "zoom out", "pan left", "pan right", "tilt up", "tilt down")}
    | {"orbit": "around right", "static": "static shot"}
)
_SKYREELS = Known(
    "engine.families.skyreels:SkyReels",
    schedulers=("unipc",),
    window_frames=25,  # trained on 97 pixel frames, and on 121 in 720p
    longest_window=31,
    max_text_tokens=512,
    spatial_compression=_or("vae.scale_factor_spatial", 8),
    temporal_compression=_or("vae.scale_factor_temporal", 4),
    refuse=_skyreels_variants,
    card=Card(50, 6.0, 960, 544, 24, most_px=1280 * 720, widest=2.0),
)
FAMILIES = {
    "CogVideoXPipeline": Known(
        "engine.families.cogvideox:CogVideoX",
        schedulers=("ddim", "dpm"),
        window_frames=_cogvideox_window,
        max_text_tokens="transformer.max_text_seq_length",
        spatial_compression=_halvings,
        window_unit=_cogvideox_patch,
        patch_frames=_cogvideox_patch,
        takes=lambda parts: NOTHING if parts["transformer"].get("patch_size_t") else UNTAUGHT,
        dynamic_guidance=True,
        adapters=True,
        card=_cogvideox_card,
    ),
    "CogVideoXImageToVideoPipeline": Known(
        "engine.families.cogvideox:CogVideoXImageToVideo",
        schedulers=("ddim", "dpm"),
        window_frames=_cogvideox_window,
        max_text_tokens="transformer.max_text_seq_length",
        latent_channels="vae.latent_channels",
        spatial_compression=_halvings,
        refuse=_cogvideox_1_5,
        takes=lambda parts: PICTURE,
        dynamic_guidance=True,
        card=_cogvideox_card,
    ),
    "WanPipeline": Known(
        "engine.families.wan:Wan",
        schedulers=("unipc", "euler"),
        window_frames=21,  # trained on 81 pixel frames
        max_text_tokens=512,
        spatial_compression=_or("vae.scale_factor_spatial", 8),
        temporal_compression=_or("vae.scale_factor_temporal", 4),
        experts=_wan_experts,
        takes=_wan_takes,
        adapters=True,
        card=_wan_card,
    ),
    "WanImageToVideoPipeline": Known(
        "engine.families.wan:WanImageToVideo",
        schedulers=("unipc", "euler"),
        window_frames=21,
        max_text_tokens=512,
        latent_channels="vae.z_dim",
        spatial_compression=_or("vae.scale_factor_spatial", 8),
        temporal_compression=_or("vae.scale_factor_temporal", 4),
        experts=_wan_experts,
        takes=_wan_image_takes,
        card=_wan_image_card,
    ),
    "OpenSoraPipeline": Known(
        "engine.families.opensora:OpenSora",
        schedulers=("euler",),
        window_frames=33,  # trained on up to 129 pixel frames
        max_text_tokens=512,
        latent_channels=_opensora_channels,
        card=Card(50, 7.5, 1024, 576, 24, most_px=768 * 768, widest=2.4),
    ),
    "HunyuanVideoPipeline": Known(
        "engine.families.hunyuan:HunyuanVideo",
        schedulers=("euler",),
        window_frames=33,  # trained on up to 129 pixel frames
        max_text_tokens=256,  # without the template around them
        card=Card(50, 6.0, 1280, 720, 24, most_px=1280 * 720, widest=2.0),
        camera=_HUNYUAN_CAMERA,
    ),
    "StableVideoDiffusionPipeline": Known(
        "engine.families.svd:StableVideoDiffusion",
        schedulers=("euler",),
        window_frames="unet.num_frames",
        max_text_tokens=1,  # it reads none
        denoiser="unet",
        latent_channels="unet.out_channels",
        spatial_compression=_halvings,
        temporal_compression=1,
        patch=1,
        heads=1,
        shared=False,
        card=Card(25, 3.0, 1024, 576, 7, most_px=1024 * 576, widest=2.0),
        takes=lambda parts: Takes(may=frozenset({FIRST}), must=frozenset({FIRST})),
        refuse=_svd,
    ),
    "LTXPipeline": Known(
        "engine.families.ltx:LTX",
        schedulers=("euler",),
        window_frames=21,  # trained on up to 161 pixel frames
        max_text_tokens=128,
        spatial_compression=_ltx_ratio("spatial_compression_ratio", "patch_size"),
        temporal_compression=_ltx_ratio("temporal_compression_ratio", "patch_size_t"),
        refuse=_ltx_patches,
        card=Card(50, 3.0, 704, 480, 24, most_px=1280 * 720, widest=2.0),
    ),
    "MochiPipeline": Known(
        "engine.families.mochi:Mochi",
        schedulers=("euler",),
        window_frames=28,  # trained on 163 pixel frames
        max_text_tokens="transformer.max_sequence_length",
        spatial_compression=_product("vae.spatial_expansions"),
        temporal_compression=_product("vae.temporal_expansions"),
        card=Card(64, 4.5, 848, 480, 30, most_px=848 * 480, widest=2.0),
    ),
    "MiniMaxH3ModularPipeline": Known(
        "engine.families.minimax_h3:MiniMaxH3",
        schedulers=("euler",),
        window_frames=37,  # 124 pixel frames; trained on 5 to 15 s
        longest_window=102,
        max_text_tokens=512,
        spatial_compression=_product("vae.spatial_downsample_factors"),
        temporal_compression=_product("vae.temporal_downsample_factors"),
        period=5,
        window_unit=15,
        refuse=_minimax_h3,
        card=Card(8, 1.0, 1344, 768, 24, most_px=1344 * 768, widest=2.0),
    ),
    "SkyReelsV2Pipeline": _SKYREELS,
    "SkyReelsV2DiffusionForcingPipeline": replace(
        _SKYREELS,
        loader="engine.families.skyreels:SkyReelsForcing",
        card=Card(30, 6.0, 960, 544, 24, most_px=1280 * 720, widest=2.0),
    ),
    "HunyuanVideo15Pipeline": Known(
        "engine.families.hunyuan15:HunyuanVideo15",
        schedulers=("euler",),
        window_frames=31,  # trained on up to 121 pixel frames
        max_text_tokens=1000,  # without the system message before them
        latent_channels="transformer.out_channels",
        spatial_compression=_or("vae.spatial_compression_ratio", 16),
        temporal_compression=_or("vae.temporal_compression_ratio", 4),
        refuse=_hunyuan15_variants,
        more=(("guider", "guider_config.json"),),
        card=_hunyuan15_card,
    ),
}
