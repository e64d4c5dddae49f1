"""Stable Video Diffusion: predict windows with the arithmetic of StableVideoDiffusionPipeline.

It starts from a picture and reads no text. What the picture is to it goes with every window as part of its
texts: what CLIP sees in it, its latents, which every frame sees beside its own, and three numbers. Guidance
compares that with a forward in which the first two are zeros.
The picture begins a clip, and thus every window: a long shot comes back to it where a window begins, as far
as blending lets it. Guidance rises over a window, from 1 at its first frame to the scale at its last.
Bit equality with stock for one window is a promise of this module, at stock's own values of what the house
has no word for: 7 frames a second, motion bucket 127, and noise of strength 0.02 on the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline
from PIL import Image
from torch import Tensor

from engine.decode import frames_uint8
from engine.families.family import Conditioning, Family, Frames
from engine.noise import stock_noise
from engine.takes import FIRST

CHUNK = 14  # frames that are decoded at once; the temporal decoder sees no others
NOISE_SEED = 0  # of the noise on a picture, so that it is encoded to the same latents always
_FPS, _MOTION_BUCKET, _NOISE = 7, 127, 0.02
_LEAST_GUIDANCE = 1.0


class StableVideoDiffusion(Family):
    """Stable Video Diffusion, of 14 or 25 frames."""

    pipeline_class = StableVideoDiffusionPipeline
    schedulers: ClassVar = {"euler": EulerDiscreteScheduler}
    parallel = None
    channels_first = False
    latents_in_float32 = False
    tiles = False
    one_batch = True

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
        leave_out: Sequence[str] = (),
    ) -> Self:
        """Load a folder as Family.load does; the transformer is a UNet here."""
        names = ["unet" if name == "transformer" else name for name in leave_out]
        return super().load(folder, dtype=dtype, device=device, leave_out=names)

    @property
    def transformer(self) -> Any:
        """The UNet, which is all that predicts."""
        return self.pipeline.unet

    @classmethod
    def stock_canvas(
        cls, seed: int, n_frames: int, frame_shape: Sequence[int], dtype: torch.dtype
    ) -> tuple[Tensor, torch.Generator]:
        """Noise z_BTCHW as stock draws it, after that on the picture, of 8 x 8 pixels a latent."""
        _, height, width = frame_shape
        _, generator = stock_noise(seed, (1, 3, 8 * height, 8 * width), torch.float32)
        return torch.randn((1, n_frames, *frame_shape), generator=generator, dtype=dtype), generator

    def embed(self, text: str, max_text_tokens: int) -> Conditioning:
        """Nothing: no text changes what is drawn."""
        return {}

    @torch.no_grad()
    def give(self, given: Mapping[str, Frames], n_frames: int) -> Conditioning:
        """What a first_frame f_1HWC is to the model, as part of every text, whatever the number of frames.

        `seen` is by CLIP (1, 1, D), `first` are its latents (1, 1, C, H, W), not scaled, and `told` are the
        numbers (1, 3). Stock draws the noise on the picture from the generator of a film, here it is of
        NOISE_SEED. Raises ValueError without a first frame, and for float16, in which the encoder overflows.
        """
        pipeline = self.pipeline
        if set(given) != {FIRST}:
            raise ValueError(
                f"the model goes on from a first_frame alone, not from {', '.join(given) or 'nothing'}"
            )
        if pipeline.vae.dtype == torch.float16 and pipeline.vae.config.force_upcast:
            raise ValueError("the folder's encoder overflows in float16: use bfloat16 or float32")
        picture = Image.fromarray(given[FIRST][0])
        seen = pipeline._encode_image(picture, self.device, 1, False)
        x_1CHW = pipeline.video_processor.preprocess(picture, height=picture.height, width=picture.width)
        noise, _ = stock_noise(NOISE_SEED, x_1CHW.shape, x_1CHW.dtype)
        first = pipeline._encode_vae_image(x_1CHW + _NOISE * noise, self.device, 1, False)
        told = torch.tensor([[_FPS - 1, _MOTION_BUCKET, _NOISE]], dtype=seen.dtype)  # taught one frame less
        return {"seen": seen, "first": first[:, None].to(seen.dtype), "told": told}

    @torch.no_grad()
    def predict(
        self,
        latents: Tensor,
        timestep: Tensor,
        prompt: Conditioning,
        negative: Conditioning | None,
        guidance_scale: float,
        *,
        prompted: bool = False,
    ) -> Tensor:
        """The prediction, of the shape of a window's latents (B, T, C, H, W); negative is never read.

        The prompt holds what `give` made of a picture. A scale of at most 1 turns guidance off. With
        `prompted`, a guided one is followed by that with the picture alone.
        """
        if "first" not in prompt:
            raise ValueError(f"Stable Video Diffusion starts from a picture: give the shot a {FIRST}")
        if guidance_scale <= 1.0:
            return self.forward(latents, timestep, prompt)
        nothing = {**prompt, **{name: torch.zeros_like(prompt[name]) for name in ("seen", "first")}}
        without, with_picture = self._branches(latents, timestep, nothing, prompt)
        scale_T = torch.linspace(_LEAST_GUIDANCE, guidance_scale, latents.shape[1])
        scale_1T111 = scale_T.to(latents).to(without.device).view(1, -1, 1, 1, 1)
        guided = without + scale_1T111 * (with_picture - without)
        return torch.cat([guided, with_picture]) if prompted else guided

    def forward(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Tensor:
        """One call of the UNet on latents (B, T, C, H, W) as the scheduler scales them for it."""
        told = {name: x.to(self.device) for name, x in text.items()}
        first = told["first"].expand(-1, latents.shape[1], -1, -1, -1)
        prediction: Tensor = self.transformer(
            torch.cat([latents.to(self.device), first], dim=2),
            timestep.to(self.device),
            encoder_hidden_states=told["seen"],
            added_time_ids=told["told"],
            return_dict=False,
        )[0]
        return prediction

    def frames(self, latents: Tensor) -> Iterator[npt.NDArray[np.uint8]]:
        """The pixel frames (H, W, 3) of one shot's latents (1, T, C, H, W), as a canvas left them.

        As stock with decode_chunk_size=CHUNK: no frame is decoded with any of another chunk.
        """
        vae = self.pipeline.vae
        z_TCHW = latents[0].to(self.device, vae.dtype)
        for part in torch.split(z_TCHW, CHUNK):
            yield from frames_uint8(self._decode(1 / vae.config.scaling_factor * part))

    @torch.no_grad()
    def _decode(self, z_TCHW: Tensor) -> Tensor:
        """Pixels (1, 3, T, H, W) of one chunk, in float32."""
        x_TCHW: Tensor = self.pipeline.vae.decode(z_TCHW, num_frames=len(z_TCHW)).sample
        return x_TCHW.transpose(0, 1)[None].float()
