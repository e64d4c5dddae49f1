"""A manifest's rows as tasks: numbers from the row, the rest from its profile.

Durations become frames here, and nowhere else: seconds times an exact frame rate, rounded half up.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from cluster.tasks import (
    VISUAL_ONLY,
    Adapter,
    FilmTasks,
    Layout,
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
from engine.families.facts import (
    ModelFacts,
    family_name,
    folder_digest,
    is_told,
    read_card,
    read_facts,
    read_idiom,
)
from engine.families.known import FAMILIES
from engine.families.world import read_world
from engine.film import voice
from engine.timeline import PromptSpan, Shot
from jobs.adapters import shot_adapters, stocked_adapters
from jobs.pictures import given_task
from jobs.spec import JobSpec, Profile, SpecError
from manifests.sizes import Sizes, shown
from manifests.validate import Limits

LANGUAGES = frozenset(f"{language}-IN" for language in voice.LANGUAGES)  # those with a voice and a typeface
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Stock:
    """A profile, with nothing left open, and what its model folder says."""

    profile: Profile
    facts: ModelFacts
    model: Model
    images: bool = False  # whether the model goes on from a first frame
    roots: tuple[Path, ...] = ()  # that such frames may come from
    told: bool = False  # whether its model was distilled from guidance
    adapters: Mapping[str, Adapter] = field(default_factory=dict)  # that rows may name
    idiom: Idiom = ENGLISH  # in which its model is told a camera
    card: Card = Card()  # noqa: RUF009  # frozen

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
            settled(profile, card, facts),
            facts,
            model,
            images=_takes_images(folder),
            roots=roots,
            told=is_told(folder),
            adapters=stocked_adapters(name, profile, folder, facts.family, roots),
            idiom=idiom,
            card=card,
        )
        _check(name, stocked[name])
        _check_heads(name, stocked[name].facts.heads, spec.cluster.ulysses)
    return stocked


def roots_of(spec: JobSpec) -> tuple[Path, ...]:
    """The folders that images may come from."""
    return tuple(Path(root).expanduser() for root in spec.roots)


def settled(profile: Profile, card: Card, facts: ModelFacts) -> Profile:
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


def _takes_images(folder: Path) -> bool:
    """Whether the folder says that its model goes on from a given first frame; a broken world does not."""
    try:
        world = read_world(folder)
    except ValueError:
        return False  # planning tells of it where it warns of prompts
    return world is not None and world.images and FAMILIES[family_name(folder)].encodes


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
    _check_guidance(name, one)
    size, longest = window.size or one.facts.window_frames, one.facts.window_frames
    if size > longest:
        raise SpecError(
            f"profiles.{name}.window.size={size} latent frames: its model was trained on windows of up to "
            f"{longest}; nearest: {longest}"
        )
    if window.overlap >= size:
        raise SpecError(
            f"profiles.{name}.window.overlap={window.overlap} latent frames must be below the window's {size}"
        )


def _check_guidance(name: str, one: Stock) -> None:
    """Refuse guidance that the model's pipeline has not."""
    sampling, known = one.profile.sampling, FAMILIES[one.facts.family]
    if sampling.guidance_schedule == "cosine" and not known.dynamic_guidance:
        raise SpecError(
            f"profiles.{name}.sampling.guidance_schedule=cosine is CogVideoX's own: use constant or linear"
        )
    if sampling.guidance_rescale and one.told:
        raise SpecError(
            f"profiles.{name}.sampling.guidance_rescale={sampling.guidance_rescale}: its model was distilled "
            "from guidance and has no two branches to rescale by; set it to 0"
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


def _check_heads(name: str, heads: int, ulysses: int) -> None:
    """Refuse a gang whose ranks could not each hold a head."""
    if ulysses > heads:
        raise SpecError(
            f"cluster.ulysses={ulysses} ranks cannot share the {heads} attention heads of "
            f"profiles.{name}.model: set it to {heads} or less, and cluster.ring or cluster.cfg for the rest"
        )


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
    image, move = asked.get("first_frame_uri"), _text(asked, "camera")
    profile, facts = one.profile, one.facts
    window, sampling = profile.window, profile.sampling
    height_px, width_px = (side // profile.picture.upscale for side in (picture.height_px, picture.width_px))
    return ShotTask(
        model=one.model,
        shot=shot,
        sampling=Sampling(**asdict(sampling)),
        layout=Layout(
            window.size or facts.window_frames, window.overlap, window.lead_in, facts.temporal_compression
        ),
        height_px=height_px,
        width_px=width_px,
        max_text_tokens=facts.max_text_tokens,
        given=given_task(image, one.roots, one.model, height_px, width_px) if image else None,
        adapters=shot_adapters(row, asked, one.adapters, parse_camera(move) if move else None),
    )


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
        images=one.images,
        languages=LANGUAGES,
        roots=one.roots,
        most_px=one.sizes.most_px,
        widest=one.sizes.widest,
        adapters=frozenset(one.adapters),
    )
