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

from engine.families.gaps import load_texts, misfits_told, refuse_gaps
from engine.families.weights import check_weights
from engine.noise import stock_noise
from engine.parallel.exchange import gather
from engine.parallel.gang import Mesh
from engine.parallel.spread import ParallelSpec, Spread
from engine.takes import BEGINNING, CLIP, ENDING, FIRST, LAST, SOURCE, STILL, WHOLE
from engine.telling import ONE_TIME, Telling

Conditioning = Mapping[str, Tensor]  # what one text is to a model, by the family's own names, and BESIDE
Frames = npt.NDArray[np.uint8]  # f_THWC


class Family(ABC):
    """One loaded diffusers pipeline, used for its parts and never called.

    A family says which pipeline class reads its folder, which schedulers it may have (by the names that a
    profile can ask for), where its transformer is cut for a gang, and how stock lays out its noise.
    """

    pipeline_class: ClassVar[Any]
    schedulers: ClassVar[Mapping[str, Any]]
    parallel: ClassVar[ParallelSpec | None]  # None where a gang cannot share one window's sequence
    channels_first: ClassVar[bool]  # whether stock's latents are BCTHW; a canvas's are BTCHW
    latents_in_float32: ClassVar[bool]  # whether stock keeps them so, whatever the weights are
    noise_in_float32: ClassVar[bool] = False  # whether stock draws them so, however it keeps them
    tiles: ClassVar[bool] = True  # whether pixels in tiles of space take less memory
    parts: ClassVar[Mapping[str, Any]] = {}  # classes of a folder's parts, where its index names none
    one_batch: ClassVar[bool]  # whether stock predicts both branches at once; unequal texts go in turn

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self.mesh: Mesh | None = None  # of the gang that predicts together; see parallelise
        self.spreads: Sequence[Spread] = ()
        self.computes_on: torch.device | None = None  # where weights come to, if they lie elsewhere
        self.adapters: OrderedDict[str, None] = OrderedDict()  # see engine.families.adapters
        self.adapted: tuple[tuple[str, float], ...] = ()
        self.first_blocks: Any = None  # see engine.families.first_block

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

        leave_out names parts not to load, such as "text_encoder" where prompts come encoded; names that are
        no part of the pipeline are passed over. With a part goes its second, such as "text_encoder_2". Raises
        OSError or ValueError, naming the file or the tensor, where weights are pickled, missing, cut short or
        of another shape.
        """
        parts = inspect.signature(cls.pipeline_class.__init__).parameters
        both = [each for name in leave_out for each in (name, f"{name}_2") if each in parts]
        absent: dict[str, Any] = dict.fromkeys(both)
        check_weights(folder, leave_out)
        with misfits_told(folder):
            pipeline = cls.pipeline_class.from_pretrained(
                str(folder),
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                **absent,
                **load_texts(folder, dtype, leave_out),
            )
        for name, part in pipeline.components.items():
            if isinstance(part, torch.nn.Module):
                refuse_gaps(folder / name, part)
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

    @classmethod
    def canvas_shape(cls, frame_shape: Sequence[int]) -> tuple[int, ...]:
        """The (C, H, W) of a latent frame on a canvas; more than a picture's where a model draws more."""
        channels, height, width = frame_shape
        return channels, height, width

    @classmethod
    def telling(cls, folder: Path) -> Telling:
        """How a folder's model knows which latents of a window are given; the weights' dtype is added."""
        return ONE_TIME

    @classmethod
    def stock_canvas(
        cls, seed: int, n_frames: int, frame_shape: Sequence[int], dtype: torch.dtype
    ) -> tuple[Tensor, torch.Generator]:
        """Noise z_BTCHW as the pipeline draws it for pictures (C, H, W), and the generator after it."""
        drawn = torch.float32 if cls.noise_in_float32 else dtype
        if not cls.channels_first:
            z_BTCHW, generator = stock_noise(seed, (1, n_frames, *frame_shape), drawn)
            return z_BTCHW.to(dtype), generator
        channels, *sides = frame_shape
        z_BCTHW, generator = stock_noise(seed, (1, channels, n_frames, *sides), drawn)
        return z_BCTHW.to(dtype).transpose(1, 2).contiguous(), generator

    @property
    def transformer(self) -> Any:
        """The only one, or the first of several."""
        return self.pipeline.transformer

    @property
    def transformers(self) -> Sequence[Any]:
        """All that are loaded."""
        return [self.transformer]

    @property
    def takes_batches(self) -> bool:
        """Whether one forward can predict several windows."""
        return True

    def tile_pixels(self, tiles: bool) -> None:
        """Decode in tiles of space, of the autoencoder's own sizes, or not; small pictures are one tile.

        Raises ValueError where that would take no less memory: every tile keeps its own past, and those of
        Wan's and HunyuanVideo 1.5's decoders together are larger than the whole picture's.
        """
        if self.tiles:
            (self.pipeline.vae.enable_tiling if tiles else self.pipeline.vae.disable_tiling)()
        elif tiles:
            raise ValueError(f"{type(self).__name__} has no tiles of space that take less memory")

    @property
    def device(self) -> torch.device:
        """Where the weights are when they are used."""
        return self.computes_on or torch.device(self.pipeline.device)

    @torch.no_grad()
    def embed(self, text: str, max_text_tokens: int) -> Conditioning:
        """One text as the transformer takes it, batch 1; texts of more tokens are cut, as in stock.

        Here tokens (1, max_text_tokens, text dim), as pipelines with one text encoder give them; those that
        say by a mask which are padding give fewer, the real ones.
        """
        if self.pipeline.text_encoder is None:
            raise ValueError("this folder was loaded without its text encoder")
        tokens, mask, *_ = self.pipeline.encode_prompt(
            text, None, False, max_sequence_length=max_text_tokens, device=self.device
        )
        return {"tokens": tokens if mask is None else tokens[:, mask[0].bool()]}

    @abstractmethod
    def forward(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Tensor:
        """One call of the transformer on latents (B, T, C, H, W), of the dtype that stock goes on with."""

    def encode(self, f_THWC: Frames) -> Tensor:
        """Latents (1, t, C, H, W) of frames that a shot is given, as a canvas holds them."""
        raise ValueError(f"{type(self).__name__} encodes no frames")

    def give(self, given: Mapping[str, Frames], n_frames: int) -> Conditioning:
        """What a canvas begins with, from what a shot is given; names on both sides are engine.takes'.

        n_frames are the canvas's pixel frames, for families that encode what is given at the shot's length.
        Here it is put in its place on the canvas. Other families may give channels BESIDE the latents, and,
        under names of their own, what is merged into every text.
        """
        made = {}
        if before := given.keys() & {FIRST, CLIP}:
            made[BEGINNING] = self.encode(given[before.pop()])
        if LAST in given:
            made[ENDING] = self.encode(np.repeat(given[LAST], STILL, axis=0))[:, -1:]
        if SOURCE in given:
            made[WHOLE] = self.encode(given[SOURCE])
        return made

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

        timestep is a canvas's, or (B, T), as Canvas.seen has it; texts have the batch of the latents. As in
        stock, a scale of at most 1 turns guidance off and the negative text is then ignored. A distilled
        model has no use for one at any scale.
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
        elif self.one_batch and all(negative[name].shape == prompt[name].shape for name in prompt):
            texts = {name: torch.cat([negative[name], prompt[name]]) for name in prompt}
            both = self.forward(torch.cat([latents] * 2), timestep, texts)
        else:
            return self.forward(latents, timestep, negative), self.forward(latents, timestep, prompt)
        uncond, text = both.chunk(2)
        return uncond, text


def fall_evenly(scheduler: Any, n_steps: int) -> Any:
    """The flow scheduler, set to n_steps from noise level 1 to 0, evenly spaced before the folder's shift."""
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, n_steps + 1)[:-1])
    return scheduler


def unit_frames(f_THWC: Frames) -> Tensor:
    """Frames as an autoencoder takes them: x_1CTHW in float32, from -1 to 1; a clip is held once."""
    return torch.from_numpy(np.array(f_THWC)).permute(3, 0, 1, 2)[None].float().div_(127.5).sub_(1)
