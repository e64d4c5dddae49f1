"""A manifest's rows as tasks: numbers from the row, the rest from its profile.

Durations become frames here, and nowhere else: seconds times an exact frame rate, rounded half up.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from fractions import Fraction
from functools import partial
from typing import Any

from cluster.identity import Asset, Picture, Sampling
from cluster.shots import GivenTask, ShotTask
from cluster.tasks import VISUAL_ONLY, FilmTasks, MasterTask, Narration, SegmentTask, VersionTask
from engine.camera import Idiom, parse_camera
from engine.takes import CLIP, LAST, SOURCE
from engine.timeline import PromptSpan, Shot
from engine.windows import Layout
from jobs.adapters import shot_adapters
from jobs.assets import asset_of, clip_frames, given_of
from jobs.holding import hold_of
from jobs.profile import Profile
from jobs.stitching import stitching
from jobs.stock import Stock

STRENGTH = 0.8  # of a source video whose shot leaves it out
Row = Mapping[str, Any]


def film_tasks(row: Row, stocked: Mapping[str, Stock], batch: int = 1) -> FilmTasks:
    """The tasks of one validated row, `batch` windows of a shot's step in one forward."""
    one = stocked[row["profile"]]
    picture = _picture(row, one.profile)
    shots = zip(row["shots"], _shots(row, picture.fps, one.idiom), strict=True)
    segments = tuple(_segment(row, asked, shot, one, picture, batch) for asked, shot in shots)
    versions = tuple(_version(row, language, segments) for language in row.get("languages") or [])
    if not versions:
        versions = (VersionTask(segments, VISUAL_ONLY, "", ()),)
    waits_for = tuple(dict.fromkeys(row.get("depends_on") or ()))
    return FilmTasks(row["row_id"], MasterTask(segments), versions, row.get("priority") or 0, waits_for)


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
    """The row's shots."""
    for shot in row["shots"]:
        yield shot_of(row, shot, fps, idiom)


def shot_of(row: Row, shot: Row, fps: Fraction, idiom: Idiom) -> Shot:
    """A shot, with what it leaves out taken from its row."""
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
    return Shot(
        shot_id=shot["shot_id"],
        n_frames=frames if frames is not None else frames_of(shot["duration_s"], fps),
        prompts=(PromptSpan(move(_text(shot, "prompt") or _text(row, "prompt"))), *later),
        negative_prompt=_text(shot, "negative_prompt") or _text(row, "negative_prompt"),
        seed=seed_of(row, shot),
    )


def segment_task(row: Row, asked: Row, one: Stock, batch: int = 1) -> SegmentTask:
    """The tasks of one shot of a validated row."""
    picture = _picture(row, one.profile)
    return _segment(row, asked, shot_of(row, asked, picture.fps, one.idiom), one, picture, batch)


def _text(row: Row, name: str) -> str:
    """A text without the space around it: validation counts a text of spaces as none."""
    return (row.get(name) or "").strip()


def seed_of(row: Row, shot: Row) -> int:
    """The shot's seed, the row's, or one that the row's name gives: never the time of day."""
    for given in (shot.get("seed"), row.get("seed")):
        if given is not None:
            return int(given)
    return int.from_bytes(hashlib.blake2b(row["row_id"].encode(), digest_size=8).digest(), "big") >> 1


def _segment(row: Row, asked: Row, shot: Shot, one: Stock, picture: Picture, batch: int) -> SegmentTask:
    task = replace(_shot_task(row, asked, shot, one, picture), batch=batch)
    hold = hold_of(task, _text(asked, "camera"), one)
    return SegmentTask(task, picture, hold, one.profile.model.tiles)


def _shot_task(row: Row, asked: Row, shot: Shot, one: Stock, picture: Picture) -> ShotTask:
    camera, files = _text(asked, "camera"), given_of(asked)
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
            one.lead_in,
            facts.temporal_compression,
            facts.period,
            facts.window_unit,
            facts.patch_frames,
        ),
        height_px=height_px,
        width_px=width_px,
        max_text_tokens=facts.max_text_tokens,
        adapters=shot_adapters(
            row,
            asked,
            one.adapters,
            parse_camera(camera) if camera else None,
            one.ending if LAST in files else None,
        ),
    )
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
