"""A manifest's rows as tasks: numbers from the row, the rest from its profile.

Durations become frames here, and nowhere else: seconds times an exact frame rate, rounded half up.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from cluster.tasks import (
    VISUAL_ONLY,
    Adapter,
    Asset,
    FilmTasks,
    GivenTask,
    MasterTask,
    Model,
    Narration,
    Picture,
    Sampling,
    SegmentTask,
    ShotTask,
    VersionTask,
)
from engine.camera import ENGLISH, Idiom, parse_camera
from engine.families.card import Card
from engine.families.denoiser import Denoiser, denoiser_of, read_denoiser
from engine.families.facts import ModelFacts, folder_digest, read_card, read_facts, read_idiom
from engine.families.known import FAMILIES
from engine.families.published import Published
from engine.families.weights import check_weights
from engine.families.world import read_world
from engine.film import voice
from engine.takes import CLIP, FIRST, SOURCE, Takes
from engine.timeline import AHEAD, PromptSpan, Shot
from engine.windows import Layout
from jobs.adapters import shot_adapters, stocked_adapters
from jobs.assets import asset_of, clip_frames, column_of, given_of
from jobs.spec import ClusterSpec, JobSpec, Profile, SpecError
from jobs.stitching import DRAFTED, blends_only, stitching
from manifests.sizes import Sizes, shown
from manifests.validate import Limits

STRENGTH = 0.8  # of a source video whose shot leaves it out
LANGUAGES = frozenset(f"{language}-IN" for language in voice.LANGUAGES)  # those with a voice and a typeface
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Stock:
    """A profile, with nothing left open, and what its model folder says."""

    profile: Profile
    facts: ModelFacts
    model: Model
    given_latents: int = 0  # first latent frames that the model was taught to go on from, at most
    roots: tuple[Path, ...] = ()  # that given files may come from
    adapters: Mapping[str, Adapter] = field(default_factory=dict)  # that rows may name
    idiom: Idiom = ENGLISH  # in which its model is told a camera
    card: Card = Card()  # noqa: RUF009  # frozen

    @property
    def takes(self) -> Takes:
        """What shots may be given: what the model can be, and what its weights were taught to go on from."""
        takes = self.facts.takes
        if SOURCE in takes.may and self.given_latents:  # its family puts what is given on the canvas
            return replace(takes, may=takes.may | {FIRST, CLIP})
        return takes

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


def stock(spec: JobSpec) -> dict[str, Stock]:
    """Every profile of the job with its model.

    Raises SpecError for a folder that is no model, or a profile that its model cannot serve.
    """
    models: dict[tuple[str, str], tuple[ModelFacts, Model, Card, Idiom]] = {}
    spec = settled(spec)
    stocked, roots = {}, roots_of(spec)
    for name, profile in spec.profiles.items():
        folder, dtype = profile.model.path.expanduser().resolve(), profile.model.dtype
        key = (str(folder), dtype)
        if key not in models:
            try:
                model = Model(str(folder), dtype, folder_digest(folder))
                models[key] = (read_facts(folder), model, read_card(folder), read_idiom(folder))
            except (OSError, ValueError) as error:
                raise SpecError(f"profiles.{name}.model.folder={profile.model.folder}: {error}") from error
        facts, model, card, idiom = models[key]
        stocked[name] = Stock(
            completed(profile, card, facts),
            facts,
            replace(model, zero=profile.model.zero, offload=profile.model.offload),
            given_latents=_given_latents(folder, facts),
            roots=roots,
            adapters=stocked_adapters(name, profile, folder, facts.family, roots),
            idiom=idiom,
            card=card,
        )
        _check(name, stocked[name])
        _check_zero(name, profile.model.zero, spec.cluster)
        _check_gang(name, facts, spec.cluster)
        _check_branches(name, stocked[name], spec.cluster.cfg)
        _check_rescale(name, stocked[name], partial(_denoiser, name, stocked[name]))
    return stocked


def stock_published(spec: JobSpec, checkpoint: Published) -> dict[str, Stock]:
    """Every profile with a published checkpoint in its model's place, to plan without its weights."""
    stocked = {}
    for name, profile in spec.profiles.items():
        model = Model(checkpoint.hub, profile.model.dtype, checkpoint.hub)
        facts, card = checkpoint.facts, checkpoint.card
        stocked[name] = Stock(completed(profile, card, facts), facts, model, roots=roots_of(spec), card=card)
        _check(name, stocked[name])
        _check_rescale(name, stocked[name], lambda: denoiser_of(dict(checkpoint.denoiser)))
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


def check_models(stocked: Mapping[str, Stock]) -> None:
    """Refuse damaged weights before a film is begun; a plan needs none. Raises SpecError."""
    for name, one in stocked.items():
        try:
            check_weights(Path(one.model.folder))
        except (OSError, ValueError) as error:
            raise SpecError(f"profiles.{name}.model.folder={one.profile.model.folder}: {error}") from error


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


def _given_latents(folder: Path, facts: ModelFacts) -> int:
    """The first latent frames that the folder says its model goes on from; a broken world says none."""
    if facts.patch_frames > 1:
        return 0  # in a patch of several frames the first has no token of its own that could be kept
    try:
        world = read_world(folder)
    except ValueError:
        return 0  # planning tells of it where it warns of prompts
    return world.given_latents if world else 0


def _check(name: str, one: Stock) -> None:
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


def _check_rescale(name: str, one: Stock, read: Callable[[], Denoiser]) -> None:
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


def _check_zero(name: str, zero: bool, cluster: ClusterSpec) -> None:
    """Refuse to share weights out over a gang of one."""
    if zero and cluster.cfg * cluster.ring * cluster.ulysses == 1:
        raise SpecError(
            f"profiles.{name}.model.zero=true shares weights out over a gang, which has one rank: raise "
            f"cluster.cfg, cluster.ring or cluster.ulysses, or use profiles.{name}.model.offload=memory"
        )


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
    if overlap < 2 * _lead_in(one):
        raise SpecError(
            f"profiles.{name}.window.overlap={overlap} latent frames must be at least {2 * _lead_in(one)}: "
            f"its model's patches are of {patch}, and each side leaves out window.lead_in in whole ones"
        )


def _lead_in(one: Stock) -> int:
    """Latent frames that windows leave out at their edges, in whole patches: a patch is predicted as one."""
    lead_in = one.profile.window.lead_in
    return lead_in + -lead_in % one.facts.patch_frames


def _check_gang(name: str, facts: ModelFacts, cluster: ClusterSpec) -> None:
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


def _check_branches(name: str, one: Stock, cfg: int) -> None:
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
    if _denoiser(name, one).told:
        raise SpecError(
            f"cluster.cfg={cfg} shares the two branches of guidance, and the model of profiles.{name} is "
            "distilled from guidance and has one: half of every gang would idle; set cluster.cfg=1, and "
            "cluster.ulysses for the rest"
        )


def _denoiser(name: str, one: Stock) -> Denoiser:
    """What the profile's model predicts with. Raises SpecError for a folder that does not say it."""
    try:
        return read_denoiser(Path(one.model.folder))
    except (OSError, ValueError) as error:
        raise SpecError(f"profiles.{name}.model.folder={one.profile.model.folder}: {error}") from error


def limits_of(stocked: Mapping[str, Stock]) -> dict[str, Limits]:
    """What validation holds a row of each profile to."""
    return {name: _limits(one) for name, one in stocked.items()}


def film_tasks(row: Row, stocked: Mapping[str, Stock]) -> FilmTasks:
    """The tasks of one validated row."""
    one = stocked[row["profile"]]
    picture = _picture(row, one.profile)
    shots = zip(row["shots"], _shots(row, picture.fps, one.idiom), strict=True)
    segments = tuple(
        SegmentTask(_shot_task(row, asked, shot, one, picture), picture) for asked, shot in shots
    )
    versions = tuple(_version(row, language, segments) for language in row.get("languages") or [])
    if not versions:
        versions = (VersionTask(segments, VISUAL_ONLY, "", ()),)
    return FilmTasks(row["row_id"], MasterTask(segments), versions)


def plan(rows: Iterable[Row], stocked: Mapping[str, Stock]) -> Iterator[FilmTasks]:
    """The films of a manifest, one at a time."""
    for row in rows:
        yield film_tasks(row, stocked)


def frames_of(seconds: float, fps: Fraction) -> int:
    """Frames in a time, rounded half up."""
    return math.floor(Fraction(seconds) * fps + Fraction(1, 2))


def fps_of(row: Row, profile: Profile) -> Fraction:
    """The row's frame rate, or its profile's."""
    if row.get("fps_num") is None:
        return profile.picture.fps
    return Fraction(row["fps_num"], row["fps_den"])


def size_of(row: Row, profile: Profile) -> tuple[int, int]:
    """The film's width and height in pixels, or its profile's."""
    picture = profile.picture
    return row.get("width_px") or picture.width_px, row.get("height_px") or picture.height_px


def _picture(row: Row, profile: Profile) -> Picture:
    width_px, height_px = size_of(row, profile)
    picture = profile.picture
    return Picture(width_px, height_px, fps_of(row, profile), picture.crf, picture.preset)


def _shots(row: Row, fps: Fraction, idiom: Idiom) -> Iterator[Shot]:
    """The row's shots, with what they leave out taken from the row."""
    for shot in row["shots"]:
        frames, camera = shot.get("duration_frames"), _text(shot, "camera")
        move = partial(idiom.directed, camera=parse_camera(camera)) if camera else str
        later = [
            PromptSpan(
                move(span["prompt"]),
                frames_of(span["start_s"], fps),
                frames_of(span.get("blend_s") or 0, fps),
            )
            for span in shot.get("prompts") or []
        ]
        yield Shot(
            shot_id=shot["shot_id"],
            n_frames=frames if frames is not None else frames_of(shot["duration_s"], fps),
            prompts=(PromptSpan(move(_text(shot, "prompt") or _text(row, "prompt"))), *later),
            negative_prompt=_text(shot, "negative_prompt") or _text(row, "negative_prompt"),
            seed=_seed(row, shot),
        )


def _text(row: Row, name: str) -> str:
    """A text without the space around it: validation counts a text of spaces as none."""
    return (row.get(name) or "").strip()


def _seed(row: Row, shot: Row) -> int:
    """The shot's seed, the row's, or one that the row's name gives: never the time of day."""
    for given in (shot.get("seed"), row.get("seed")):
        if given is not None:
            return int(given)
    return int.from_bytes(hashlib.blake2b(row["row_id"].encode(), digest_size=8).digest(), "big") >> 1


def _shot_task(row: Row, asked: Row, shot: Shot, one: Stock, picture: Picture) -> ShotTask:
    camera = _text(asked, "camera")
    profile, facts = one.profile, one.facts
    window, sampling = profile.window, profile.sampling
    height_px, width_px = (side // profile.picture.upscale for side in (picture.height_px, picture.width_px))
    task = ShotTask(
        model=one.model,
        shot=shot,
        sampling=Sampling(**asdict(sampling)),
        layout=Layout(
            one.window_frames,
            window.overlap,
            _lead_in(one),
            facts.temporal_compression,
            facts.period,
            facts.window_unit,
            facts.patch_frames,
        ),
        height_px=height_px,
        width_px=width_px,
        max_text_tokens=facts.max_text_tokens,
        adapters=shot_adapters(row, asked, one.adapters, parse_camera(camera) if camera else None),
    )
    files = given_of(asked)
    assets = [asset_of(role, uri, one.roots) for role, uri in files.items()]
    task = replace(task, given=tuple(_given_tasks(assets, task, one, picture.fps)))
    first_step = redraw_from(asked.get("strength"), sampling.n_steps) if SOURCE in files else 0
    layout, stitch = stitching(task, one, first_step)
    return replace(task, layout=layout, stitch=stitch)


def redraw_from(strength: float | None, n_steps: int) -> int:
    """The step that a video is redrawn from, so that this share of the steps is taken, and one at least."""
    share = STRENGTH if strength is None else strength
    return n_steps - max(1, round(share * n_steps))


def _given_tasks(assets: list[Asset], shot: ShotTask, one: Stock, fps: Fraction) -> Iterator[GivenTask]:
    """What encodes a shot's files: each by itself, so that shots share it, or all at the shot's length."""
    c = shot.layout.temporal_compression

    def task(files: tuple[Asset, ...], n_frames: int, rate: Fraction | None) -> GivenTask:
        return GivenTask(one.model, files, n_frames, rate, shot.height_px, shot.width_px)

    if one.takes.together and assets:
        yield task(tuple(assets), shot.canvas_frames, fps if assets[0].role == SOURCE else None)
        return
    for asset in assets:
        if asset.role == SOURCE:
            yield task((asset,), shot.canvas_frames, fps)
        elif asset.role == CLIP:
            taught = min(one.given_latents, (clip_frames(asset, fps) - 1) // c + 1)
            yield task((asset,), c * (taught - 1) + 1, fps)
        else:
            yield task((asset,), 1, None)


def _version(row: Row, language: Row, segments: tuple[SegmentTask, ...]) -> VersionTask:
    narrations = tuple(
        Narration(segment["shot_id"], segment["text"]) for segment in language.get("segments") or []
    )
    return VersionTask(
        segments, language["lang"], language.get("title") or row.get("title") or "", narrations
    )


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
