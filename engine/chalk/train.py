"""Command line of chalk's training, one part after another, each resumable:

    python -m engine.chalk.train vae --work FOLDER           the autoencoder
    python -m engine.chalk.train text --work FOLDER          the text encoder
    python -m engine.chalk.train transformer --work FOLDER   encode the clips, then train on their latents
    python -m engine.chalk.train decoder --work FOLDER       go on with the decoder alone, at any time
    python -m engine.chalk.train export --work FOLDER --out WEIGHTS

Decides where clips, checkpoints and logs lie below --work. Does not decide how anything is trained. A run
that was stopped goes on when the same line is given again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline
from transformers import T5EncoderModel

from engine.chalk.clips import HELD_OUT_SEED, TRAIN_SEED, clips_at, draw_clips
from engine.chalk.course import course, draw_course
from engine.chalk.latents import channel_std, encode_clips, fingerprint
from engine.chalk.model import build_pipeline, save
from engine.chalk.progress import CURVES, load_checkpoint, losses
from engine.chalk.teacher import SIZES
from engine.chalk.train_text import TextPlan, train_text
from engine.chalk.train_transformer import Learner, TransformerPlan, train_transformer
from engine.chalk.train_vae import VaePlan, train_vae, unit_scale

VAE_STEPS, TEXT_STEPS, TRANSFORMER_STEPS, DECODER_STEPS = 2400, 1000, 7500, 600
_NEEDS = {
    "decoder": ("vae",),
    "transformer": ("vae", "text_encoder"),
    "export": ("vae", "text_encoder", "transformer.ckpt", "vae.jsonl", "text.jsonl", "transformer.jsonl"),
}
_MEASURED_CLIPS = 64  # enough for the standard deviation of a latent channel


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.part == "export" and not options.out:
        parser.error("export needs --out, the folder to write")
    if options.clips < 1:
        parser.error(f"--clips {options.clips} must be 1 or more")
    if missing := [part for part in _NEEDS.get(options.part, ()) if not (options.work / part).exists()]:
        parser.error(
            f"--work {options.work} lacks {', '.join(missing)}: train the parts before this one first"
        )
    torch.set_num_threads(options.threads)
    pipeline = build_pipeline(options.seed, tiny=options.tiny)
    if options.part == "vae":
        _train_vae(pipeline.vae, options)
        return
    if options.part == "text":
        _train_text(pipeline, options)
        return
    vae = AutoencoderKLCogVideoX.from_pretrained(str(options.work / "vae"))
    if options.part == "decoder":
        _train_vae(vae, options, decoder_only=True)
        return
    text_encoder = T5EncoderModel.from_pretrained(str(options.work / "text_encoder"))
    pipeline.register_modules(vae=vae, text_encoder=text_encoder)
    plan = TransformerPlan(options.steps or TRANSFORMER_STEPS, options.seed, stop=options.stop)
    if options.part == "export":
        export(pipeline, plan, options.work, options.out)
    else:
        _train_transformer(pipeline, plan, options)


def _train_vae(
    vae: AutoencoderKLCogVideoX, options: argparse.Namespace, *, decoder_only: bool = False
) -> None:
    """Train all of it and write it, its latents at unit scale, or go on with the decoder alone."""
    steps = options.steps or (DECODER_STEPS if decoder_only else VAE_STEPS)
    plan = VaePlan(steps, options.seed, stop=options.stop)
    if decoder_only:
        plan = replace(plan, decoder_only=True, warm_up=50)  # what is trained already needs no long one
    n = clips_at(plan.last, options.clips)
    clips = draw_clips(options.work / "clips.npy", n, TRAIN_SEED)
    held_out = draw_clips(options.work / "held_out.npy", 16, HELD_OUT_SEED)
    train_vae(vae, clips, held_out, plan, options.work)
    if not decoder_only:
        unit_scale(vae, channel_std(vae, clips[:_MEASURED_CLIPS]))
        vae.to(torch.bfloat16)  # as it is shipped, so that the shipped one makes the same latents
        vae.save_pretrained(str(options.work / "vae"), safe_serialization=True)


def _train_text(pipeline: CogVideoXPipeline, options: argparse.Namespace) -> None:
    """Train the text encoder and write it."""
    plan = TextPlan(options.steps or TEXT_STEPS, options.seed, stop=options.stop)
    options.work.mkdir(parents=True, exist_ok=True)
    train_text(pipeline, plan, options.work)
    pipeline.text_encoder.save_pretrained(str(options.work / "text_encoder"), safe_serialization=True)


def _train_transformer(
    pipeline: CogVideoXPipeline, plan: TransformerPlan, options: argparse.Namespace
) -> None:
    """Encode as many lessons of every size as the run will meet, then train."""
    latents, made_by, lessons = {}, fingerprint(pipeline.vae), len(course().scenes)
    for size in SIZES:
        name = f"{size[0]}x{size[1]}"
        n = clips_at(plan.last, lessons if size == SIZES[0] else lessons // 3)
        clips = draw_course(options.work / f"lessons_{name}.npy", n, size)
        latents[size] = encode_clips(options.work / f"latents_{name}_{made_by}.npy", pipeline.vae, clips)
    train_transformer(pipeline, latents, plan, options.work)


def export(pipeline: CogVideoXPipeline, plan: TransformerPlan, work: Path, out: Path) -> None:
    """Write the averaged weights of the last checkpoint as a diffusers folder in bfloat16, and beside it the
    losses of all steps as curves.json.

    Not the text encoder: transformers loads it as stored where diffusers loads the others in float32, and a
    plain from_pretrained would then mix the two.
    """
    curves = {path.stem: losses(path) for path in _logs(work)}
    learner = Learner(pipeline, plan)
    learner.resume(work / "transformer.ckpt")
    learner.wear_average()
    if decoder := load_checkpoint(work / "decoder.ckpt"):
        own = {key: value for key, value in decoder["average"].items() if key.startswith("decoder.")}
        pipeline.vae.load_state_dict(own, strict=False)  # the encoder stays the one that made the latents
    pipeline.transformer.to(torch.bfloat16)
    pipeline.vae.to(torch.bfloat16)
    pipeline.vae.register_to_config(_name_or_path="chalk")  # not the folder that it was trained in
    save(out, pipeline)
    (out.parent / CURVES.name).write_text(json.dumps(curves) + "\n")
    print(f"wrote {out} from step {learner.step}")


def _logs(work: Path) -> list[Path]:
    """The logs of the parts that were trained."""
    parts = ("vae", "decoder", "text", "transformer")
    return [path for part in parts if (path := work / f"{part}.jsonl").exists()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train chalk.")
    parser.add_argument("part", choices=["vae", "text", "transformer", "decoder", "export"])
    parser.add_argument("--work", type=Path, required=True, help="folder of clips, checkpoints, logs, grids")
    parser.add_argument("--out", type=Path, help="folder that export writes")
    parser.add_argument("--steps", type=int, help="of the whole run, resumed or not")
    parser.add_argument("--stop", type=int, help="stop here, before the rate's course is over")
    parser.add_argument("--clips", type=int, default=2000, help="that the autoencoder learns from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="the tests' size")
    return parser


if __name__ == "__main__":
    main()
