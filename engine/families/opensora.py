"""Open-Sora 2 from a text and from pictures: predict windows with the arithmetic of its published sampler.

There is no stock pipeline: a folder's parts are loaded one by one, its transformer as opensora_weights left
it. One model draws from a text alone, and from a first picture, a last one or both (i2v_head, i2v_tail,
i2v_loop): it sees their latents beside its own, with a mask. It has modes for clips, too (v2v), but its
training configuration has none of them, so none is offered.
The published guidance has three branches: blind to prompt and picture, unprompted, and prompted, as
blind + s (unprompted - blind) + scale (prompted - unprompted). Of a text alone the first two are equal, and
here are two. Scales do not change from step to step or from frame to frame here, as its options text_osci,
image_osci and scale_temporal_osci have it. Pictures are encoded to the posterior's mean, where the published
code samples it, so that a shot is drawn again alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKLHunyuanVideo, FlowMatchEulerDiscreteScheduler
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextModel, PreTrainedModel, T5EncoderModel

from engine.decode import frames_uint8
from engine.families.family import Conditioning, Family, Frames, unit_frames
from engine.families.gaps import load_whole, misfits_told, refuse_gaps
from engine.families.hunyuan_vae import stream_tiles
from engine.families.opensora_model import OpenSoraTransformer
from engine.families.weights import check_weights
from engine.parallel.spread import ParallelSpec
from engine.takes import BEGINNING, BESIDE, ENDING, FIRST, LAST
from engine.telling import Telling

_MODELS = {
    "transformer": OpenSoraTransformer,
    "vae": AutoencoderKLHunyuanVideo,
    "text_encoder": T5EncoderModel,
    "text_encoder_2": CLIPTextModel,
}
_TOKENIZERS = ("tokenizer", "tokenizer_2")
IMAGE_SCALE = 3.0  # of guidance by pictures, as its inference configurations have it


class Flow(FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
    """Euler's steps as published, in the dtype of the weights."""

    def step(
        self, model_output: Tensor, timestep: Tensor, sample: Tensor, return_dict: bool = False
    ) -> tuple[Tensor]:
        """The sample at the next of the flow's times. How far that is must be a number.

        diffusers has it as a tensor, which multiplication rounds to the other one's bfloat16.
        """
        if self.step_index is None:
            self._init_step_index(timestep)
        now, after = self.sigmas[self.step_index : self.step_index + 2].tolist()
        self._step_index += 1
        return (sample + (after - now) * model_output,)


class OpenSora(Family):
    """Open-Sora 2. Where it was distilled from guidance, the scale is told and there are no branches."""

    pipeline_class = SimpleNamespace  # of the parts
    parts: ClassVar = _MODELS | dict.fromkeys(_TOKENIZERS, AutoTokenizer)
    schedulers: ClassVar = {"euler": FlowMatchEulerDiscreteScheduler}
    parallel = ParallelSpec(
        blocks=("transformer_blocks", "single_transformer_blocks"),
        attention="attn",
        streams=("hidden_states", "encoder_hidden_states"),
        rotary="rope",
        rotary_dim=0,
    )
    channels_first = True
    latents_in_float32 = False
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
        """Load a folder's parts from local safetensors only; with a part that is left out goes its second."""
        check_weights(folder, leave_out)
        parts: dict[str, Any] = dict.fromkeys([*_MODELS, *_TOKENIZERS])
        for name in parts:
            if name.removesuffix("_2") in leave_out:
                continue
            if name in _TOKENIZERS:
                parts[name] = AutoTokenizer.from_pretrained(str(folder / name), local_files_only=True)
                continue
            parts[name] = _load_part(_MODELS[name], folder / name, dtype).to(device).eval()
        return cls(SimpleNamespace(**parts, device=device))

    @classmethod
    def with_timesteps(cls, scheduler: Any, n_steps: int, window_shape: Sequence[int]) -> Any:
        """Euler's steps from 1 to 0, shifted towards 1: by the folder's shift, or by how large a window is.

        A folder that has use_dynamic_shifting says in base and max_shift what one frame of base and of
        max_image_seq_len tokens is shifted by; between and beyond lies a line. T latent frames are shifted by
        the square root of T times that. Tokens are 2 x 2 latents. Timesteps are the flow's own, of [0, 1].
        """
        shift = scheduler.config.shift
        if scheduler.config.use_dynamic_shifting:
            shift = _shift(scheduler.config, window_shape)
        flow = Flow(num_train_timesteps=1, shift=shift)
        flow.set_timesteps(sigmas=torch.linspace(1, 0, n_steps + 1)[:-1].tolist())
        return flow

    @classmethod
    def telling(cls, folder: Path) -> Telling:
        """What is given is seen beside."""
        return Telling(beside=True)

    @torch.no_grad()
    def embed(self, text: str, max_text_tokens: int) -> Conditioning:
        """One text as tokens (1, max_text_tokens, text dim) and one vector (1, pooled dim); longer is cut.

        As published, nothing masks the padding of either encoder: its tokens are tokens to the transformer.
        """
        parts = self.pipeline
        if parts.text_encoder is None:
            raise ValueError("this folder was loaded without its text encoder")
        ids = self._ids(parts.tokenizer, text, max_text_tokens)
        ids_2 = self._ids(parts.tokenizer_2, text, parts.tokenizer_2.model_max_length)
        return {
            "tokens": parts.text_encoder(ids).last_hidden_state,
            "pooled": parts.text_encoder_2(ids_2).pooler_output,
        }

    def _ids(self, tokenizer: Any, text: str, length: int) -> Tensor:
        """Numbers of tokens (1, length)."""
        encoded = tokenizer(
            text, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        ids: Tensor = encoded.input_ids.to(self.device)
        return ids

    def told_guidance(self, batch: int, guidance_scale: float) -> Tensor | None:
        """The scale, where the folder has guidance_embed."""
        return torch.full((batch,), guidance_scale) if self.transformer.config.guidance_embed else None

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
        """As any family; a window that sees a picture is guided by that, too, with a branch more."""
        sees = BESIDE in prompt and bool(prompt[BESIDE].any())
        told = self.transformer.config.guidance_embed
        if negative is None or guidance_scale <= 1.0 or told or not sees:
            return super().predict(latents, timestep, prompt, negative, guidance_scale, prompted=prompted)
        unprompted, full = self._branches(latents, timestep, negative, prompt)
        unseen = {name: x for name, x in negative.items() if name != BESIDE}
        blind = self.forward(latents, timestep, unseen)
        guided = blind + IMAGE_SCALE * (unprompted - blind) + guidance_scale * (full - unprompted)
        return torch.cat([guided, full]) if prompted else guided

    def forward(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Tensor:
        """One call of the transformer on (B, T, C, H, W), B doubled under guidance, in the weights' dtype."""
        model = self.transformer
        told = {name: x.to(self.device, model.dtype) for name, x in text.items()}
        x_BCTHW = latents.to(self.device, model.dtype).transpose(1, 2)
        velocity_BCTHW: Tensor = model(
            hidden_states=x_BCTHW,
            timestep=timestep.to(self.device, model.dtype).expand(len(x_BCTHW)),
            encoder_hidden_states=told["tokens"],
            pooled_projections=told["pooled"],
            condition=told[BESIDE].transpose(1, 2) if BESIDE in told else None,
            guidance=told.get("guidance"),
        )
        return velocity_BCTHW.transpose(1, 2).contiguous()

    @torch.no_grad()
    def encode(self, f_THWC: Frames) -> Tensor:
        """Latents (1, t, C, H, W) of 4 t - 3 frames: the posterior's means."""
        vae = self.pipeline.vae
        z_1CTHW = vae.encode(unit_frames(f_THWC).to(self.device, vae.dtype)).latent_dist.mode()
        scaled: Tensor = z_1CTHW * vae.config.scaling_factor
        return scaled.transpose(1, 2).contiguous()

    def give(self, given: Mapping[str, Frames], n_frames: int) -> Conditioning:
        """The latent of each picture, encoded by itself."""
        places = {FIRST: BEGINNING, LAST: ENDING}
        return {place: self.encode(given[role]) for role, place in places.items() if role in given}

    def frames(self, latents: Tensor) -> Iterator[npt.NDArray[np.uint8]]:
        """The pixel frames (H, W, 3) of one shot's latents (1, T, C, H, W), as a canvas left them."""
        vae = self.pipeline.vae
        z_BCTHW = latents.to(self.device, vae.dtype).transpose(1, 2)
        for chunk in stream_tiles(vae, z_BCTHW / vae.config.scaling_factor):
            yield from frames_uint8(chunk)


def _load_part(model: Any, folder: Path, dtype: torch.dtype) -> Any:
    """One part with all its weights, by the library that its class is of."""
    if issubclass(model, PreTrainedModel):
        return load_whole(model, folder, dtype)
    with misfits_told(folder):
        part = model.from_pretrained(str(folder), dtype=dtype, use_safetensors=True, local_files_only=True)
    refuse_gaps(folder, part)
    return part


def _shift(config: Any, window_shape: Sequence[int]) -> float:
    """The shift of windows (T, C, H, W)."""
    if not window_shape:
        raise ValueError("this folder's steps depend on the size of a window, which is not given")
    frames, _, rows, columns = window_shape
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    at_zero = config.base_shift - slope * config.base_image_seq_len
    of_frame: float = slope * (rows * columns // 4) + at_zero
    return of_frame * math.sqrt(frames)
