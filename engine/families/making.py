"""What autoencoders compute to decode a pixel of one frame, for `known`. No torch.

Operations of convolutions and attention were counted on the published configurations, streamed as here, what
is decoded twice where chunks of time overlap among them (tests/test_cluster_decoding.py). They hardly depend
on a picture's size, and grow with the square of a decoder's width.
Decides: how many operations there are. Does not decide: how long they take (cluster.decoding).
"""

from collections.abc import Callable
from dataclasses import replace

from engine.families.entry import Making, Parts
from engine.families.holding import share_of


def of_width(key: str, published: int, made: Making) -> Callable[[Parts], Making]:
    """Of a decoder of the published width, and as the square of its share of it of any other."""

    def read(parts: Parts) -> Making:
        return replace(made, operations=made.operations * share_of(parts, key, published) ** 2)

    return read


def wan(parts: Parts) -> Making:
    """Wan 2.2 TI2V has an autoencoder of its own."""
    if parts["vae"].get("is_residual"):
        return of_width("decoder_base_dim", 256, Making(18.6e6))(parts)
    return of_width("base_dim", 96, Making(8.51e6))(parts)


_BLOCKS = "block_out_channels"
COGVIDEOX = of_width(_BLOCKS, 128, Making(18.6e6, (240, 360), (200, 288)))
HUNYUAN = of_width(_BLOCKS, 128, Making(25.2e6, (256, 256), (192, 192)))  # and Open-Sora 2
HUNYUAN_15 = of_width(_BLOCKS, 128, Making(26.5e6))
LTX = of_width(_BLOCKS, 128, Making(0.88e6, (512, 512), (448, 448)))
LTX_095 = of_width(_BLOCKS, 128, Making(1.26e6, (512, 512), (448, 448)))
MOCHI = of_width("decoder_block_out_channels", 128, Making(21.5e6, (256, 256), (192, 192)))
SVD = of_width(_BLOCKS, 128, Making(11.8e6))
