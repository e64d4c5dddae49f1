"""What a job is told: typed defaults, then a YAML file, then `key.sub=value`. Alone in knowing OmegaConf.

The result is frozen; cross-field rules sit in the smallest dataclass that sees both fields.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from engine.cache import CACHES, INTERVAL, REFUSED
from engine.guidance import SCHEDULES
from engine.parallel.axes import DEEPSPEED, EXCHANGES
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
    build its kernels when a window's shape is first met, so that later steps are faster.
    """

    folder: str = "chalk"
    dtype: str = "float32"
    zero: bool = False
    offload: str = ""
    quantise: str = ""
    compile: bool = False

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
    is faster and changes pictures a little (README, "Limits"); an interval of 0 is 2.
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

    def __post_init__(self) -> None:
        self._check_cache()
        if not 0 <= self.n_steps <= 1000:
            raise SpecError(
                f"sampling.n_steps={self.n_steps} must lie in 1 to 1000, or be 0 for the model's own"
            )
        if not math.isfinite(self.guidance_scale):
            raise SpecError(f"sampling.guidance_scale={self.guidance_scale} must be finite")
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
                "use taylorseer, or none"
            )
        if self.cache not in CACHES:
            raise SpecError(f"sampling.cache={self.cache!r} must be one of {', '.join(CACHES)}")
        if self.cache == "none":
            if self.cache_interval:
                raise SpecError(
                    f"sampling.cache_interval={self.cache_interval} steps, but sampling.cache=none skips "
                    "none: set it to taylorseer"
                )
        elif self.cache_interval not in (0, *range(2, 11)):
            raise SpecError(
                f"sampling.cache_interval={self.cache_interval} steps must lie in 2 to 10, or be 0 "
                f"for {INTERVAL}"
            )
        elif (self.guidance_start, self.guidance_stop) != (0, 1):
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


_EARLY_ENDS = ("breaker_films", "breaker_share", "canary_films", "budget_gpu_s")


@dataclass(frozen=True)
class ClusterSpec:
    """The workers. gangs=0 takes as many as the cluster has room for.

    A gang has cfg × ring × ulysses ranks, which predict one window together: cfg=2 gives each branch of
    guidance its own, ulysses shares out the sequence and attention heads, ring the sequence alone. Where one
    of them is 0 the cost model chooses it when the job begins, by the cluster's GPUs and the job's windows.
    exchange is how ulysses ranks trade tokens for heads: deepspeed, or fused for queries, keys and values at
    once, which took 0.86 of the time over gloo; the bits are the same.
    A job ends early where breaker_films films have failed and are breaker_share of those that ended, or where
    its gangs took budget_gpu_s GPU-seconds; 0 is never. The first canary_films films end before others begin.
    batch windows of one step of a shot are predicted in one forward, 0 for as many as pay (cluster.batch): it
    may change low bits, and a job that goes on keeps the batch that was chosen when it began.
    device=auto computes on GPUs where there are any; stage_gpus is the share of one that the encoder and
    each decoder take, 0 for the CPU. cache is where each node keeps copies of models that lie elsewhere,
    auto for longtake below $XDG_CACHE_HOME or ~/.cache.
    A worker that is silent for longer than a bound counts as hung, and another does its work: group_timeout_s
    is for ranks of one gang that wait for each other, step_timeout_s for a window's prediction, with the
    loading of its weights, and for a conductor, task_timeout_s for the whole task of an encoder, a decoder or
    a finisher. check_memory=false begins also what would not fit by arithmetic, and finds out.
    """

    gangs: int = 0
    cfg: int = 1
    ring: int = 1
    ulysses: int = 1
    exchange: str = DEEPSPEED
    batch: int = 1
    conductors: int = 1
    decoders: int = 1
    finishers: int = 1
    device: str = "auto"
    stage_gpus: float = 0.0
    threads: int = 1
    checkpoint_every: int = 5
    max_canvases: int = 4
    max_films: int = 8
    group_timeout_s: float = 60.0
    step_timeout_s: float = 1800.0
    task_timeout_s: float = 7200.0
    check_memory: bool = True
    breaker_films: int = 20
    breaker_share: float = 0.1
    canary_films: int = 0
    budget_gpu_s: float = 0.0
    cache: str = "auto"

    def __post_init__(self) -> None:
        counts = ("conductors", "decoders", "finishers", "threads")
        for name in (*counts, "checkpoint_every", "max_canvases", "max_films"):
            if getattr(self, name) < 1:
                raise SpecError(f"cluster.{name}={getattr(self, name)} must be at least 1")
        if self.cfg > 2:
            raise SpecError(
                f"cluster.cfg={self.cfg} must be 1 or 2, or 0 to be chosen: guidance has two branches"
            )
        for name in ("gangs", "cfg", "ring", "ulysses", "batch", "stage_gpus", *_EARLY_ENDS):
            if not 0 <= getattr(self, name) < math.inf:
                raise SpecError(f"cluster.{name}={getattr(self, name)} must not be negative, and finite")
        if self.breaker_share > 1:
            raise SpecError(f"cluster.breaker_share={self.breaker_share} must lie in 0 to 1")
        if self.exchange not in EXCHANGES:
            raise SpecError(f"cluster.exchange={self.exchange!r} must be one of {', '.join(EXCHANGES)}")
        if self.cache != "auto" and not self.cache.startswith(("/", "~")):
            raise SpecError(f"cluster.cache={self.cache!r} must begin with / or ~, as a folder on every node")
        if self.device not in ("auto", "cpu", "cuda"):
            raise SpecError(f"cluster.device={self.device!r} must be auto, cpu or cuda")
        for name in ("group_timeout_s", "step_timeout_s", "task_timeout_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise SpecError(f"cluster.{name}={getattr(self, name)} s must be above 0 s and finite")


@dataclass(frozen=True)
class JobSpec:
    """Everything but the manifest. `roots` are the folders that given files and adapters may come from."""

    profiles: dict[str, Profile] = field(default_factory=lambda: {"chalk": Profile()})
    cluster: ClusterSpec = field(default_factory=ClusterSpec)
    on_invalid: str = "reject"
    roots: tuple[str, ...] = ()
    identity: str = "~/.local/share/longtake"

    def __post_init__(self) -> None:
        if self.on_invalid not in ("reject", "skip"):
            raise SpecError(f"on_invalid={self.on_invalid!r} must be reject or skip")


def load_spec(
    path: Path | None = None, overrides: Sequence[str] = (), profile: Mapping[str, Any] | None = None
) -> JobSpec:
    """The job's configuration. Raises SpecError that names the key, for anything unknown or out of range.

    `profile` is what every profile says unless the file or an override does.
    """
    try:
        base = OmegaConf.structured(JobSpec)
        layers: list[Any] = [OmegaConf.load(path)] if path is not None else []
        layers.append(OmegaConf.from_dotlist(list(overrides)))
        if profile is not None:
            names = OmegaConf.merge(base, *layers).profiles
            layers.insert(0, {"profiles": {name: dict(profile) for name in names}})
        spec = OmegaConf.to_object(OmegaConf.merge(base, *layers))
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror or error}") from error
    except (OmegaConfBaseException, YAMLError, IndexError, TypeError, ValueError) as error:  # IndexError: "["
        raise SpecError(" ".join(str(error).split())) from error
    assert isinstance(spec, JobSpec)
    return spec


def as_plain(spec: JobSpec) -> Any:
    """The spec as plain JSON values, for the record."""
    return OmegaConf.to_container(OmegaConf.structured(spec))
