"""What a profile says of how films are drawn: model, sampling, windows, picture, quality, limits, adapters.

Typed defaults in frozen dataclasses; rules that join several fields sit in the smallest class that sees them.
"""

import math
from dataclasses import dataclass, field
from fractions import Fraction

from engine.cache import CACHES, INTERVAL, REFUSED, THRESHOLD
from engine.guidance import SCHEDULES
from engine.phases import MODES, NOISES

PRESETS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
)  # x264's
DTYPES = ("auto", "float32", "bfloat16", "float16")
OFFLOADS = ("", "memory", "disk")
QUANTISED = ("", "int8", "float8")

AUDIO_HZ = 48_000  # of a film's voice; frames and samples are counted by one clock
LARGEST_CLOCK = 2**31 - 1  # ticks a second that an MP4 file can hold


class SpecError(Exception):
    """A configuration that cannot be used; the message says which key, and why."""


@dataclass(frozen=True)
class ModelSpec:
    """A diffusers folder: the same path on every node, a URL or a hub id; "chalk" is the embedded model.

    A URL (s3://, file://, and gs:// or others whose fsspec package is installed) and a hub id (org/name, or
    org/name@revision) are mirrored once to every node, below cluster.cache; a hub id is recorded with the
    commit that it was found at.
    dtype=auto is bfloat16 where cluster.device computes on GPUs, float32 on CPUs. Two ways for weights that
    do not fit a GPU, neither of which changes a bit: zero shares the transformer's weights out over the ranks
    of a gang (DeepSpeed's ZeRO-3); offload keeps them in main memory ("memory") or in files ("disk") and
    brings them to the GPU layer by layer. Two that change pictures a little: quantise keeps the transformer's
    linear layers in 8 bits, "int8" anywhere or "float8" on GPUs that multiply it; compile has torch.compile
    build its kernels when a window's shape is first met, so that later steps are faster. tiles decodes
    pixels in overlapping tiles of space, blended where they meet: less memory, slightly other pixels.
    """

    folder: str = "chalk"
    dtype: str = "float32"
    zero: bool = False
    offload: str = ""
    quantise: str = ""
    compile: bool = False
    tiles: bool = False

    def __post_init__(self) -> None:
        if self.offload not in OFFLOADS:
            raise SpecError(f"model.offload={self.offload!r} must be memory, disk or empty")
        if self.zero and self.offload:
            raise SpecError(f"model.zero=true and model.offload={self.offload!r} exclude each other: use one")
        if self.dtype not in DTYPES:
            raise SpecError(f"model.dtype={self.dtype!r} must be one of {', '.join(DTYPES)}")
        self._check_kernels()

    def _check_kernels(self) -> None:
        """Refuse 8 bits and compiled kernels where they do not go together with the rest."""
        if self.quantise not in QUANTISED:
            raise SpecError(f"model.quantise={self.quantise!r} must be int8, float8 or empty")
        chosen = f"model.quantise={self.quantise}" if self.quantise else "model.compile=true"
        kept = "model.zero=true" if self.zero else f"model.offload={self.offload}"
        if (self.quantise or self.compile) and (self.zero or self.offload):
            raise SpecError(
                f"{chosen} and {kept} exclude each other, as it is for weights that stay whole: use one"
            )
        if self.quantise == "int8" and self.dtype == "float16":
            raise SpecError(
                "model.quantise=int8 sums products before it scales them, which model.dtype=float16 cannot "
                "hold: set model.dtype=bfloat16"
            )
        if self.quantise == "float8" and self.dtype not in ("auto", "bfloat16"):
            raise SpecError(f"model.quantise=float8 goes with model.dtype=bfloat16, not {self.dtype}")


@dataclass(frozen=True)
class SamplingSpec:
    """How long and how strictly a shot is denoised; 0 and "" are the model's own (engine.families.card).

    A guidance_scale of 1 is none. How guidance changes from step to step is as in engine.guidance.
    cache=taylorseer predicts one of cache_interval steps and carries the others on from those before, which
    is faster and changes pictures a little (README, "Limits"); an interval of 0 is 2. cache=first_block runs
    a model's first block at every step, and all others where that changes its input by more than a share of
    cache_threshold otherwise than when they last ran; a threshold of 0 is 0.05.
    """

    n_steps: int = 0
    guidance_scale: float = 0.0
    scheduler: str = ""
    guidance_schedule: str = "constant"
    guidance_start: float = 0.0
    guidance_stop: float = 1.0
    guidance_rescale: float = 0.0
    cache: str = "none"
    cache_interval: int = 0
    cache_threshold: float = 0.0

    def __post_init__(self) -> None:
        self._check_cache()
        if not 0 <= self.n_steps <= 1000:
            raise SpecError(
                f"sampling.n_steps={self.n_steps} must lie in 1 to 1000, or be 0 for the model's own"
            )
        if not 0 <= self.guidance_scale < math.inf:
            raise SpecError(
                f"sampling.guidance_scale={self.guidance_scale} must be 0, for the model's own, or above, "
                "and finite"
            )
        if self.guidance_schedule not in SCHEDULES:
            raise SpecError(
                f"sampling.guidance_schedule={self.guidance_schedule!r} must be one of {', '.join(SCHEDULES)}"
            )
        if not 0 <= self.guidance_start < self.guidance_stop <= 1:
            raise SpecError(
                f"sampling.guidance_start={self.guidance_start}, sampling.guidance_stop={self.guidance_stop} "
                "must be shares of the steps, from 0 to 1, the first below the second"
            )
        if not 0 <= self.guidance_rescale <= 1:
            raise SpecError(f"sampling.guidance_rescale={self.guidance_rescale} must lie in 0 to 1")

    def _check_cache(self) -> None:
        """Refuse a step cache that there is not, or what it cannot go together with."""
        if self.cache in REFUSED:
            raise SpecError(
                f"sampling.cache={self.cache} {REFUSED[self.cache]}, and windows change ranks at every step: "
                "use taylorseer, first_block, or none"
            )
        if self.cache not in CACHES:
            raise SpecError(f"sampling.cache={self.cache!r} must be one of {', '.join(CACHES)}")
        self._check_cache_numbers()
        if self.cache != "none":
            self._check_cached_guidance()

    def _check_cache_numbers(self) -> None:
        """Refuse numbers of another cache, or out of bounds."""
        if self.cache_interval and self.cache != "taylorseer":
            raise SpecError(
                f"sampling.cache_interval={self.cache_interval} steps, but sampling.cache={self.cache} skips "
                "none: set it to taylorseer"
            )
        if self.cache_threshold and self.cache != "first_block":
            raise SpecError(
                f"sampling.cache_threshold={self.cache_threshold}, but sampling.cache={self.cache} has none: "
                "set it to first_block"
            )
        if self.cache_interval not in (0, *range(2, 11)):
            raise SpecError(
                f"sampling.cache_interval={self.cache_interval} steps must lie in 2 to 10, or be 0 "
                f"for {INTERVAL}"
            )
        if not 0 <= self.cache_threshold <= 1:
            raise SpecError(
                f"sampling.cache_threshold={self.cache_threshold} is a share of what a first block changes: "
                f"it must lie in 0 to 1, and 0 is {THRESHOLD}"
            )

    def _check_cached_guidance(self) -> None:
        """Refuse guidance that changes between the steps that a cache has stand for each other."""
        if self.guidance_rescale or self.guidance_schedule != "constant":
            raise SpecError(
                f"sampling.cache={self.cache} carries predictions on as if guidance were the same at every "
                f"step: leave guidance_schedule={self.guidance_schedule} at constant and "
                f"guidance_rescale={self.guidance_rescale} at 0, or set sampling.cache=none"
            )
        if (self.guidance_start, self.guidance_stop) != (0, 1):
            raise SpecError(
                f"sampling.cache={self.cache} carries predictions on over the steps at which guidance begins "
                f"and ends (guidance_start={self.guidance_start}, guidance_stop={self.guidance_stop}): leave "
                "these at 0 and 1, or set sampling.cache=none"
            )


@dataclass(frozen=True)
class WindowSpec:
    """Windows in latent frames, and how they become a shot; a size of 0 takes the model's trained length.

    mode is one of engine.phases, or auto for the one that suits each shot (README, "How it works"). In
    extend, windows share no more than the model was taught to go on from. noise=freenoise begins blended
    shots of one prompt from the first window's noise, shuffled. sigma is the share of noise at which windows
    take over from a draft: more lets them draw more anew, less keeps more of the draft.
    gangs > 1 widens overlaps until a shot's windows are a multiple of it, where that takes no longer: for a
    film that has so many gangs to itself, never for a night of many films, whose windows fill every gang
    anyway. It is no cluster.gangs: the layout is part of a shot, and should outlive tonight's cluster.
    """

    size: int = 0
    overlap: int = 4
    lead_in: int = 1
    mode: str = "auto"
    noise: str = "keyed"
    sigma: float = 0.6
    gangs: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("auto", *MODES):
            raise SpecError(f"window.mode={self.mode!r} must be one of auto, {', '.join(MODES)}")
        if self.noise not in NOISES:
            raise SpecError(f"window.noise={self.noise!r} must be one of {', '.join(NOISES)}")
        if self.noise != "keyed" and self.mode in ("skeleton", "extend"):
            raise SpecError(
                f"window.noise={self.noise} is for blended shots, and window.mode={self.mode} blends none"
            )
        if not 0 < self.sigma < 1:
            raise SpecError(f"window.sigma={self.sigma} must lie between 0 and 1")
        if self.gangs < 0:
            raise SpecError(f"window.gangs={self.gangs} must not be negative; 0 leaves overlaps as they are")
        if self.lead_in < 0 or self.overlap < max(2 * self.lead_in, 1):
            raise SpecError(
                f"window.overlap={self.overlap} latent frames must be at least 1 and at least twice "
                f"window.lead_in={self.lead_in}"
            )
        if self.size and self.size <= self.overlap:
            raise SpecError(f"window.size={self.size} must exceed window.overlap={self.overlap}")


@dataclass(frozen=True)
class PictureSpec:
    """The film's size and rate where a row names none. The model draws at 1/upscale of that size.

    0 is the model's own: of both sides, of the rate, of the upscale.
    """

    width_px: int = 0
    height_px: int = 0
    upscale: int = 0
    fps_num: int = 0
    fps_den: int = 1
    crf: int = 18
    preset: str = "medium"

    def __post_init__(self) -> None:
        if bool(self.width_px) != bool(self.height_px):
            raise SpecError(
                f"picture.width_px={self.width_px}, picture.height_px={self.height_px}: give both, or "
                "neither for the model's own"
            )
        if self.fps_num < 0 or self.fps_den < 1:
            raise SpecError(f"picture.fps_num={self.fps_num}, picture.fps_den={self.fps_den} must be above 0")
        if max(math.lcm(self.fps.numerator, AUDIO_HZ), self.fps.denominator) > LARGEST_CLOCK:
            raise SpecError(
                f"picture.fps_num={self.fps_num}, picture.fps_den={self.fps_den}: MP4 cannot count such "
                f"frames; use a rate such as 24/1 or 24000/1001"
            )
        if not 0 <= self.upscale <= 8:
            raise SpecError(f"picture.upscale={self.upscale} must lie in 1 to 8, or be 0 for the model's own")
        if not 0 <= self.crf <= 51:
            raise SpecError(f"picture.crf={self.crf} must lie in 0 to 51")
        if self.preset not in PRESETS:
            raise SpecError(f"picture.preset={self.preset!r} must be one of {', '.join(PRESETS)}")

    @property
    def fps(self) -> Fraction:
        """Frames a second."""
        return Fraction(self.fps_num, self.fps_den)


@dataclass(frozen=True)
class QualitySpec:
    """What becomes of a shot that is not steady.

    max_drift is in dE a minute (CIE76): a shot of several windows whose mean colour drifts faster is held to
    its beginning, unless it is meant to change (engine.changes). 0 leaves every shot as it is drawn.
    """

    max_drift: float = 3.0

    def __post_init__(self) -> None:
        if not 0 <= self.max_drift < math.inf:
            raise SpecError(
                f"quality.max_drift={self.max_drift} dE a minute must not be negative; 0 leaves shots as "
                "they are drawn"
            )


@dataclass(frozen=True)
class LimitSpec:
    """What a row may ask for."""

    max_width_px: int = 1920
    max_height_px: int = 1920
    max_fps: float = 120.0
    max_shot_s: float = 60.0
    max_film_s: float = 3600.0
    max_prompt_chars: int = 2000

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < math.inf:
                raise SpecError(f"limits.{name}={value} must be above 0 and finite")


@dataclass(frozen=True)
class AdapterSpec:
    """A LoRA adapter that rows may name: a .safetensors file below one of the roots."""

    path: str = ""
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise SpecError(f"adapters.NAME.scale={self.scale} must be finite")


@dataclass(frozen=True)
class Profile:
    """One way to render, named by a row's `profile`."""

    model: ModelSpec = field(default_factory=ModelSpec)
    sampling: SamplingSpec = field(default_factory=SamplingSpec)
    window: WindowSpec = field(default_factory=WindowSpec)
    picture: PictureSpec = field(default_factory=PictureSpec)
    quality: QualitySpec = field(default_factory=QualitySpec)
    limits: LimitSpec = field(default_factory=LimitSpec)
    adapters: dict[str, AdapterSpec] = field(default_factory=dict)
