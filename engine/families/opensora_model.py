"""Open-Sora 2's transformer, built of diffusers' Flux blocks: diffusers has none of its own.

Dims: B batch, C latent channels, T latent frames, H and W their rows and columns, P patch, L tokens, D width.
A token is P x P latents of one frame. Double blocks keep text and video apart but for attention; single
blocks lay them end to end, the text first. Tokens of the video turn by (frame, row, column), those of the
text by (0, 0, 0). What is known of some frames, for image and video conditioning, is added to their tokens.
Decides: the arithmetic of one prediction. Does not decide: how published weights become ours
(opensora_weights), guidance, steps and text (opensora).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import (
    CombinedTimestepGuidanceTextProjEmbeddings,
    CombinedTimestepTextProjEmbeddings,
)
from diffusers.models.normalization import AdaLayerNormContinuous
from diffusers.models.transformers.transformer_flux import (
    FluxPosEmbed,
    FluxSingleTransformerBlock,
    FluxTransformerBlock,
)
from torch import Tensor, nn

_EPS = 1e-6
_UNIT = 1000  # the timestep's embedding counts thousandths, the flow from 1 to 0


class OpenSoraTransformer(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The defaults are those of the published 11B. in_channels counts a patch: C x P x P.

    guidance_embed is of models that were distilled from guidance, cond_embed of those that take a condition.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        in_channels: int = 64,
        patch_size: int = 2,
        num_layers: int = 19,
        num_single_layers: int = 38,
        num_attention_heads: int = 24,
        attention_head_dim: int = 128,
        text_dim: int = 4096,
        pooled_dim: int = 768,
        axes_dims: Sequence[int] = (16, 56, 56),
        theta: int = 10000,
        guidance_embed: bool = False,
        cond_embed: bool = True,
    ) -> None:
        super().__init__()
        if sum(axes_dims) != attention_head_dim:
            raise ValueError(f"axes_dims={tuple(axes_dims)} must sum to {attention_head_dim}, a head's size")
        heads, size = num_attention_heads, attention_head_dim
        width = heads * size
        self.rope = FluxPosEmbed(theta, list(axes_dims))
        self.x_embedder = nn.Linear(in_channels, width)
        self.cond_embedder = nn.Linear(in_channels + patch_size**2, width) if cond_embed else None
        self.context_embedder = nn.Linear(text_dim, width)
        embed = (
            CombinedTimestepGuidanceTextProjEmbeddings
            if guidance_embed
            else CombinedTimestepTextProjEmbeddings
        )
        self.time_text_embed = embed(width, pooled_dim)
        self.transformer_blocks = nn.ModuleList(
            FluxTransformerBlock(width, heads, size, eps=_EPS) for _ in range(num_layers)
        )
        self.single_transformer_blocks = nn.ModuleList(
            FluxSingleTransformerBlock(width, heads, size) for _ in range(num_single_layers)
        )
        self.norm_out = AdaLayerNormContinuous(width, width, elementwise_affine=False, eps=_EPS)
        self.proj_out = nn.Linear(width, in_channels)

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        pooled_projections: Tensor,
        condition: Tensor | None = None,
        guidance: Tensor | None = None,
    ) -> Tensor:
        """The velocity, (B, C, T, H, W), of latents of that shape at a timestep (B,) in [0, 1].

        Texts are tokens (B, L, text_dim) and one vector (B, pooled_dim). condition is (B, 1 + C, T, H, W): a
        mask of known frames and their latents; None stands for nothing known. guidance, (B,), is the scale
        for a distilled model. Raises ValueError for sides that are no whole patches, or without its guidance.
        """
        patch = self.config.patch_size
        frames, rows, columns = hidden_states.shape[2:]
        if rows % patch or columns % patch:
            raise ValueError(f"latents of {rows} x {columns} are no whole patches of {patch} x {patch}")
        video_BLD = self.x_embedder(patchify(hidden_states, patch))
        if self.cond_embedder is not None:
            video_BLD = video_BLD + self.cond_embedder(self._condition(condition, hidden_states))
        embedding_BD = self._embedding(timestep, guidance, pooled_projections)
        text_BLD = self.context_embedder(encoder_hidden_states)
        angles = self._angles(text_BLD, frames, rows // patch, columns // patch)
        for block in [*self.transformer_blocks, *self.single_transformer_blocks]:
            text_BLD, video_BLD = block(
                hidden_states=video_BLD,
                encoder_hidden_states=text_BLD,
                temb=embedding_BD,
                image_rotary_emb=angles,
            )
        tokens_BLP = self.proj_out(self.norm_out(video_BLD, embedding_BD))
        return unpatchify(tokens_BLP, frames, rows, columns, patch)

    def _condition(self, condition: Tensor | None, latents_BCTHW: Tensor) -> Tensor:
        """Tokens of what is known, zero where nothing is."""
        if condition is None:
            batch, channels, *rest = latents_BCTHW.shape
            condition = latents_BCTHW.new_zeros(batch, 1 + channels, *rest)
        return patchify(condition, self.config.patch_size)

    def _embedding(self, timestep: Tensor, guidance: Tensor | None, pooled: Tensor) -> Tensor:
        """What every block is told besides tokens, (B, D)."""
        told = [timestep]
        if self.config.guidance_embed:
            if guidance is None:
                raise ValueError("a model that was distilled from guidance needs its scale")
            told.append(guidance)
        embedding: Tensor = self.time_text_embed(*(x.to(pooled.dtype) * _UNIT for x in told), pooled)
        return embedding

    def _angles(self, text_BLD: Tensor, frames: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines (text and video tokens, head size).

        Each stream's are made by a call of its own, so that a gang's ranks can keep those of their tokens.
        """
        sides = [torch.arange(n, device=text_BLD.device) for n in (frames, rows, columns)]
        text = self.rope(torch.zeros(text_BLD.shape[1], 3, device=text_BLD.device))
        video = self.rope(torch.cartesian_prod(*sides))
        cos, sin = (torch.cat(both) for both in zip(text, video, strict=True))
        return cos, sin


def patchify(x_BCTHW: Tensor, patch: int) -> Tensor:
    """Tokens (B, T x H/P x W/P, C x P x P) in the order of frames, rows and columns."""
    batch, channels, frames, rows, columns = x_BCTHW.shape
    x = x_BCTHW.reshape(batch, channels, frames, rows // patch, patch, columns // patch, patch)
    return x.permute(0, 2, 3, 5, 1, 4, 6).flatten(4).flatten(1, 3)


def unpatchify(tokens_BLP: Tensor, frames: int, rows: int, columns: int, patch: int) -> Tensor:
    """The latents (B, C, T, H, W) that patchify made tokens of."""
    x = tokens_BLP.reshape(len(tokens_BLP), frames, rows // patch, columns // patch, -1, patch, patch)
    return x.permute(0, 4, 1, 2, 5, 3, 6).reshape(len(x), -1, frames, rows, columns)
