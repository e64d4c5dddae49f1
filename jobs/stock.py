"""Profiles with what their models say: read once, completed from the model's card, refused where they misfit.

Decides: what of a folder planning knows. Does not decide: what is refused (stock_checks), or what a row asks
for (plan).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from cluster.identity import Adapter, Model
from engine.cache import INTERVAL, THRESHOLD
from engine.camera import ENGLISH, Idiom
from engine.families.card import Card
from engine.families.denoiser import denoiser_of
from engine.families.facts import ModelFacts, read_card, read_facts, read_idiom
from engine.families.published import Published
from engine.families.world import World, read_world
from engine.film import voice
from engine.takes import Takes
from jobs.adapters import ending_adapter, stocked_adapters
from jobs.assets import column_of
from jobs.folders import Found, find_folder
from jobs.profile import ModelSpec, Profile
from jobs.refusal import SpecError
from jobs.spec import JobSpec
from jobs.stock_checks import (
    check_branches,
    check_cached_ranks,
    check_gang,
    check_kernels,
    check_profile,
    check_rescale,
    check_zero,
    denoiser_for,
)
from manifests.sizes import Sizes
from manifests.validate import Limits

LANGUAGES = frozenset(f"{language}-IN" for language in voice.LANGUAGES)  # those with a voice and a typeface


@dataclass(frozen=True)
class Stock:
    """A profile, with nothing left open, and what its model folder says."""

    profile: Profile
    facts: ModelFacts
    model: Model
    given_latents: int = 0  # first latent frames that the model was taught to go on from, at most
    changes: tuple[str, ...] = ()  # its own phrases for shots that are meant to change
    roots: tuple[Path, ...] = ()  # that given files may come from
    adapters: Mapping[str, Adapter] = field(default_factory=dict)  # that rows may name
    ending: Adapter | None = None  # of a model that was taught by it to end with a picture
    idiom: Idiom = ENGLISH  # in which its model is told a camera
    card: Card = Card()  # noqa: RUF009  # frozen
    outline: Path | None = None  # of a model that lies elsewhere

    @property
    def folder(self) -> Path:
        """What planning reads of its model."""
        return self.outline or Path(self.model.folder)

    def refused(self, name: str, error: Exception) -> SpecError:
        """The error that says what is wrong with the folder that profile `name` names."""
        found = Found(self.model.folder, outline=self.outline)
        return SpecError(f"profiles.{name}.model.folder={self.profile.model.folder}: {found.told(error)}")

    @property
    def takes(self) -> Takes:
        """What shots may be given: what the model can be, and what its weights were taught to go on from."""
        return self.facts.takes.taught(self.given_latents, self.ending is not None)

    @property
    def lead_in(self) -> int:
        """Latent frames that windows leave out at their edges, in whole patches, predicted as one."""
        lead_in = self.profile.window.lead_in
        return lead_in + -lead_in % self.facts.patch_frames

    @property
    def window_frames(self) -> int:
        """Latent frames of a window."""
        return self.profile.window.size or self.facts.window_frames

    @property
    def size_multiple_px(self) -> int:
        """Film sizes are multiples of this: the model draws at 1/upscale of them."""
        return self.facts.size_multiple_px * self.profile.picture.upscale

    @property
    def sizes(self) -> Sizes:
        """The film's sizes that rows and the profile may ask for."""
        limits, picture = self.profile.limits, self.profile.picture
        sides = limits.max_width_px, limits.max_height_px
        most_px = self.card.most_px * picture.upscale**2
        return Sizes(self.size_multiple_px, *sides, most_px, self.card.widest)


def stock(spec: JobSpec, *, exact: bool = True) -> dict[str, Stock]:
    """Every profile of the job with its model; if not `exact`, for no task's key (jobs.folders).

    Raises SpecError for a folder that is no model, or a profile that its model cannot serve, StoreError for
    one that cannot be reached.
    """
    read: dict[str, _Read] = {}
    spec = settled(spec)
    stocked, roots = {}, roots_of(spec)
    for name, profile in spec.profiles.items():
        asked = profile.model
        if asked.folder not in read:
            read[asked.folder] = _read(name, asked.folder, spec.cluster.cache, exact)
        found, facts, card, idiom = read[asked.folder]
        world = _world(found.folder)
        stocked[name] = Stock(
            completed(_pinned(profile, found), card, facts),
            facts,
            _model(asked, found.name, found.digest, found.listing),
            given_latents=given_latents_of(world, facts),
            changes=world.changes if world else (),
            roots=roots,
            adapters=stocked_adapters(name, profile, found.folder, facts.family, roots),
            ending=ending_adapter(name, profile, found.folder, facts.family),
            idiom=idiom,
            card=card,
            outline=found.outline,
        )
        check_profile(name, stocked[name])
        check_zero(name, profile.model.zero, spec.cluster)
        check_kernels(name, profile.model, facts, spec.cluster)
        check_cached_ranks(name, profile.sampling, spec.cluster)
        check_gang(name, facts, spec.cluster)
        check_branches(name, stocked[name], spec.cluster.cfg)
        check_rescale(name, stocked[name], partial(denoiser_for, name, stocked[name]))
    return stocked


class _Read(NamedTuple):
    """What is read of a folder once."""

    found: Found
    facts: ModelFacts
    card: Card
    idiom: Idiom


def _read(name: str, folder: str, cache: str, exact: bool) -> _Read:
    """The folder of a profile. Raises SpecError that names it, or StoreError."""
    found = None
    try:
        found = find_folder(folder, cache, digest=True, exact=exact)
        at = found.folder
        return _Read(found, read_facts(at), read_card(at), read_idiom(at))
    except (OSError, ValueError) as error:
        told = found.told(error) if found else str(error)
        raise SpecError(f"profiles.{name}.model.folder={folder}: {told}") from error


def _pinned(profile: Profile, found: Found) -> Profile:
    """The profile as it is recorded: with the commit of a model on the hub."""
    if "://" in found.name or found.outline is None:
        return profile
    return replace(profile, model=replace(profile.model, folder=found.name))


def _model(asked: ModelSpec, folder: str, digest: str, listing: str = "") -> Model:
    """A checkpoint as a profile asks for it."""
    return Model(
        folder, asked.dtype, digest, asked.zero, asked.offload, listing, asked.quantise, asked.compile
    )


def stock_published(spec: JobSpec, checkpoint: Published) -> dict[str, Stock]:
    """Every profile with a published checkpoint in its model's place, to plan without its weights."""
    stocked = {}
    for name, profile in spec.profiles.items():
        asked = profile.model
        model = _model(asked, checkpoint.hub, checkpoint.hub)
        facts, card = checkpoint.facts, checkpoint.card
        stocked[name] = Stock(
            completed(profile, card, facts),
            facts,
            model,
            given_latents=facts.given_latents,
            roots=roots_of(spec),
            card=card,
        )
        check_profile(name, stocked[name])
        check_rescale(name, stocked[name], lambda: denoiser_of(dict(checkpoint.denoiser)))
    return stocked


def settled(spec: JobSpec) -> JobSpec:
    """The spec with every dtype that was left open, as this machine or cluster.device decides it.

    Before anything is planned or recorded, as a dtype is part of what a film is.
    """
    if all(one.model.dtype != "auto" for one in spec.profiles.values()):
        return spec
    dtype = "bfloat16" if _device(spec.cluster.device) == "cuda" else "float32"
    profiles = {
        name: replace(one, model=replace(one.model, dtype=dtype)) if one.model.dtype == "auto" else one
        for name, one in spec.profiles.items()
    }
    return replace(spec, profiles=profiles)


def _device(asked: str) -> str:
    """Where the job computes, as far as this machine can tell."""
    if asked != "auto":
        return asked
    from engine.numerics import default_device  # torch takes seconds to come, and most plans need none

    return default_device()


def roots_of(spec: JobSpec) -> tuple[Path, ...]:
    """The folders that given files may come from."""
    return tuple(Path(root).expanduser() for root in spec.roots)


def completed(profile: Profile, card: Card, facts: ModelFacts) -> Profile:
    """The profile with what it leaves to its model filled in; a card's size becomes the nearest there is."""
    sampling, picture = profile.sampling, profile.picture
    sampling = replace(
        sampling,
        n_steps=sampling.n_steps or card.n_steps,
        guidance_scale=sampling.guidance_scale or card.guidance_scale,
        cache_interval=sampling.cache_interval or (INTERVAL if sampling.cache == "taylorseer" else 0),
        cache_threshold=sampling.cache_threshold or (THRESHOLD if sampling.cache == "first_block" else 0.0),
    )
    picture = replace(picture, upscale=picture.upscale or card.upscale)
    if not picture.fps_num:
        picture = replace(picture, fps_num=card.fps_num, fps_den=card.fps_den)
    profile = replace(profile, sampling=sampling, picture=picture)
    if picture.width_px:
        return profile
    multiple, limits = facts.size_multiple_px * picture.upscale, profile.limits
    sizes = Sizes(multiple, limits.max_width_px, limits.max_height_px)
    width_px, height_px = sizes.nearest(card.width_px, card.height_px)
    return replace(profile, picture=replace(picture, width_px=width_px, height_px=height_px))


def _world(folder: Path) -> World | None:
    """What the folder says that its model was taught; a broken world says nothing."""
    try:
        return read_world(folder)
    except ValueError:
        return None  # planning tells of it where it warns of prompts


def given_latents_of(world: World | None, facts: ModelFacts) -> int:
    """The first latent frames that its model goes on from, as the folder says, or else its family."""
    if facts.patch_frames > 1:
        return 0  # in a patch of several frames the first has no token of its own that could be kept
    return (world.given_latents if world else 0) or facts.given_latents


def limits_of(stocked: Mapping[str, Stock]) -> dict[str, Limits]:
    """What validation holds a row of each profile to."""
    return {name: _limits(one) for name, one in stocked.items()}


def _limits(one: Stock) -> Limits:
    limits, picture = one.profile.limits, one.profile.picture
    return Limits(
        size_multiple_px=one.size_multiple_px,
        max_width_px=limits.max_width_px,
        max_height_px=limits.max_height_px,
        max_fps=limits.max_fps,
        max_shot_s=limits.max_shot_s,
        max_film_s=limits.max_film_s,
        max_prompt_chars=limits.max_prompt_chars,
        fps_num=picture.fps_num,
        fps_den=picture.fps_den,
        temporal_compression=one.facts.temporal_compression,
        period=one.facts.period,
        takes=frozenset(map(column_of, one.takes.may)),
        needs=frozenset(map(column_of, one.takes.must)),
        max_shot_frames=_window_px(one) if one.takes.one_window else None,
        languages=LANGUAGES,
        roots=one.roots,
        most_px=one.sizes.most_px,
        widest=one.sizes.widest,
        adapters=frozenset(one.adapters),
    )


def _window_px(one: Stock) -> int:
    """The pixel frames of one window, as an odd number of latent frames holds them."""
    size = one.window_frames
    return (size - (size % 2 == 0) - 1) * one.facts.temporal_compression + 1
