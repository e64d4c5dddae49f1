"""CogVideoX over a gang: the joint sequence of text and video tokens in equal shares, and guidance in two.

Dims: B batch, L tokens of text and then video, l tokens on this rank, A attention heads, D model width,
      K head size; the latents of a window are (B, T, C, H, W).
Text is shared out with the video, as one sequence: rank 0 holds the text and less video, no rank does more
work than another, and attention sees every token in stock's order. Everything is installed on one instance,
as forward hooks and attention processors, and can be taken off again.
Decides: where CogVideoX's tokens are spread and collected. Does not decide: how (engine.parallel).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor

from engine.families.cogvideox import CogVideoX
from engine.parallel.attention import attend
from engine.parallel.axes import Axes, Split
from engine.parallel.exchange import gather, shard
from engine.parallel.gang import Mesh


@dataclass(frozen=True)
class JointSequence:
    """How many text tokens and, after them, video tokens a window has, and how they lie on the ranks."""

    n_text: int
    split: Split

    @property
    def text_shares(self) -> tuple[int, ...]:
        """How many of each rank's tokens are text, its first; the rest is video."""
        tokens = self.split.tokens
        before = accumulate(tokens, initial=0)
        return tuple(min(max(self.n_text - start, 0), n) for start, n in zip(before, tokens, strict=False))

    @property
    def video_shares(self) -> tuple[int, ...]:
        """How many of each rank's tokens are video."""
        return tuple(n - text for n, text in zip(self.split.tokens, self.text_shares, strict=True))


def check(config: Any, n_text: int, latents_shape: Sequence[int], axes: Axes) -> JointSequence:
    """The sequence of a window with latents (B, T, C, H, W), if a gang with these axes can share it.

    `config` is the transformer's. Raises ValueError where a rank would have no head or no token, or the
    latents are not whole patches.
    """
    sides = (latents_shape[1], latents_shape[3], latents_shape[4])
    patch = (config.patch_size_t or 1, config.patch_size, config.patch_size)
    if any(side % step for side, step in zip(sides, patch, strict=True)):
        raise ValueError(f"latents of {sides} (frames, height, width) are not whole patches of {patch}")
    frames, height, width = (side // step for side, step in zip(sides, patch, strict=True))
    n_tokens = n_text + frames * height * width
    return JointSequence(n_text, Split(n_tokens, config.num_attention_heads, axes.ring, axes.ulysses))


def parallelise(family: CogVideoX, mesh: Mesh | None) -> None:
    """Make `family.predict` one computation of all the mesh's ranks, called by all with equal arguments.

    Every rank gets the whole prediction, the same bits. An earlier mesh of this instance is forgotten, so
    call it again after forming anew; with None the instance is as stock made it. Others are untouched.
    """
    earlier = family.transformer.transformer_blocks[0].attn1.processor
    if isinstance(earlier, _Processor):
        earlier.spread.remove()
    family.mesh = mesh
    if mesh is not None and mesh.sequence is not None:
        _Spread(family.transformer, mesh)


class _Spread:
    """One transformer's hooks, and the sequence of the forward that is running."""

    def __init__(self, transformer: Any, mesh: Mesh) -> None:
        self.mesh = mesh
        self.sequence: JointSequence
        self.attentions = [block.attn1 for block in transformer.transformer_blocks]
        self.stock = [attention.processor for attention in self.attentions]
        for attention in self.attentions:
            attention.set_processor(_Processor(self))
        first = transformer.transformer_blocks[0]
        self.hooks = [
            transformer.register_forward_pre_hook(self.begin, with_kwargs=True),
            first.register_forward_pre_hook(self.share_out, with_kwargs=True),
            transformer.proj_out.register_forward_hook(self.collect),
        ]

    def remove(self) -> None:
        """Leave the transformer as it was found."""
        for hook in self.hooks:
            hook.remove()
        for attention, processor in zip(self.attentions, self.stock, strict=True):
            attention.set_processor(processor)

    def share(self, x: Tensor, dim: int) -> Tensor:
        """This rank's share of something that lies beside the tokens."""
        return shard(x, dim, self.sequence.split.tokens, self.mesh.sequence)

    def begin(self, transformer: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Before the transformer: know the sequence, and give every block this rank's rotary angles."""
        n_text, latents_shape = kwargs["encoder_hidden_states"].shape[1], kwargs["hidden_states"].shape
        self.sequence = check(transformer.config, n_text, latents_shape, self.mesh.axes)
        rotary = kwargs["image_rotary_emb"]
        if rotary is not None:
            # cos 1 and sin 0 turn a text token by nothing, exactly
            cos_LK, sin_LK = (
                F.pad(x, (0, 0, n_text, 0), value=v) for x, v in zip(rotary, (1.0, 0.0), strict=True)
            )
            rotary = self.share(cos_LK, 0), self.share(sin_LK, 0)
        return args, {**kwargs, "image_rotary_emb": rotary}

    def share_out(self, block: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Before the first block: keep this rank's share of the tokens."""
        x_BLD = torch.cat([kwargs["encoder_hidden_states"], kwargs["hidden_states"]], 1)
        x_BlD, n = self.share(x_BLD, 1), self.sequence.text_shares[self.mesh.sequence_rank]
        return args, {**kwargs, "encoder_hidden_states": x_BlD[:, :n], "hidden_states": x_BlD[:, n:]}

    def collect(self, proj_out: Any, args: Any, video_BlD: Tensor) -> Tensor:
        """After the last projection, where a token is narrowest: all video tokens, on every rank."""
        return gather(video_BlD, 1, self.sequence.video_shares, self.mesh.sequence)


class _Processor:
    """CogVideoXAttnProcessor2_0's arithmetic on this rank's tokens, its attention over the whole mesh."""

    def __init__(self, spread: _Spread) -> None:
        self.spread = spread

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        if attention_mask is not None:
            raise ValueError("a gang attends to every token: trim the prompt rather than pass a mask")
        n_text = encoder_hidden_states.shape[1]
        x_BlD = torch.cat([encoder_hidden_states, hidden_states], 1)
        q_BlAK, k_BlAK, v_BlAK = (
            project(x_BlD).unflatten(2, (attn.heads, -1)) for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        q_BlAK, k_BlAK = attn.norm_q(q_BlAK), attn.norm_k(k_BlAK)
        if image_rotary_emb is not None:
            q_BlAK = apply_rotary_emb(q_BlAK, image_rotary_emb, sequence_dim=1)
            k_BlAK = apply_rotary_emb(k_BlAK, image_rotary_emb, sequence_dim=1)
        spread = self.spread
        out_BlAK = attend(q_BlAK, k_BlAK, v_BlAK, spread.mesh, spread.sequence.split)
        out_BlD = attn.to_out[1](attn.to_out[0](out_BlAK.flatten(2)))
        return out_BlD[:, n_text:], out_BlD[:, :n_text]
