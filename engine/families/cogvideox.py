"""CogVideoX: load a diffusers folder and predict windows with the arithmetic of CogVideoXPipeline.

Bit equality with the stock pipeline for one window is a promise of this module, so every operation keeps the
order and the dtypes of CogVideoXPipeline.__call__.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, CogVideoXPipeline

from engine.canvas import Canvas
from engine.noise import INITIAL, StepNoise, keyed_noise, stock_noise
from engine.parallel.exchange import gather
from engine.parallel.gang import Mesh

_PICKLED = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
_SCHEDULERS: dict[str, Any] = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}


class CogVideoX:
    """One loaded CogVideoXPipeline, used for its parts and never called."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.transformer = pipeline.transformer
        self.mesh: Mesh | None = None  # of the gang that predicts together; see parallelise

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
        leave_out: Sequence[str] = (),
    ) -> CogVideoX:
        """Load a folder that CogVideoXPipeline.from_pretrained reads, from local safetensors only.

        leave_out names parts not to load, such as "text_encoder" where prompts come encoded.
        """
        refuse_pickles(folder)
        absent: dict[str, Any] = dict.fromkeys(leave_out)
        pipeline = CogVideoXPipeline.from_pretrained(
            str(folder),
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,  # its other value wants one more library
            **absent,
        )
        return cls(pipeline.to(device))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self.pipeline.device)

    @torch.no_grad()
    def embed(self, text: str, max_text_tokens: int) -> torch.Tensor:
        """One text's embedding (1, max_text_tokens, text dim); longer texts are cut, as in stock."""
        if self.pipeline.text_encoder is None:
            raise ValueError("this folder was loaded without its text encoder")
        embeds: torch.Tensor = self.pipeline.encode_prompt(
            text, None, False, max_sequence_length=max_text_tokens, device=self.device
        )[0]
        return embeds

    @torch.no_grad()
    def predict(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        prompt_embeds: torch.Tensor,
        negative_embeds: torch.Tensor | None,
        guidance_scale: float,
    ) -> torch.Tensor:
        """The float32 prediction, of the shape of a window's latents (B, T, C, H, W).

        timestep is (), embeddings are (B, tokens, text dim). As in stock, a scale of at most 1 turns
        guidance off and negative_embeds is then ignored.
        """
        if guidance_scale <= 1.0:
            return self._forward(latents, timestep, prompt_embeds)
        if negative_embeds is None:
            raise ValueError("guidance needs negative embeddings")
        uncond, text = self._branches(latents, timestep, negative_embeds, prompt_embeds)
        return uncond + guidance_scale * (text - uncond)

    def _branches(
        self, latents: torch.Tensor, timestep: torch.Tensor, negative: torch.Tensor, prompt: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predictions without and with the prompt: in one batch as in stock, or one on each cfg rank."""
        if self.mesh is None or self.mesh.cfg is None:
            both = self._forward(torch.cat([latents] * 2), timestep, torch.cat([negative, prompt]))
        else:
            mine = self._forward(latents, timestep, (negative, prompt)[self.mesh.place["cfg"]])
            both = gather(mine, 0, [len(latents)] * 2, self.mesh.cfg)
        uncond, text = both.chunk(2)
        return uncond, text

    def _forward(self, latents: torch.Tensor, timestep: torch.Tensor, embeds: torch.Tensor) -> torch.Tensor:
        """One call of the transformer on (B, T, C, H, W), B doubled under guidance; float32 as in stock."""
        latents = latents.to(self.device)
        prediction: torch.Tensor = self.transformer(
            hidden_states=latents,
            encoder_hidden_states=embeds.to(self.device),
            timestep=timestep.to(self.device).expand(latents.shape[0]),
            image_rotary_emb=self._rotary(latents),
            return_dict=False,
        )[0]
        return prediction.float()

    def _rotary(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Rotary (cos, sin), each (tokens, head dim), or None for models without.

        Counted from frame 0 in every window: the model was trained on clips that start there, and has seen
        no position beyond a clip's length.
        """
        config = self.transformer.config
        frames, height, width = latents.shape[1], latents.shape[3], latents.shape[4]
        if config.patch_size_t is not None and frames % config.patch_size_t:
            raise ValueError(f"a window of {frames} frames is not a multiple of {config.patch_size_t}")
        if not config.use_rotary_positional_embeddings:
            return None
        scale = self.pipeline.vae_scale_factor_spatial
        cos, sin = self.pipeline._prepare_rotary_positional_embeddings(
            height * scale, width * scale, frames, self.device
        )
        return cos, sin


def new_canvas(
    folder: Path,
    *,
    seed: int,
    shot: str,
    n_frames: int,
    frame_shape: Sequence[int],
    dtype: str,
    n_steps: int,
    kind: str | None = None,
    layout: str = "keyed",
) -> Canvas:
    """A canvas of noise z_BTCHW, (1, n_frames, *frame_shape), with the folder's scheduler, on the CPU.

    dtype is the name of one of torch's. layout says how noise lies on the canvas: "keyed" by (seed, shot,
    step, latent frame), in the initial noise and in that of a stochastic scheduler's steps; or "stock", drawn
    as CogVideoXPipeline draws it from a generator of `seed`, for equality with it.
    """
    scheduler, kept = load_scheduler(folder, n_steps, kind), getattr(torch, dtype)
    if layout not in ("keyed", "stock"):
        raise ValueError(f"no layout {layout!r} of noise: there are keyed and stock")
    if layout == "stock":
        z_BTCHW, generator = stock_noise(seed, (1, n_frames, *frame_shape), kept)
        return Canvas(z_BTCHW * scheduler.init_noise_sigma, scheduler, generator)
    z_BTCHW = keyed_noise(seed, shot, INITIAL, range(n_frames), frame_shape, kept)
    return Canvas(z_BTCHW * scheduler.init_noise_sigma, scheduler, StepNoise(seed, shot))


def load_scheduler(folder: Path, n_steps: int, kind: str | None = None) -> Any:
    """A folder's scheduler with its timesteps set, on the CPU, without loading the rest of the folder.

    It is of the folder's own kind, or "ddim" or "dpm". New for each shot, as it holds the state of one run.
    """
    config = CogVideoXDDIMScheduler.load_config(str(folder / "scheduler"), local_files_only=True)
    named = {cls.__name__: cls for cls in _SCHEDULERS.values()}
    if config.get("_class_name") not in named:
        # predict() leaves out scale_model_input, which is the identity for these two only
        raise TypeError(f"{config.get('_class_name')} is not a CogVideoX scheduler")
    scheduler = named[config["_class_name"]].from_config(config)
    if kind is not None:
        scheduler = _SCHEDULERS[kind].from_config(scheduler.config)
    scheduler.set_timesteps(n_steps)
    return scheduler


def refuse_pickles(folder: Path) -> None:
    """Raise if the folder is absent or holds pickled weights, which run code when they are loaded."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    found = sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in _PICKLED)
    if found:
        raise ValueError(f"pickled weights are refused: {', '.join(found)}")
