"""Pictures as Wan's image-to-video models see them: latents of a clip of them beside, and what CLIP sees.

Decides: what is encoded, and how a mask tells which frames are given. Does not decide: which pictures a model
takes (variants), or what a forward is (wan, skyreels).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from engine.families.family import Conditioning, Frames, unit_frames
from engine.families.wan_vae import encoded
from engine.takes import BESIDE, FIRST, LAST

IMAGE = "image"  # what CLIP makes of the given pictures, beside the text's tokens


def pictures_given(
    pipeline: Any, given: Mapping[str, Frames], n_frames: int, device: torch.device
) -> Conditioning:
    """Channels beside every latent frame, 4 of the mask and C of the pictures; and what CLIP sees, if any."""
    pictures = [given[role] for role in (FIRST, LAST) if role in given]
    made = {BESIDE: _beside(pipeline, [unit_frames(picture) for picture in pictures], n_frames)}
    if pipeline.image_encoder is not None:
        with torch.no_grad():
            images = [Image.fromarray(picture[0]) for picture in pictures]
            made[IMAGE] = pipeline.encode_image(images, device)
    return made


def _beside(pipeline: Any, pictures: Sequence[Tensor], n_frames: int) -> Tensor:
    """(1, F, 4 + C, H, W): which frames are given, and the latents of a clip of them and of grey."""
    first, *last = pictures
    grey = first.new_zeros(*first.shape[:2], n_frames - len(pictures), *first.shape[3:])
    z_1TCHW = encoded(pipeline.vae, torch.cat([first, grey, *last], dim=2))
    c = pipeline.vae_scale_factor_temporal
    mask = z_1TCHW.new_zeros(1, z_1TCHW.shape[1], c, *z_1TCHW.shape[3:])
    mask[:, 0] = 1
    if last:
        mask[:, -1, -1] = 1  # of its four pixel frames, the last
    return torch.cat([mask, z_1TCHW], dim=2)


def with_beside(latents: Tensor, text: Conditioning) -> Tensor:
    """Latents (B, T, C + C', H, W) with what is seen beside them, if anything is."""
    beside = text.get(BESIDE)
    return latents if beside is None else torch.cat([latents, beside.to(latents)], dim=2)
