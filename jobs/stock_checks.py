"""What a profile must not ask of its model, or a cluster of it: refused before any row is read.

Every function raises SpecError, with the key, the numbers and what to set instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.cache import WARM_UP, StepCache
from engine.families.denoiser import Denoiser, read_denoiser
from engine.families.facts import ModelFacts
from engine.families.known import FAMILIES
from engine.timeline import AHEAD
from jobs.denoising import SamplingSpec
from jobs.profile import ModelSpec
from jobs.refusal import SpecError
from jobs.spec import ClusterSpec
from jobs.stitching import DRAFTED, blends_only
from manifests.sizes import shown

if TYPE_CHECKING:
    from jobs.stock import Stock


def check_profile(name: str, one: Stock) -> None:
    """Refuse what would fail every row of a profile, and only once rendering had begun."""
    _check_size(name, one)
    window = one.profile.window
    asked, known = one.profile.sampling.scheduler, FAMILIES[one.facts.family].schedulers
    if asked and asked not in known:
        raise SpecError(
            f"profiles.{name}.sampling.scheduler={asked!r}: its model has {', '.join(known)}; "
            "leave it empty for the folder's own"
        )
    _check_schedule(name, one)
    _check_guided(name, one)
    _check_cache(name, one)
    size, longest = one.window_frames, one.facts.longest_window or one.facts.window_frames
    if size > longest:
        raise SpecError(
            f"profiles.{name}.window.size={size} latent frames: its model was trained on windows of up to "
            f"{longest}; nearest: {longest}"
        )
    if window.overlap >= size:
        raise SpecError(
            f"profiles.{name}.window.overlap={window.overlap} latent frames must be below the window's {size}"
        )
    _check_clock(name, one.facts, size, window.overlap)
    _check_patches(name, one, size)
    _check_mode(name, one)


def _check_mode(name: str, one: Stock) -> None:
    """Refuse a mode of stitching that no shot of a profile could have."""
    mode = one.profile.window.mode
    if mode in DRAFTED and (why := blends_only(one, one.takes.must)):
        raise SpecError(f"profiles.{name}.window.mode={mode}: {why}; use blend, or auto")
    if mode == "extend" and not one.given_latents:
        raise SpecError(
            f"profiles.{name}.window.mode=extend: its model was not taught to go on from given latents; "
            "use skeleton, or auto"
        )


def _check_schedule(name: str, one: Stock) -> None:
    """Refuse a schedule of guidance that the model's pipeline has not."""
    cosine = one.profile.sampling.guidance_schedule == "cosine"
    if cosine and not FAMILIES[one.facts.family].dynamic_guidance:
        raise SpecError(
            f"profiles.{name}.sampling.guidance_schedule=cosine is CogVideoX's own: use constant or linear"
        )


def _check_guided(name: str, one: Stock) -> None:
    """Refuse guidance of a model that was distilled from it and is told no scale: it would change nothing."""
    scale = one.profile.sampling.guidance_scale
    if scale > 1 and not one.facts.guided:
        raise SpecError(
            f"profiles.{name}.sampling.guidance_scale={scale:g}: its model was distilled from guidance and "
            "its folder's guider is off, so that no scale changes a picture: leave it out, or set it to 1"
        )


def _check_cache(name: str, one: Stock) -> None:
    """Refuse a step cache that its model's steps are too few or too unlike for; any family has it else."""
    sampling = one.profile.sampling
    if sampling.cache == "none":
        return
    asked = f"profiles.{name}.sampling.cache={sampling.cache}"
    if one.facts.experts > 1:
        raise SpecError(
            f"{asked} carries predictions on from step to step, and its model's {one.facts.experts} experts "
            "take turns between steps: set it to none; models of one transformer have it"
        )
    if sampling.cache == "first_block":
        return _check_first_block(name, asked, one)
    if StepCache(sampling.cache_interval).n_predicted(sampling.n_steps) == sampling.n_steps:
        raise SpecError(
            f"{asked} skips none of sampling.n_steps={sampling.n_steps}: take at least {WARM_UP + 2} steps, "
            "or set it to none"
        )


def _check_first_block(name: str, asked: str, one: Stock) -> None:
    """Refuse it where it was not proven, and beside what relies on blocks that come one after another."""
    if not FAMILIES[one.facts.family].first_block:
        able = ", ".join(family for family, known in FAMILIES.items() if known.first_block)
        raise SpecError(f"{asked} was proven on {able} only: use taylorseer, which any family has")
    model = one.profile.model
    relies = {"compile=true": model.compile, f"offload={model.offload}": model.offload}
    for setting in (each for each, is_set in relies.items() if is_set):
        raise SpecError(
            f"{asked} leaves blocks out, and profiles.{name}.model.{setting} has them all come one after "
            "another: leave one of these out"
        )


def check_rescale(name: str, one: Stock, read: Callable[[], Denoiser]) -> None:
    """Refuse to rescale guidance where there is one branch; `read` reads the model's denoiser."""
    rescale = one.profile.sampling.guidance_rescale
    if rescale and read().told:
        raise SpecError(
            f"profiles.{name}.sampling.guidance_rescale={rescale}: its model was distilled from guidance and "
            "has no two branches to rescale by; set it to 0"
        )


def _check_size(name: str, one: Stock) -> None:
    """Refuse a size that the model cannot draw."""
    sizes, picture = one.sizes, one.profile.picture
    size = picture.width_px, picture.height_px
    if sizes.has(*size):
        return
    draws = [f"multiples of {sizes.multiple_px} px up to {sizes.max_width_px} x {sizes.max_height_px} px"]
    draws += [f"at most {sizes.most_px:,} px in all"] if sizes.is_large(*size) else []
    draws += [f"no side above {sizes.widest:g} times the other"] if sizes.is_wide(*size) else []
    raise SpecError(
        f"profiles.{name}.picture.width_px={size[0]} px, height_px={size[1]} px: its model, at upscale "
        f"{picture.upscale}, draws {', '.join(draws)}; nearest: {shown(sizes.nearest(*size))}"
    )


def check_zero(name: str, zero: bool, cluster: ClusterSpec) -> None:
    """Refuse to share weights out over a gang of one; open axes are chosen to be of several."""
    if zero and cluster.cfg * cluster.ring * cluster.ulysses == 1:
        raise SpecError(
            f"profiles.{name}.model.zero=true shares weights out over a gang, which has one rank: raise "
            f"cluster.cfg, cluster.ring or cluster.ulysses, or use profiles.{name}.model.offload=memory"
        )


def check_kernels(name: str, model: ModelSpec, facts: ModelFacts, cluster: ClusterSpec) -> None:
    """Refuse float8 on CPUs, tiles that save nothing, and compiled kernels of gangs or of no blocks."""
    if model.quantise == "float8" and cluster.device == "cpu":
        raise SpecError(
            f"profiles.{name}.model.quantise=float8 is for GPUs that multiply it, and cluster.device=cpu: "
            "use int8"
        )
    if model.tiles and not FAMILIES[facts.family].tiles:
        raise SpecError(
            f"profiles.{name}.model.tiles=true: its model has no tiles of space that take less memory; leave "
            "it out, and take a smaller picture or cluster.stage_gpus=0 where they run out of memory"
        )
    if not model.compile:
        return
    if not FAMILIES[facts.family].shared:
        raise SpecError(
            f"profiles.{name}.model.compile=true compiles a transformer's blocks, and its model has none: "
            "leave it out"
        )
    if several := _several(cluster):
        raise SpecError(
            f"profiles.{name}.model.compile=true is for gangs of one rank, as exchanges inside a block are "
            f"not compiled: set {several} to 1, and cluster.gangs higher"
        )


def check_cached_ranks(name: str, sampling: SamplingSpec, cluster: ClusterSpec) -> None:
    """Refuse gangs of several ranks, each of which would leave blocks out by its own tokens."""
    if sampling.cache == "first_block" and (several := _several(cluster)):
        raise SpecError(
            f"profiles.{name}.sampling.cache=first_block is for gangs of one rank, which alone sees all that "
            f"it decides by: set {several} to 1, and cluster.gangs higher"
        )


def _several(cluster: ClusterSpec) -> str:
    """The axes that are set to several ranks; the choice of an open one is held to 1 (cluster.sharing)."""
    axes = {f"cluster.{name}": getattr(cluster, name) for name in ("cfg", "ring", "ulysses")}
    return " and ".join(f"{name}={size}" for name, size in axes.items() if size > 1)


def _check_clock(name: str, facts: ModelFacts, size: int, overlap: int) -> None:
    """Refuse windows that a model whose latent frames are uneven in time could not be given."""
    if facts.period and size % facts.period != AHEAD:
        raise SpecError(
            f"profiles.{name}.window.size={size} latent frames must be {facts.period} k + {AHEAD}"
        )
    if overlap > size - facts.window_unit:
        raise SpecError(
            f"profiles.{name}.window.overlap={overlap} latent frames: its model's windows begin at multiples "
            f"of {facts.window_unit}, so it must be at most {size - facts.window_unit}, or window.size larger"
        )


def _check_patches(name: str, one: Stock, size: int) -> None:
    """Refuse windows of broken patches, for models whose patches are of several latent frames."""
    patch, overlap = one.facts.patch_frames, one.profile.window.overlap
    if size % patch:
        raise SpecError(f"profiles.{name}.window.size={size} latent frames must be a multiple of {patch}")
    if overlap < 2 * one.lead_in:
        raise SpecError(
            f"profiles.{name}.window.overlap={overlap} latent frames must be at least {2 * one.lead_in}: "
            f"its model's patches are of {patch}, and each side leaves out window.lead_in in whole ones"
        )


def check_gang(name: str, facts: ModelFacts, cluster: ClusterSpec) -> None:
    """Refuse a gang that cannot share a window, or whose ranks could not each hold a head."""
    if not FAMILIES[facts.family].shared and cluster.ring * cluster.ulysses > 1:
        raise SpecError(
            f"cluster.ring={cluster.ring} and cluster.ulysses={cluster.ulysses} ranks cannot share a window "
            f"of profiles.{name}.model: set both to 1, and cluster.cfg to 2 or cluster.gangs higher"
        )
    if cluster.ulysses > facts.heads:
        raise SpecError(
            f"cluster.ulysses={cluster.ulysses} ranks cannot share the {facts.heads} attention heads of "
            f"profiles.{name}.model: set it to {facts.heads} or less, and cluster.ring or cluster.cfg for "
            "the rest"
        )


def check_branches(name: str, one: Stock, cfg: int) -> None:
    """Refuse two ranks for the branches of guidance where there is one branch: the other rank would idle."""
    if cfg < 2:
        return
    scale = one.profile.sampling.guidance_scale
    if scale <= 1:
        raise SpecError(
            f"cluster.cfg={cfg} shares the two branches of guidance, and profiles.{name}.sampling."
            f"guidance_scale={scale:g} turns guidance off (it is on above 1): half of every gang would idle; "
            "set cluster.cfg=1"
        )
    if denoiser_for(name, one).told:
        raise SpecError(
            f"cluster.cfg={cfg} shares the two branches of guidance, and the model of profiles.{name} is "
            "distilled from guidance and has one: half of every gang would idle; set cluster.cfg=1, and "
            "cluster.ulysses for the rest"
        )


def denoiser_for(name: str, one: Stock) -> Denoiser:
    """What the profile's model predicts with. Raises SpecError for a folder that does not say it."""
    try:
        return read_denoiser(one.folder)
    except (OSError, ValueError) as error:
        raise one.refused(name, error) from error
