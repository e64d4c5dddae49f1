"""Teach the text encoder what captions say, before the transformer learns what that looks like.

Decides the attributes that a caption is read for, and how well. Does not decide captions (`captions`) or what
is drawn. The heads that read a token sequence for an attribute are linear and the same in every language:
what is said of a thing then lies in the same direction of an embedding, whatever else is said of it and in
whichever language. The heads are thrown away; the encoder is not trained any more after this.

A step is a function of (seed, step): a resumed run takes the same steps as an undisturbed one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import CogVideoXPipeline
from torch import Tensor, nn

from engine.chalk import scenes
from engine.chalk.captions import LANGUAGES
from engine.chalk.clips import append_line, held_out_captions, random_caption
from engine.chalk.progress import Plan, load_checkpoint, rate_at, save_checkpoint
from engine.chalk.scenes import Scene, training_scene
from engine.chalk.tokens import MAX_TOKENS

_ABSENT = "-"
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "kind": scenes.KINDS,
    "colour": ("", *scenes.COLOURS),
    "motion": tuple(sorted({motion for motions in scenes.MOTIONS.values() for motion in motions})),
    "night": ("False", "True"),
    "land": scenes.LANDS,
    "light": scenes.LIGHTS,
    "cloud": ("", "white", "grey"),
    "cloud_motion": ("", *scenes.CLOUD_MOTIONS),
    "weather": ("", "rain", "vapour"),
    "camera": scenes.CAMERAS,
}


@dataclass(frozen=True)
class TextPlan(Plan):
    """How the text encoder is trained."""

    rate: float = 2e-3
    batch: int = 96  # captions
    languages: tuple[float, ...] = (0.4, 0.3, 0.3)  # chances of "en", "hi", "ta"
    gaps: float = 0.25  # share of words that half of the captions lose
    every: int = 250  # steps between checkpoints


class Reader(nn.Module):
    """Reads each attribute from embeds (B, tokens, D): one look over the tokens, one linear map."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.looks = nn.Parameter(torch.randn(len(ATTRIBUTES), dim) * dim**-0.5)
        self.names = nn.ModuleList(nn.Linear(dim, 1 + len(values)) for values in ATTRIBUTES.values())

    def forward(self, embeds: Tensor) -> list[Tensor]:
        """Logits (B, values) of each attribute."""
        shares = torch.einsum("btd,ad->bat", embeds, self.looks).softmax(dim=-1)
        seen = torch.einsum("bat,btd->abd", shares, embeds)
        return [name(part) for name, part in zip(self.names, seen, strict=True)]


def attributes(scene: Scene) -> list[int]:
    """The number of each attribute's value in this scene; 0 where such a scene has no such attribute."""
    values = {name: str(value) for name, value in asdict(scene).items()}
    return [(_ABSENT, *known).index(values.get(name, _ABSENT)) for name, known in ATTRIBUTES.items()]


def embed(pipeline: CogVideoXPipeline, captions: list[str]) -> Tensor:
    """Embeddings (B, MAX_TOKENS, text dim) of captions."""
    ids = pipeline.tokenizer(
        captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids
    embeds: Tensor = pipeline.text_encoder(ids)[0]
    return embeds


def train_text(pipeline: CogVideoXPipeline, plan: TextPlan, work: Path) -> None:
    """Train the text encoder in place up to plan.last, resuming from work/text.ckpt."""
    torch.manual_seed(plan.seed)
    reader = Reader(pipeline.text_encoder.config.d_model)
    model = nn.ModuleDict({"text": pipeline.text_encoder, "reader": reader})
    optimizer, step = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.0), 0
    if state := load_checkpoint(work / "text.ckpt"):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    while step < plan.last:
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, plan.steps, plan.rate, 100, fall=0.5)
        loss = _loss(pipeline, reader, np.random.default_rng((plan.seed, step)), plan)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        append_line(work / "text.jsonl", {"step": step, "loss": round(float(loss.detach()), 5)})
        step += 1
        if step % plan.every == 0 or step == plan.last:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            save_checkpoint(work / "text.ckpt", state)
            append_line(work / "text_read.jsonl", {"step": step, **held_out_shares(pipeline, reader)})


def _loss(pipeline: CogVideoXPipeline, reader: Reader, rng: np.random.Generator, plan: TextPlan) -> Tensor:
    """Cross entropy, summed over the attributes."""
    taught = [training_scene(rng) for _ in range(plan.batch)]
    captions = [random_caption(scene, rng, plan.languages, gaps=plan.gaps) for scene in taught]
    right_BA = torch.tensor([attributes(scene) for scene in taught])
    logits = reader(embed(pipeline, captions))
    losses = [nn.functional.cross_entropy(part, right_BA[:, a]) for a, part in enumerate(logits)]
    return torch.stack(losses).sum()


@torch.no_grad()
def held_out_shares(pipeline: CogVideoXPipeline, reader: Reader, n: int = 200) -> dict[str, float]:
    """The share of n held-out captions whose every attribute is read right, for each language."""
    shares = {}
    for language in LANGUAGES:
        asked, texts = zip(*held_out_captions(n, language), strict=True)
        right_BA = torch.tensor([attributes(scene) for scene in asked])
        read_BA = torch.stack([part.argmax(dim=-1) for part in reader(embed(pipeline, list(texts)))], dim=1)
        shares[language] = round(float((read_BA == right_BA).all(dim=1).float().mean()), 4)
    return shares
