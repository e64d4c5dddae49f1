"""Build chalk's parts from scratch and write them as one diffusers folder.

Decides the sizes of the parts and their first, untrained weights. Does not decide how they are trained:
`engine.chalk.train` does. `python -m engine.chalk.model --out FOLDER [--tiny] [--seed N]` writes an untrained
folder.

One latent pixel stands for 4 × 4 pixels of four frames; the transformer's patches join 4 × 4 of them, so 13
latent frames of 64 × 96 pixels are 13 · 4 · 6 = 312 tokens. Few channels at a fine grid, since such latents
are smooth: a small model learns forms from them sooner than from few, dense ones.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from transformers import T5Config, T5EncoderModel

from engine.chalk.captions import vocabulary
from engine.chalk.tokens import MAX_TOKENS, build_tokenizer
from engine.chalk.world import write_world

WEIGHTS = Path(__file__).parent / "weights"  # shipped
GUIDANCE = 3.0  # the scale at which colours and motions follow captions best; more distorts forms
HEIGHT, WIDTH = 64, 96  # pixels of the main size
WINDOW_FRAMES = 49  # pixel frames of the longest window, 13 latent frames
_PIXELS_PER_LATENT, _PATCH = 4, 4


@dataclass(frozen=True)
class Size:
    """Widths and depths of all parts."""

    vae_widths: tuple[int, int, int]
    vae_groups: int
    latent_channels: int
    heads: int
    head_dim: int
    layers: int
    time_dim: int
    text_dim: int
    text_layers: int


FULL = Size(
    vae_widths=(16, 32, 64), vae_groups=4, latent_channels=4,
    heads=6, head_dim=32, layers=6, time_dim=32, text_dim=96, text_layers=2,
)  # fmt: skip
TINY = Size(
    vae_widths=(2, 2, 4), vae_groups=2, latent_channels=4,
    heads=2, head_dim=16, layers=2, time_dim=8, text_dim=16, text_layers=1,
)  # fmt: skip


def build_pipeline(seed: int, *, tiny: bool = False) -> CogVideoXPipeline:
    """All parts in float32 with random weights of this seed; the global generator stays as it was."""
    size = TINY if tiny else FULL
    tokenizer = build_tokenizer(vocabulary())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = build_vae(size)
        text_encoder = build_text_encoder(size, len(tokenizer))
        transformer = build_transformer(size)
    parts = (tokenizer, text_encoder.eval(), vae.eval(), transformer.eval(), build_scheduler())
    return CogVideoXPipeline(*parts)


def build_vae(size: Size) -> AutoencoderKLCogVideoX:
    """4 × in space, 4 × in time. Its scaling factor stays 1: training folds the scale into the weights."""
    blocks = len(size.vae_widths)
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * blocks,
        up_block_types=("CogVideoXUpBlock3D",) * blocks,
        block_out_channels=size.vae_widths,
        latent_channels=size.latent_channels,
        layers_per_block=1,
        norm_num_groups=size.vae_groups,
        sample_height=HEIGHT,
        sample_width=WIDTH,
        scaling_factor=1.0,
        force_upcast=False,
    )


def build_text_encoder(size: Size, vocab_size: int) -> T5EncoderModel:
    """A small T5 encoder, trained before the transformer."""
    config = T5Config(
        vocab_size=vocab_size,
        d_model=size.text_dim,
        d_kv=size.text_dim // 4,
        num_heads=4,
        d_ff=2 * size.text_dim,
        num_layers=size.text_layers,
        relative_attention_num_buckets=16,
        relative_attention_max_distance=MAX_TOKENS,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
    )
    return T5EncoderModel(config)


def build_transformer(size: Size) -> CogVideoXTransformer3DModel:
    """The denoiser of z_BTCHW, with the sines of CogVideoX-2B's positions in time, height and width.

    One position is 4 radians of the fastest sine in time and 2.5 in space, so that tokens beside each other
    get quite different codes. In 200 steps from pure noise, what stands still was learned with any
    positions; what moves began to be with these, and not with rotary ones or at the usual scale.
    """
    return CogVideoXTransformer3DModel(
        num_attention_heads=size.heads,
        attention_head_dim=size.head_dim,
        in_channels=size.latent_channels,
        out_channels=size.latent_channels,
        time_embed_dim=size.time_dim,
        text_embed_dim=size.text_dim,
        num_layers=size.layers,
        sample_width=WIDTH // _PIXELS_PER_LATENT,
        sample_height=HEIGHT // _PIXELS_PER_LATENT,
        sample_frames=WINDOW_FRAMES,
        patch_size=_PATCH,
        max_text_seq_length=MAX_TOKENS,
        temporal_interpolation_scale=0.25,
        spatial_interpolation_scale=0.4,
    )


def build_scheduler() -> CogVideoXDDIMScheduler:
    """v-prediction down to zero signal.

    The shift divides every signal-to-noise ratio by four. A form covers many smooth latents that say the
    same, so it should be seen through far more noise than a single latent is, and without a shift be settled
    in few steps; but edges are settled at little noise, which a large shift leaves to the last step alone.
    Four is an estimate between the two: no other value was compared with all else equal.
    """
    return CogVideoXDDIMScheduler(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        snr_shift_scale=4.0,
    )


def save(folder: Path, pipeline: CogVideoXPipeline) -> None:
    """Write every part below folder for CogVideoXPipeline.from_pretrained; weights as safetensors only."""
    pipeline.save_pretrained(str(folder), safe_serialization=True)
    write_world(folder)


def diffusers_folder(text: str) -> Path:
    """The folder that a word of a command line names; argparse refuses the word where it holds no model."""
    folder = Path(text)
    if not (folder / "model_index.json").is_file():
        raise argparse.ArgumentTypeError(f"{text} holds no model_index.json: give a diffusers folder")
    return folder


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write an untrained chalk as a diffusers folder.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--tiny", action="store_true", help="under 300 kB, for tests")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    save(options.out, build_pipeline(options.seed, tiny=options.tiny))
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
