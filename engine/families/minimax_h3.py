"""MiniMax-H3, text to video: predict windows with the arithmetic of its blocks in diffusers.

The model draws a soundtrack beside the pictures and attends to both at once. So a canvas holds both, and the
sound is let go when pictures are decoded: films have voices and music of their own (engine.families.h3_sound
has how it lies there). It was distilled from guidance: no scale is told and no text is negative.
Latent frames are uneven in time: of every five, the first stands for one pixel frame and the others for four,
and five are no whole number of the sound's latents. A window is therefore as a clip that begins the shot only
where it begins at a multiple of 15 latent frames (51 pixel frames, 85 latents of sound).
Bit equality with stock for one window is a promise of this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKLMiniMaxH3, MiniMaxH3Scheduler, MiniMaxH3Transformer3DModel
from diffusers.modular_pipelines.minimax_h3 import before_denoise, encoders
from diffusers.modular_pipelines.minimax_h3.modular_pipeline import (
    MINIMAX_H3_AUDIO_CHANNELS,
    MINIMAX_H3_AUDIO_TAG,
    MINIMAX_H3_TEXT_TAG,
    MINIMAX_H3_VIDEO_TAG,
)
from torch import Tensor
from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration

from engine.decode import unit_uint8
from engine.families.family import Conditioning, Family
from engine.families.h3_sound import WIDTH, Clocks, add_sound, n_sound, sound_rows, split_sound
from engine.families.h3_vae import stream_clips
from engine.families.weights import check_weights
from engine.noise import stock_noise
from engine.parallel.spread import ParallelSpec

_MODELS: Mapping[str, Any] = {
    "transformer": MiniMaxH3Transformer3DModel,
    "vae": AutoencoderKLMiniMaxH3,
    "text_encoder": Qwen3VLForConditionalGeneration,
}
_LAYER = 50  # of the text encoder, whose hidden states are the tokens; its last is not what the model knows
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, which its pixels are scaled by
_NO_PICTURES = SimpleNamespace(create_mm_token_type_ids=lambda ids: [[0] * len(each) for each in ids])


class MiniMaxH3(Family):
    """MiniMax-H3's transformer for text and keyframes, given text alone."""

    pipeline_class = SimpleNamespace  # of the parts
    parts: ClassVar = {**_MODELS, "tokenizer": AutoTokenizer}
    schedulers: ClassVar = {"euler": MiniMaxH3Scheduler}
    parallel = ParallelSpec(
        blocks=("transformer_blocks",),
        attention="attn",
        streams=("hidden_states",),
        rotary="rope",
        rotary_dim=0,
        numbered={"transformer_blocks": "adaln_indices", "norm_out": "timestep_indices"},
        last=("proj_out", "audio_proj_out"),
    )
    channels_first = True
    latents_in_float32 = True
    tiles = False
    one_batch = False

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
        leave_out: Sequence[str] = (),
    ) -> Self:
        """Load a folder's parts from local safetensors only; what its models keep in float32 stays so."""
        check_weights(folder, leave_out)
        parts: dict[str, Any] = dict.fromkeys([*_MODELS, "tokenizer"])
        for name in set(_MODELS) - set(leave_out):
            part = _MODELS[name].from_pretrained(
                str(folder / name), dtype=dtype, use_safetensors=True, local_files_only=True
            )
            parts[name] = part.to(device).eval()
        if "tokenizer" not in leave_out:
            parts["tokenizer"] = AutoTokenizer.from_pretrained(
                str(folder / "tokenizer"), local_files_only=True
            )
        return cls(SimpleNamespace(**parts, device=device))

    @classmethod
    def load_scheduler(
        cls, folder: Path, n_steps: int, kind: str | None = None, window_shape: Sequence[int] = ()
    ) -> Any:
        """The steps of the pictures, and beside them those of the sound, which are others."""
        pictures = super().load_scheduler(folder, n_steps, kind, window_shape)
        sound = MiniMaxH3Scheduler.from_pretrained(str(folder / "audio_scheduler"), local_files_only=True)
        return Clocks(pictures, cls.with_timesteps(sound, n_steps, window_shape))

    @classmethod
    def with_timesteps(cls, scheduler: Any, n_steps: int, window_shape: Sequence[int]) -> Any:
        """A prediction for each of n_steps; stock counts the end of the last one too."""
        scheduler.set_timesteps(n_steps + 1)
        return scheduler

    @classmethod
    def canvas_shape(cls, frame_shape: Sequence[int]) -> tuple[int, ...]:
        """With rows for the sound below those of the pictures."""
        channels, height, width = frame_shape
        return channels, height + sound_rows(channels, width), width

    @classmethod
    def stock_canvas(
        cls, seed: int, n_frames: int, frame_shape: Sequence[int], dtype: torch.dtype
    ) -> tuple[Tensor, torch.Generator]:
        """The pictures' noise first, and then the sound's, of one generator."""
        channels, *sides = frame_shape
        z_BCTHW, generator = stock_noise(seed, (1, channels, n_frames, *sides), dtype)
        sound_BnD = torch.randn((1, 2 * n_sound(n_frames), WIDTH), generator=generator, dtype=dtype)
        return add_sound(z_BCTHW.transpose(1, 2), sound_BnD), generator

    @torch.no_grad()
    def embed(self, text: str, max_text_tokens: int) -> Conditioning:
        """One text as its tokens (1, n, text dim), n <= max_text_tokens, as it is: no template, no end."""
        encoder = self.pipeline.text_encoder
        if encoder is None:
            raise ValueError("this folder was loaded without its text encoder")
        ids = self.pipeline.tokenizer(text, add_special_tokens=False)["input_ids"][:max_text_tokens]
        if not ids:  # as negative texts often are, which the model has no use for
            width = encoder.config.text_config.hidden_size
            return {"tokens": torch.zeros(1, 0, width, dtype=encoder.dtype)}
        tokens = encoders.get_qwen3vl_prompt_embeds(
            encoder, _NO_PICTURES, ids, {}, _LAYER, self.device, encoder.dtype
        )
        return {"tokens": tokens}

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
        """The prediction for pictures and sound, of the shape of a window's latents, without guidance."""
        return self.forward(latents, timestep, prompt)

    def forward(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Tensor:
        """One call of the transformer on latents (B, T, C, H + R, W), at timesteps (2,); float32 as in stock.

        R are the rows of the sound, and the timesteps those of pictures and of sound.
        """
        z_BTCHW, sound_BnD = split_sound(latents.to(self.device))
        batch, frames, channels, height, width = z_BTCHW.shape
        patch = tuple(self.transformer.config.patch_size)
        rows = before_denoise.patchify_video_latents(z_BTCHW.transpose(1, 2), patch)
        layout = self._layout((frames, height, width), patch, text["tokens"].shape[1], timestep)
        pictures_BnD, heard_BnD = self.transformer(
            hidden_states=rows.view(batch, -1, rows.shape[-1]),
            audio_hidden_states=sound_BnD,
            encoder_hidden_states=text["tokens"].to(self.device),
            return_dict=False,
            **layout,
        )
        tall, wide = height // patch[1], width // patch[2]
        v = pictures_BnD.float().view(batch, frames, tall, wide, channels, *patch[1:])
        velocity = v.permute(0, 1, 4, 2, 5, 3, 6).reshape(z_BTCHW.shape)
        return add_sound(velocity, heard_BnD.float())

    def _layout(
        self, sides: tuple[int, int, int], patch: tuple[int, ...], n_text: int, timestep: Tensor
    ) -> dict[str, Tensor]:
        """Where every token of text, sound and pictures lies, and its timestep, as stock lays them out."""
        tags = torch.full((n_text,), MINIMAX_H3_TEXT_TAG)
        lay_out = before_denoise.MiniMaxH3PrepareLayoutStep.build_packed_sequence
        places, tags, video, audio, words, *_ = lay_out(
            tags, *sides, n_sound(sides[0]), patch, MINIMAX_H3_AUDIO_CHANNELS,
            MINIMAX_H3_AUDIO_TAG, MINIMAX_H3_VIDEO_TAG,
        )  # fmt: skip
        at = [float(each) for each in timestep]
        times, of_tokens = before_denoise.MiniMaxH3SetTimestepsStep.build_row_timesteps(
            video, audio, 0, 0, n_text, *at, *at
        )
        layout = {
            "timestep": times, "timestep_indices": of_tokens, "token_tags": tags, "position_ids": places,
            "video_indices": video, "audio_indices": audio, "text_indices": words,
        }  # fmt: skip
        return {name: x.to(self.device) for name, x in layout.items()}

    @torch.no_grad()
    def frames(self, latents: Tensor) -> Iterator[npt.NDArray[np.uint8]]:
        """The pixel frames (H, W, 3) of one shot's latents (1, T, C, H + R, W), as a canvas left them."""
        vae = self.pipeline.vae
        z_BCTHW = split_sound(latents.to(self.device))[0].transpose(1, 2)
        mean, std = (self._by_channel(x) for x in (vae.config.latents_mean, vae.config.latents_std))
        light, spread = self._by_channel(_MEAN), self._by_channel(_SPREAD)
        for clip in stream_clips(vae, z_BCTHW, mean, std):
            yield from unit_uint8((clip.float() * spread + light).clamp(0, 1))

    def _by_channel(self, values: Sequence[float]) -> Tensor:
        """Numbers of channels, (1, C, 1, 1, 1)."""
        return torch.tensor(values, device=self.device).view(1, -1, 1, 1, 1)
