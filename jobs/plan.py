"""A manifest's rows as tasks: numbers from the row, the rest from its profile.

Durations become frames here, and nowhere else: seconds times an exact frame rate, rounded half up.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from cluster.tasks import (
    VISUAL_ONLY,
    FilmTasks,
    MasterTask,
    Model,
    Narration,
    Picture,
    Sampling,
    SegmentTask,
    ShotTask,
    VersionTask,
)
from engine.families.facts import ModelFacts, family_name, folder_digest, read_facts
from engine.families.known import FAMILIES
from engine.families.world import read_world
from engine.film import voice
from engine.timeline import PromptSpan, Shot
from jobs.pictures import given_task
from jobs.spec import JobSpec, Profile, SpecError
from jobs.stitching import stitching
from manifests.validate import Limits

LANGUAGES = frozenset(f"{language}-IN" for language in voice.LANGUAGES)  # those with a voice and a typeface
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Stock:
    """A profile with what its model folder says."""

    profile: Profile
    facts: ModelFacts
    model: Model
    images: bool = False  # whether the model goes on from a first frame
    continues: int = 0  # the most first latent frames that it goes on from
    roots: tuple[Path, ...] = ()  # that such frames may come from

    @property
    def size_multiple_px(self) -> int:
        """Film sizes are multiples of this: the model draws at 1/upscale of them."""
        return self.facts.size_multiple_px * self.profile.picture.upscale


def stock(spec: JobSpec) -> dict[str, Stock]:
    """Every profile of the job with its model.

    Raises SpecError for a folder that is no model, or a profile that its model cannot serve.
    """
    models: dict[tuple[str, str], tuple[ModelFacts, Model]] = {}
    stocked, roots = {}, roots_of(spec)
    for name, profile in spec.profiles.items():
        folder, dtype = profile.model.path.expanduser().resolve(), profile.model.dtype
        key = (str(folder), dtype)
        if key not in models:
            try:
                models[key] = (read_facts(folder), Model(str(folder), dtype, folder_digest(folder)))
            except (OSError, ValueError) as error:
                raise SpecError(f"profiles.{name}.model.folder={profile.model.folder}: {error}") from error
        stocked[name] = Stock(profile, *models[key], _takes_images(folder), _continues(folder), roots)
        _check(name, stocked[name])
        _check_heads(name, stocked[name].facts.heads, spec.cluster.ulysses)
    return stocked


def roots_of(spec: JobSpec) -> tuple[Path, ...]:
    """The folders that images may come from."""
    return tuple(Path(root).expanduser() for root in spec.roots)


def _takes_images(folder: Path) -> bool:
    """Whether the folder says that its model goes on from a given first frame; a broken world does not."""
    try:
        world = read_world(folder)
    except ValueError:
        return False  # planning tells of it where it warns of prompts
    return world is not None and world.images and FAMILIES[family_name(folder)].encodes


def _continues(folder: Path) -> int:
    """The most first latent frames that the model was taught to go on from; a broken world tells of none."""
    try:
        world = read_world(folder)
    except ValueError:
        world = None
    return max(FAMILIES[family_name(folder)].continues, world.continues if world else 0)


def _check(name: str, one: Stock) -> None:
    """Refuse what would fail every row of a profile, and only once rendering had begun."""
    picture, window, step = one.profile.picture, one.profile.window, one.size_multiple_px
    for side in ("width_px", "height_px"):
        size = getattr(picture, side)
        if size < 1 or size % step:
            raise SpecError(f"profiles.{name}.picture.{side}={size} px must be a multiple of {step} px")
    asked, known = one.profile.sampling.scheduler, FAMILIES[one.facts.family].schedulers
    if asked and asked not in known:
        raise SpecError(
            f"profiles.{name}.sampling.scheduler={asked!r}: its model has {', '.join(known)}; "
            "leave it empty for the folder's own"
        )
    size = window.size or one.facts.window_frames
    if window.overlap >= size:
        raise SpecError(
            f"profiles.{name}.window.overlap={window.overlap} latent frames must be below the window's {size}"
        )
    if window.mode == "extend" and not one.continues:
        raise SpecError(
            f"profiles.{name}.window.mode=extend: its model was not taught to go on from given latents; "
            "use skeleton, or auto"
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
    shots = zip(row["shots"], _shots(row, picture.fps), strict=True)
    segments = tuple(
        SegmentTask(_shot_task(asked.get("first_frame_uri"), shot, one, picture), picture)
        for asked, shot in shots
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


def _shots(row: Row, fps: Fraction) -> Iterator[Shot]:
    """The row's shots, with what they leave out taken from the row."""
    for shot in row["shots"]:
        frames = shot.get("duration_frames")
        later = [
            PromptSpan(
                span["prompt"], frames_of(span["start_s"], fps), frames_of(span.get("blend_s") or 0, fps)
            )
            for span in shot.get("prompts") or []
        ]
        yield Shot(
            shot_id=shot["shot_id"],
            n_frames=frames if frames is not None else frames_of(shot["duration_s"], fps),
            prompts=(PromptSpan(_text(shot, "prompt") or _text(row, "prompt")), *later),
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


def _shot_task(image: str | None, shot: Shot, one: Stock, picture: Picture) -> ShotTask:
    profile, facts = one.profile, one.facts
    sampling = profile.sampling
    height_px, width_px = (side // profile.picture.upscale for side in (picture.height_px, picture.width_px))
    layout, stitch = stitching(shot, one, height_px, width_px)
    return ShotTask(
        model=one.model,
        shot=shot,
        sampling=Sampling(sampling.n_steps, sampling.guidance_scale, sampling.scheduler),
        layout=layout,
        height_px=height_px,
        width_px=width_px,
        max_text_tokens=facts.max_text_tokens,
        given=given_task(image, one.roots, one.model, height_px, width_px) if image else None,
        stitch=stitch,
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
    )
