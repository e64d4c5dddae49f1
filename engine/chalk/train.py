"""Command line of chalk's training, one part after another, each resumable:

    python -m engine.chalk.train vae --work FOLDER [--stop N]   the autoencoder
    python -m engine.chalk.train transformer --work FOLDER      encode the clips, then train on their latents
    python -m engine.chalk.train decoder --work FOLDER          go on with the decoder alone, at the same time
    python -m engine.chalk.train export --work FOLDER --out WEIGHTS

Decides where clips, checkpoints and logs lie below --work. Does not decide how anything is trained. A run
that was stopped goes on when the same line is given again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline

from engine.chalk.clips import Clips, draw_clips
from engine.chalk.latents import channel_std, encode_clips
from engine.chalk.model import build_pipeline, save
from engine.chalk.progress import load_checkpoint
from engine.chalk.train_transformer import Learner, TransformerPlan, train_transformer
from engine.chalk.train_vae import VaePlan, train_vae, unit_scale

TRAIN_SEED, HELD_OUT_SEED = 1_000_000, 9_000_000  # of the first clip
_MEASURED_CLIPS = 64  # enough for the standard deviation of a latent channel


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    pipeline = build_pipeline(options.seed, tiny=options.tiny)
    if options.part != "vae":
        vae = AutoencoderKLCogVideoX.from_pretrained(str(options.work / "vae"))
        pipeline.register_modules(vae=vae)
    plan = TransformerPlan(options.steps, TRAIN_SEED, options.seed)
    if options.part == "export":
        export(pipeline, plan, options.work, options.out)
        return
    clips = draw_clips(options.work / "clips.npy", options.clips, TRAIN_SEED)[: options.clips]
    if options.part == "transformer":
        latents = encode_clips(options.work / "latents.npy", pipeline.vae, clips)
        train_transformer(pipeline, latents, plan, options.work)
    else:
        _train_vae(pipeline.vae, clips, options)


def _train_vae(vae: AutoencoderKLCogVideoX, clips: Clips, options: argparse.Namespace) -> None:
    """Train all of it and write it with its latents at unit scale, or go on with the decoder alone."""
    held_out = draw_clips(options.work / "held_out.npy", 16, HELD_OUT_SEED)
    decoder_only = options.part == "decoder"
    plan = VaePlan(options.steps, options.seed, stop=options.stop, decoder_only=decoder_only)
    train_vae(vae, clips, held_out, plan, options.work)
    if not decoder_only:
        unit_scale(vae, channel_std(vae, clips[:_MEASURED_CLIPS]))
        vae.save_pretrained(str(options.work / "vae"), safe_serialization=True)


def export(pipeline: CogVideoXPipeline, plan: TransformerPlan, work: Path, out: Path) -> None:
    """Write the averaged weights of the last checkpoint as a diffusers folder in bfloat16.

    Not the text encoder: transformers loads it as stored where diffusers loads the others in float32, and a
    plain from_pretrained would then mix the two.
    """
    if load_checkpoint(work / "transformer.ckpt") is None:
        raise FileNotFoundError(f"{work / 'transformer.ckpt'} is not there: train the transformer first")
    learner = Learner(pipeline, plan)
    learner.resume(work / "transformer.ckpt")
    learner.wear_average()
    if decoder := load_checkpoint(work / "decoder.ckpt"):
        pipeline.vae.load_state_dict(decoder["average"])
    pipeline.transformer.to(torch.bfloat16)
    pipeline.vae.to(torch.bfloat16)
    save(out, pipeline)
    print(f"wrote {out} from step {learner.step}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train chalk.")
    parser.add_argument("part", choices=["vae", "decoder", "transformer", "export"])
    parser.add_argument("--work", type=Path, required=True, help="folder of clips, checkpoints, logs, grids")
    parser.add_argument("--out", type=Path, help="folder that export writes")
    parser.add_argument("--steps", type=int, default=1300, help="of the whole run, resumed or not")
    parser.add_argument("--stop", type=int, help="stop here, before the rate's course is over")
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="the tests' size")
    return parser


if __name__ == "__main__":
    main()
