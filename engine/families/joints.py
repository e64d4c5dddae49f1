"""Where the parts of a folder meet: numbers of two configurations that must be one. No torch.

Each part may be sound alone and yet be of another model: a transformer for latents of more channels than its
autoencoder has, or for texts of another width than its encoder's. Decides: which numbers of a family must
agree. Does not decide: how configurations are read (fitting), or what planning takes from them (known).
"""

from collections.abc import Mapping
from dataclasses import dataclass

Fits = tuple[tuple[int, int], ...]  # how many times another number, and how many more


@dataclass(frozen=True)
class Joint:
    """`one` and `other` are "part.key": the former must be some number times the latter, and some more.

    `fits` has the pairs (times, more) that are read. A second part of a kind (transformer_2) is held to the
    same. Where either number is absent, nothing is held.
    """

    one: str
    other: str
    fits: Fits = ((1, 0),)

    def allowed(self, other: int) -> tuple[int, ...]:
        """What `one` may be."""
        return tuple(times * other + more for times, more in self.fits)


def _latents(transformer: str, channels: str, seen: Fits = ((1, 0),)) -> tuple[Joint, ...]:
    """What is seen and what is drawn, of the latents that an autoencoder has."""
    return (
        Joint(f"{transformer}.in_channels", f"vae.{channels}", seen),
        Joint(f"{transformer}.out_channels", f"vae.{channels}"),
    )


def _text(key: str, encoder: str = "text_encoder") -> Joint:
    """Tokens of a text, as wide as its encoder makes them."""
    return Joint(f"transformer.{key}", f"{encoder}.hidden_size")


_TWICE = ((2, 0),)  # with a picture's latents beside
_BESIDE = ((1, 0), (2, 4))  # with a mask of 4 too, or in place
_COGVIDEOX = (*_latents("transformer", "latent_channels"), _text("text_embed_dim"))
_WAN = (*_latents("transformer", "z_dim"), _text("text_dim"))
_WAN_PICTURES = (
    *_latents("transformer", "z_dim", _BESIDE),
    _text("text_dim"),
    _text("image_dim", "image_encoder"),
)
_HUNYUAN_15 = (
    *_latents("transformer", "latent_channels", ((2, 1),)),
    _text("text_embed_dim"),
    _text("text_embed_2_dim", "text_encoder_2"),
)
_LTX = (*_latents("transformer", "latent_channels"), _text("caption_channels"))

JOINTS: Mapping[str, tuple[Joint, ...]] = {
    "CogVideoXPipeline": _COGVIDEOX,
    "CogVideoXImageToVideoPipeline": (
        *_latents("transformer", "latent_channels", _TWICE),
        _text("text_embed_dim"),
    ),
    "WanPipeline": _WAN,
    "WanImageToVideoPipeline": _WAN_PICTURES,
    "OpenSoraPipeline": (
        Joint("transformer.in_channels", "vae.latent_channels", ((4, 0),)),  # of a patch of 2 x 2
        _text("text_dim"),
        _text("pooled_dim", "text_encoder_2"),
    ),
    "HunyuanVideoPipeline": (
        *_latents("transformer", "latent_channels"),
        _text("text_embed_dim"),
        _text("pooled_projection_dim", "text_encoder_2"),
    ),
    "StableVideoDiffusionPipeline": (
        *_latents("unet", "latent_channels", _TWICE),
        Joint("unet.cross_attention_dim", "image_encoder.projection_dim"),
    ),
    "LTXPipeline": _LTX,
    "LTXConditionPipeline": _LTX,
    "MochiPipeline": (*_latents("transformer", "latent_channels"), _text("text_embed_dim")),
    "MiniMaxH3ModularPipeline": (
        Joint("transformer.in_channels", "vae.latent_channels"),
        _text("text_dim"),
    ),
    "SkyReelsV2Pipeline": _WAN,
    "SkyReelsV2ImageToVideoPipeline": _WAN_PICTURES,
    "SkyReelsV2DiffusionForcingPipeline": _WAN,
    "HunyuanVideo15Pipeline": _HUNYUAN_15,
    "HunyuanVideo15ImageToVideoPipeline": (*_HUNYUAN_15, _text("image_embed_dim", "image_encoder")),
}
