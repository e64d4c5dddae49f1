"""What autoencoders hold while they decode a shot or encode what it is given, for `known`. No torch.

Tensors were counted as they add up in bfloat16 on the published configurations, without their numbers
(tests/test_cluster_decoding.py), and CogVideoX's and Wan's decodes were measured on an H100 too. They grow
with a frame's pixels and with the width of the level that is nearest to these. What encodes clips takes a
picture alone in less than is told here, which is still less than decoding takes. What frames take in main
memory before they are of the weights' dtype is not counted.
Decides: how much is held, for each pixel. Does not decide: whether that fits (cluster.decoding).
"""

from collections.abc import Callable
from typing import Any

from engine.families.entry import Holds, Parts

_NUMBERS = 1 << 29  # of bfloat16 in a GiB
_OF_FRAMES = 3.125  # numbers a pixel of a clip: three colours, and its latents


def numbers(gib: float, width_px: int, height_px: int) -> float:
    """So many GiB in bfloat16, as numbers a pixel of a frame of this size."""
    return gib * _NUMBERS / (width_px * height_px)


def of_width(key: str, published: int, held: Holds) -> Callable[[Parts], Holds]:
    """What is held where the level nearest to pixels has the published width, and its share of any other.

    Folders may leave the key out.
    """

    return lambda parts: held.times(share_of(parts, key, published))


def share_of(parts: Parts, key: str, published: int) -> float:
    """How wide the level nearest to pixels is, of the published width."""
    width: Any = parts["vae"].get(key, published)
    outermost: int = width[0] if isinstance(width, (list, tuple)) else width
    return outermost / published


def wan_decoding(parts: Parts) -> Holds:
    """Wan 2.2 TI2V has an autoencoder of its own, with shortcuts."""
    if parts["vae"].get("is_residual"):
        return of_width("decoder_base_dim", 256, Holds(numbers(9.1, 1280, 704)))(parts)
    return of_width("base_dim", 96, Holds(numbers(4.2, 832, 480)))(parts)


def wan_encoding(parts: Parts) -> Holds:
    """As wan_decoding; clips go through it four frames at a time."""
    if parts["vae"].get("is_residual"):
        return of_width("base_dim", 160, Holds(1872.0, 6.1))(parts)
    return of_width("base_dim", 96, Holds(3720.0, _OF_FRAMES))(parts)


_BLOCKS = "block_out_channels"
COGVIDEOX = of_width(_BLOCKS, 128, Holds(numbers(14.8, 720, 480)))
COGVIDEOX_GIVEN = of_width(_BLOCKS, 128, Holds(9525.0, _OF_FRAMES))
HUNYUAN = of_width(_BLOCKS, 128, Holds(numbers(19.2, 960, 544)))  # and Open-Sora 2
HUNYUAN_15 = of_width(_BLOCKS, 128, Holds(7135.0, 8.0))  # keys and values of all latent frames before
LTX = of_width(_BLOCKS, 128, Holds(-275.0, 400.1, most=75))  # the longest run of chunks; 0.9.5's is 69
LTX_GIVEN = of_width(_BLOCKS, 128, Holds(76.0))  # a picture
LTX_095_GIVEN = of_width(_BLOCKS, 128, Holds(32.0, 59.2))  # a clip, all at once
MOCHI = of_width("decoder_block_out_channels", 128, Holds(numbers(10.3, 848, 480)))
SVD = of_width(_BLOCKS, 128, Holds(0.0, 1024.2, most=14))  # frames that are decoded at once
SVD_GIVEN = of_width(_BLOCKS, 128, Holds(693.0))
HUNYUAN_15_GIVEN = of_width(_BLOCKS, 128, Holds(902.0))
HUNYUAN_GIVEN = of_width(_BLOCKS, 128, Holds(902.0))
