"""What a profile says of how a shot is denoised: sampling, and the windows that it is cut into.

Typed defaults in frozen dataclasses, whose rules join several fields. Decides: what goes together. Does not
decide: what a model has where a field is left open (engine.families.card), or which mode suits a shot.
"""

import math
from dataclasses import dataclass

from engine.cache import CACHES, INTERVAL, REFUSED, THRESHOLD
from engine.guidance import SCHEDULES
from engine.phases import MODES, NOISES
from jobs.refusal import SpecError


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
    anyway (longtake plan --explain says where). It is no cluster.gangs, nor decided by the gangs that are
    there: the layout is part of a shot, and should outlive tonight's cluster.
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
