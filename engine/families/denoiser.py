"""What one forward of a denoiser costs, read from its configuration. No torch.

S video tokens, T text tokens, D width of attention (all heads together). A matrix of w weights costs a token
2 w operations, so a block of 12 D² weights costs 24 S D²; attention of S tokens to S costs 4 S² D: scores and
their sums, 2 S² D each (arXiv:2001.08361 §2.1).
Decides: how many operations and tokens there are. Does not decide: how long they take (cluster.cost).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.families.facts import family_name
from engine.families.known import FAMILIES
from engine.families.reading import Config, fact, read_object

# Operations a latent position of Stable Video Diffusion's UNet, counted on the published configuration: 279.4
# million at 25 x 72 x 128 and 279.5 at 25 x 40 x 64, so that its attention within frames hardly shows.
_UNET_OPERATIONS, _UNET_WIDTH = 279.5e6, 320


@dataclass(frozen=True)
class Blocks:
    """`count` equal blocks: how many weights a token of each kind meets in one, and what attends to what.

    joint: text tokens attend and are attended to with those of the video. crossed: video tokens attend to
    them once more, apart.
    """

    count: int
    video: int
    text: int = 0
    joint: bool = False
    crossed: bool = False


@dataclass(frozen=True)
class Denoiser:
    """What predicts: its attention heads and their width D together, its blocks, the latents of a token.

    one_batch: both branches of guidance are one forward of batch 2. told: distilled from guidance, so that
    there is one branch at any scale. shared: ring and ulysses can share a window of it.
    """

    heads: int
    width: int
    patch: tuple[int, int, int]  # latent frames, rows and columns
    blocks: tuple[Blocks, ...]
    one_batch: bool
    told: bool = False
    shared: bool = True

    @property
    def n_blocks(self) -> int:
        """Of all kinds."""
        return sum(blocks.count for blocks in self.blocks)

    def tokens(self, frames: int, height: int, width: int) -> int:
        """Video tokens of so many latents."""
        of_frames, of_rows, of_columns = self.patch
        return -(-frames // of_frames) * -(-height // of_rows) * -(-width // of_columns)

    def operations(self, tokens: int, text: int) -> tuple[float, float]:
        """Of the matrices and of attention, in one forward of batch 1."""
        matrices = attention = 0.0
        for blocks in self.blocks:
            matrices += 2.0 * blocks.count * (blocks.video * tokens + blocks.text * text)
            pairs = (tokens + text * blocks.joint) ** 2 + tokens * text * blocks.crossed
            attention += 4.0 * blocks.count * pairs * self.width * self.shared
        return matrices, attention


def read_denoiser(folder: Path) -> Denoiser:
    """The denoiser of a diffusers folder. Raises ValueError that names what is absent or unknown."""
    part = FAMILIES[family_name(folder)].denoiser
    try:
        return denoiser_of(read_object(folder / part / "config.json"))
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def denoiser_of(config: Config) -> Denoiser:
    """The denoiser that a part's configuration describes. Raises ValueError for a class of unknown cost."""
    kind = config.get("_class_name")
    if kind not in _READERS:
        raise ValueError(f"what a {kind} costs is not known; only {', '.join(sorted(_READERS))}")
    return _READERS[kind](config)


def _width(config: Config) -> tuple[int, int]:
    """Heads, and their width together."""
    heads = int(fact(config, "num_attention_heads", int))
    return heads, heads * int(fact(config, "attention_head_dim", int))


def _patch(config: Config) -> tuple[int, int, int]:
    """Latents of a token, which are told as three numbers or as one of a frame, and one of frames."""
    patch = fact(config, "patch_size", int | list)
    if isinstance(patch, int):
        return config.get("patch_size_t") or 1, patch, patch
    frames, rows, columns = patch
    return frames, rows, columns


def _twofold(config: Config, doubles: str, singles: str, told: str, one_batch: bool) -> Denoiser:
    """Double blocks, with weights for text and others for video, then single ones: Flux, HunyuanVideo."""
    heads, width = _width(config)
    weights = round((4 + 2 * config.get("mlp_ratio", 4.0)) * width**2)
    counts = [int(fact(config, name, int)) for name in (doubles, singles) if name]
    blocks = tuple(Blocks(count, weights, weights, joint=True) for count in counts)
    return Denoiser(heads, width, _patch(config), blocks, one_batch, told=bool(config.get(told)))


def _cogvideox(config: Config) -> Denoiser:
    heads, width = _width(config)
    count = int(fact(config, "num_layers", int))
    blocks = (Blocks(count, 12 * width**2, 12 * width**2, joint=True),)
    return Denoiser(heads, width, _patch(config), blocks, one_batch=True)


def _crossed(config: Config, inner: int, one_batch: bool) -> Denoiser:
    """Attention of the video to itself, then to the text; `inner` is the width between two layers."""
    heads, width = _width(config)
    count = int(fact(config, "num_layers", int))
    blocks = (Blocks(count, 6 * width**2 + 2 * width * inner, 2 * width**2, crossed=True),)
    return Denoiser(heads, width, _patch(config), blocks, one_batch)


def _mochi(config: Config) -> Denoiser:
    heads, width = _width(config)
    text = int(fact(config, "pooled_projection_dim", int))  # Mochi's width of its text stream
    count = int(fact(config, "num_layers", int))
    blocks = (Blocks(count, 12 * width**2, 4 * width * text + 8 * text**2, joint=True),)
    return Denoiser(heads, width, _patch(config), blocks, one_batch=True)


def _minimax_h3(config: Config) -> Denoiser:
    heads, width = _width(config)
    hidden, inner = int(fact(config, "hidden_size", int)), int(fact(config, "ffn_dim", int))
    weights, count = 4 * hidden * width + 3 * hidden * inner, int(fact(config, "num_layers", int))
    blocks = (Blocks(count, weights, weights, joint=True),)
    return Denoiser(heads, width, _patch(config), blocks, one_batch=False, told=True)


def _unet(config: Config) -> Denoiser:
    narrowest = int(fact(config, "block_out_channels", list)[0])
    weights = round(_UNET_OPERATIONS / 2 * (narrowest / _UNET_WIDTH) ** 2)
    return Denoiser(1, narrowest, (1, 1, 1), (Blocks(1, weights),), one_batch=True, shared=False)


_READERS: dict[str, Callable[[Config], Denoiser]] = {
    "CogVideoXTransformer3DModel": _cogvideox,
    "HunyuanVideo15Transformer3DModel": lambda config: _twofold(config, "num_layers", "", "", False),
    "HunyuanVideoTransformer3DModel": lambda config: _twofold(
        config, "num_layers", "num_single_layers", "guidance_embeds", False
    ),
    "LTXVideoTransformer3DModel": lambda config: _crossed(config, 4 * _width(config)[1], True),
    "MiniMaxH3Transformer3DModel": _minimax_h3,
    "MochiTransformer3DModel": _mochi,
    "OpenSoraTransformer": lambda config: _twofold(
        config, "num_layers", "num_single_layers", "guidance_embed", True
    ),
    "SkyReelsV2Transformer3DModel": lambda config: _crossed(config, fact(config, "ffn_dim", int), False),
    "UNetSpatioTemporalConditionModel": _unet,
    "WanTransformer3DModel": lambda config: _crossed(config, fact(config, "ffn_dim", int), False),
}
