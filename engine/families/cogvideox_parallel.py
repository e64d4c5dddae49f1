"""CogVideoX over a gang: the joint sequence of text and video tokens, in equal shares.

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
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor
from torch.distributed import ProcessGroup

from engine.families.cogvideox import CogVideoX
from engine.parallel import check_heads, gather, shard, ulysses_attention


@dataclass(frozen=True)
class JointSequence:
    """How many text tokens and, after them, video tokens a window has."""

    n_text: int
    n_video: int

    @property
    def n_tokens(self) -> int:
        """Text and video together."""
        return self.n_text + self.n_video

    def text_share(self, rank: int, size: int) -> int:
        """How many of a rank's equal share of tokens are text, its first; the rest is video, or padding."""
        share = -(-self.n_tokens // size)
        return min(max(self.n_text - rank * share, 0), share)


def check(config: Any, n_text: int, latents_shape: Sequence[int], size: int) -> JointSequence:
    """The sequence of a window with latents (B, T, C, H, W), if a gang of `size` ranks can share it.

    `config` is the transformer's. Any number of tokens can be shared. Raises ValueError where the heads do
    not divide by the ranks, or the latents not into patches.
    """
    check_heads(config.num_attention_heads, size)
    sides = (latents_shape[1], latents_shape[3], latents_shape[4])
    patch = (config.patch_size_t or 1, config.patch_size, config.patch_size)
    if any(side % step for side, step in zip(sides, patch, strict=True)):
        raise ValueError(f"latents of {sides} (frames, height, width) are not whole patches of {patch}")
    frames, height, width = (side // step for side, step in zip(sides, patch, strict=True))
    return JointSequence(n_text, frames * height * width)


def parallelise(family: CogVideoX, group: ProcessGroup | None) -> None:
    """Make `family.predict` one computation of all the group's ranks, called by all with equal arguments.

    Every rank gets the whole prediction, the same bits. An earlier group of this instance is forgotten, so
    call it again after forming anew; with None the instance is as stock made it. Others are untouched.
    Raises ValueError where the heads do not divide by the ranks.
    """
    if group is not None:
        check_heads(family.transformer.config.num_attention_heads, group.size())
    earlier = family.transformer.transformer_blocks[0].attn1.processor
    if isinstance(earlier, _Processor):
        earlier.spread.remove()
    if group is not None:
        _Spread(family.transformer, group)


class _Spread:
    """One transformer's hooks, and the sequence of the forward that is running."""

    def __init__(self, transformer: Any, group: ProcessGroup) -> None:
        self.group = group
        self.sequence = JointSequence(0, 0)
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

    def begin(self, transformer: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Before the transformer: know the sequence, and give every block this rank's rotary angles."""
        n_text, latents_shape = kwargs["encoder_hidden_states"].shape[1], kwargs["hidden_states"].shape
        self.sequence = check(transformer.config, n_text, latents_shape, self.group.size())
        rotary = kwargs["image_rotary_emb"]
        if rotary is not None:
            # cos 1 and sin 0 turn a text token by nothing, exactly
            cos_LK, sin_LK = (
                F.pad(x, (0, 0, n_text, 0), value=v) for x, v in zip(rotary, (1.0, 0.0), strict=True)
            )
            rotary = shard(cos_LK, 0, self.group), shard(sin_LK, 0, self.group)
        return args, {**kwargs, "image_rotary_emb": rotary}

    def share_out(self, block: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Before the first block: keep this rank's share of the tokens."""
        x_BLD = torch.cat([kwargs["encoder_hidden_states"], kwargs["hidden_states"]], 1)
        x_BlD = shard(x_BLD, 1, self.group)
        n = self.n_local_text
        return args, {**kwargs, "encoder_hidden_states": x_BlD[:, :n], "hidden_states": x_BlD[:, n:]}

    def collect(self, proj_out: Any, args: Any, video_BlD: Tensor) -> Tensor:
        """After the last projection, where a token is narrowest: all video tokens, on every rank."""
        x_BlD = F.pad(video_BlD, (0, 0, self.n_local_text, 0))
        x_BLD = gather(x_BlD, 1, self.group, self.sequence.n_tokens)
        return x_BLD[:, self.sequence.n_text :]

    @property
    def n_local_text(self) -> int:
        """How many of this rank's tokens are text."""
        return self.sequence.text_share(self.group.rank(), self.group.size())


class _Processor:
    """CogVideoXAttnProcessor2_0's arithmetic on this rank's tokens, with Ulysses for its attention."""

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
        out_BlAK = ulysses_attention(q_BlAK, k_BlAK, v_BlAK, spread.group, spread.sequence.n_tokens)
        out_BlD = attn.to_out[1](attn.to_out[0](out_BlAK.flatten(2)))
        return out_BlD[:, n_text:], out_BlD[:, :n_text]
