"""What every model family shares: loading a diffusers folder, guidance in two branches, a canvas's scheduler.

Dims: B batch, T latent frames, C channels, H and W rows and columns of a window's latents.
Decides: how parts are loaded and branches of guidance combined. Does not decide: what a forward of the
transformer or the autoencoder is (each family's own file).
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.parallel.exchange import gather
from engine.parallel.gang import Mesh
from engine.parallel.spread import ParallelSpec, Spread

Conditioning = Mapping[str, Tensor]  # what one text is to a model, by the family's own names
_PICKLED = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}


class Family(ABC):
    """One loaded diffusers pipeline, used for its parts and never called.

    A family says which pipeline class reads its folder, which schedulers it may have (by the names that a
    profile can ask for), where its transformer is cut for a gang, and how stock lays out its noise.
    """

    pipeline_class: ClassVar[Any]
    schedulers: ClassVar[Mapping[str, Any]]
    parallel: ClassVar[ParallelSpec]
    channels_first: ClassVar[bool]  # whether stock's latents are BCTHW; a canvas's are BTCHW
    latents_in_float32: ClassVar[bool]  # whether stock keeps them so, whatever the weights are
    one_batch: ClassVar[bool]  # whether stock predicts both branches of guidance in one forward

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.mesh: Mesh | None = None  # of the gang that predicts together; see parallelise
        self.spreads: Sequence[Spread] = ()
        self.adapters: OrderedDict[str, None] = OrderedDict()  # see engine.families.adapters
        self.adapted: tuple[tuple[str, float], ...] = ()

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
        leave_out: Sequence[str] = (),
    ) -> Self:
        """Load a folder that the pipeline's from_pretrained reads, from local safetensors only.

        leave_out names parts not to load, such as "text_encoder" where prompts come encoded. With a part that
        is left out goes its second, such as "text_encoder_2".
        """
        refuse_pickles(folder)
        parts = inspect.signature(cls.pipeline_class.__init__).parameters
        seconds = [f"{name}_2" for name in leave_out if f"{name}_2" in parts]
        absent: dict[str, Any] = dict.fromkeys([*leave_out, *seconds])
        pipeline = cls.pipeline_class.from_pretrained(
            str(folder),
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            **absent,
        )
        return cls(pipeline.to(device))

    @classmethod
    def load_scheduler(
        cls, folder: Path, n_steps: int, kind: str | None = None, window_shape: Sequence[int] = ()
    ) -> Any:
        """A folder's scheduler with its timesteps set, on the CPU, without loading the rest of the folder.

        It is of the folder's own kind, or of a kind in `schedulers`. New for each shot, as it holds the state
        of one run. window_shape, (T, C, H, W), is for families whose steps depend on the size of a window.
        Raises TypeError where the folder's is of none of these kinds.
        """
        some = next(iter(cls.schedulers.values()))
        config = some.load_config(str(folder / "scheduler"), local_files_only=True)
        named = {each.__name__: each for each in cls.schedulers.values()}
        if config.get("_class_name") not in named:
            # a step leaves out scale_model_input, which is the identity for these only
            raise TypeError(f"{config.get('_class_name')} is none of {', '.join(named)}")
        scheduler = named[config["_class_name"]].from_config(config)
        if kind is not None:
            scheduler = cls.scheduler_of_kind(kind, scheduler.config)
        return cls.with_timesteps(scheduler, n_steps, window_shape)

    @classmethod
    def with_timesteps(cls, scheduler: Any, n_steps: int, window_shape: Sequence[int]) -> Any:
        """The scheduler, or another of its kind, set to its timesteps for windows of this shape."""
        scheduler.set_timesteps(n_steps)
        return scheduler

    @classmethod
    def scheduler_of_kind(cls, kind: str, config: Any) -> Any:
        """A scheduler of a kind in `schedulers` with what the configuration of another kind says."""
        return cls.schedulers[kind].from_config(config)

    @property
    def transformer(self) -> Any:
        """The only one, or the first of several."""
        return self.pipeline.transformer

    @property
    def transformers(self) -> Sequence[Any]:
        """All that are loaded."""
        return [self.transformer]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self.pipeline.device)

    @torch.no_grad()
    def embed(self, text: str, max_text_tokens: int) -> Conditioning:
        """One text as the transformer takes it, batch 1; texts of more tokens are cut, as in stock.

        Here tokens (1, max_text_tokens, text dim), as pipelines with one text encoder give them.
        """
        if self.pipeline.text_encoder is None:
            raise ValueError("this folder was loaded without its text encoder")
        tokens = self.pipeline.encode_prompt(
            text, None, False, max_sequence_length=max_text_tokens, device=self.device
        )[0]
        return {"tokens": tokens}

    @abstractmethod
    def forward(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Tensor:
        """One call of the transformer on latents (B, T, C, H, W), of the dtype that stock goes on with."""

    def encode(self, f_THWC: npt.NDArray[np.uint8]) -> Tensor:
        """Latents (1, t, C, H, W) of frames that a shot is given, for a canvas to hold."""
        raise ValueError(f"{type(self).__name__} goes on from no given frames")

    @abstractmethod
    def frames(self, latents: Tensor) -> Iterator[npt.NDArray[np.uint8]]:
        """The pixel frames (H, W, 3) of one shot's latents (1, T, C, H, W), as a canvas left them."""

    def told_guidance(self, batch: int, guidance_scale: float) -> Tensor | None:
        """What a model distilled from guidance is told of the scale, (batch,); None for any other."""
        return None

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
        """The prediction, of the shape of a window's latents (B, T, C, H, W).

        With `prompted`, a guided one is followed by that of the prompt alone, (2 B, T, C, H, W).

        timestep is (), texts have the batch of the latents. As in stock, a scale of at most 1 turns guidance
        off and the negative text is then ignored. A distilled model has no use for one at any scale.
        """
        told = self.told_guidance(len(latents), guidance_scale)
        if told is not None:
            return self.forward(latents, timestep, {**prompt, "guidance": told})
        if guidance_scale <= 1.0:
            return self.forward(latents, timestep, prompt)
        if negative is None:
            raise ValueError("guidance needs a negative text, be it empty")
        uncond, text = self._branches(latents, timestep, negative, prompt)
        guided = uncond + guidance_scale * (text - uncond)
        return torch.cat([guided, text]) if prompted else guided

    def _branches(
        self, latents: Tensor, timestep: Tensor, negative: Conditioning, prompt: Conditioning
    ) -> tuple[Tensor, Tensor]:
        """Predictions without and with the prompt: one on each cfg rank, in one batch, or in turn."""
        if self.mesh is not None and self.mesh.cfg is not None:
            mine = self.forward(latents, timestep, (negative, prompt)[self.mesh.place["cfg"]])
            both = gather(mine, 0, [len(latents)] * 2, self.mesh.cfg)
        elif self.one_batch:
            texts = {name: torch.cat([negative[name], prompt[name]]) for name in prompt}
            both = self.forward(torch.cat([latents] * 2), timestep, texts)
        else:
            return self.forward(latents, timestep, negative), self.forward(latents, timestep, prompt)
        uncond, text = both.chunk(2)
        return uncond, text


def refuse_pickles(folder: Path) -> None:
    """Raise if the folder is absent or holds pickled weights, which run code when they are loaded."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder")
    found = sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in _PICKLED)
    if found:
        raise ValueError(f"pickled weights are refused: {', '.join(found)}")
