"""Validation of a manifest, and its deeper pass: what needs the engine's typefaces, its voice, or a file.

Decides whether a title can be drawn, a narration fits its shot, a given file is what it should be and a
camera's move is known. Does not decide what the table alone can tell (manifests.validate); rows that come
here have passed that.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.camera import MOVES, SPEEDS, STATIC, parse_camera
from engine.film import voice
from engine.film.shaping import check_text
from engine.film.titles import draw_title
from engine.takes import LAST
from jobs.assets import asset_fault, column_of, given_of
from jobs.pace import surely_fits, surely_too_long
from jobs.plan import fps_of, frames_of, size_of
from jobs.profile import Profile
from jobs.sifting import unsure, with_files
from jobs.spec import JobSpec
from jobs.stitching import DRAFTED, blends_only, refusal, unending
from jobs.stock import Stock, limits_of, roots_of
from manifests.findings import Finding, Levels, faulty_rows, short
from manifests.source import Manifest
from manifests.validate import validated

Row = Mapping[str, Any]
Fault = tuple[str, str, str]  # code, message, hint
CACHED = 65_536  # answers; equal narrations of a series' opening and closing are spoken once


def check(manifest: Manifest, stocked: dict[str, Stock], spec: JobSpec) -> list[Finding]:
    """All findings: those of the table, then, where it is sound, those that need voice and typefaces."""
    found: list[Finding] = []
    for levels, findings in validated(manifest.links, manifest.batches(), limits_of(stocked)):
        sound = levels.without(faulty_rows(findings))
        deep = _deep(sound, stocked, spec) if len(sound.rows.data) else ()
        found += sorted([*findings, *deep], key=lambda finding: finding.row_index)
    return found


def _deep(levels: Levels, stocked: dict[str, Stock], spec: JobSpec) -> Iterator[Finding]:
    """The findings of sound rows that need voice, typefaces or files; most rows need no look."""

    def profile(row: Row) -> Profile:
        return stocked[row["profile"]].profile

    doubt = unsure(levels, {name: one.profile for name, one in stocked.items()})
    yield from deep_findings(
        levels.pairs(doubt),
        lambda row: fps_of(row, profile(row)),
        lambda row: size_of(row, profile(row)),
        roots_of(spec),
    )
    given = with_files(levels)
    if any(one.profile.window.mode in DRAFTED for one in stocked.values()):
        only = any(blends_only(one, ()) for one in stocked.values())
        yield from _stitched(levels.pairs(given | only), stocked)
    if any(LAST in one.takes.may for one in stocked.values()):
        yield from _ended(levels.pairs(given), stocked)
    if not all(one.facts.reads_text for one in stocked.values()):
        yield from _unheard(levels.pairs(given), stocked)


def _stitched(rows: Iterable[tuple[int, Row]], stocked: Mapping[str, Stock]) -> Iterator[Finding]:
    """Shots that cannot be stitched as their profile says."""
    for index, row in rows:
        one = stocked[row["profile"]]
        mode, fps = one.profile.window.mode, fps_of(row, one.profile)
        for place, shot in enumerate(row["shots"]):
            if why := refusal(one, given_of(shot), _frames(shot, fps)):
                message = f"window.mode={mode} of profile {row['profile']}: {why}"
                hint = "use window.mode=auto or blend, or shorten the shot to one window"
                yield Finding(index, row["row_id"], "E408_ONLY_BLENDED", f"/shots/{place}", message, hint)


def _ended(rows: Iterable[tuple[int, Row]], stocked: Mapping[str, Stock]) -> Iterator[Finding]:
    """Shots that cannot end with the picture that they are given."""
    for index, row in rows:
        one = stocked[row["profile"]]
        fps = fps_of(row, one.profile)
        for place, shot in enumerate(row["shots"]):
            n_frames = _frames(shot, fps)
            if why := unending(one, given_of(shot), n_frames):
                hint = "change its length, or cut it into shots that share a picture"
                message, path = f"the shot has {n_frames} frames: {why}", f"/shots/{place}"
                yield Finding(index, row["row_id"], "E409_LAST_FRAME", path, message, hint)


def _unheard(rows: Iterable[tuple[int, Row]], stocked: Mapping[str, Stock]) -> Iterator[Finding]:
    """Cameras of models that read no words, which all draw from pictures: nothing would tell them a move."""
    for index, row in rows:
        for place, shot in enumerate(row["shots"]):
            asked = (shot.get("camera") or "").strip()
            if asked and not stocked[row["profile"]].facts.reads_text:
                message = f"camera {short(asked)!r}: the model of profile {row['profile']} reads no words"
                hint = "leave the camera out, or choose another profile"
                yield Finding(
                    index, row["row_id"], "E506_CAMERA_UNHEARD", f"/shots/{place}/camera", message, hint
                )


def deep_findings(
    rows: Iterable[tuple[int, Row]],
    fps_of: Callable[[Row], Fraction],
    size_of: Callable[[Row], tuple[int, int]] | None = None,
    roots: tuple[Path, ...] = (),
) -> Iterator[Finding]:
    """Findings of (place in the manifest, sound row) pairs, in that order.

    `fps_of` gives a row's frames a second; `size_of` its (width, height) in px, without which no title is
    checked for fitting its picture. Given files lie below `roots`.
    """
    for index, row in rows:
        size, fps = size_of(row) if size_of else None, fps_of(row)
        told: set[tuple[str, Fault]] = set()
        for path, fault in [
            *_titles(row, size),
            *_narrations(row, fps),
            *_assets(row, fps, roots),
            *_cameras(row),
        ]:
            if (path, fault) not in told:  # a row's title serves every language without its own
                told.add((path, fault))
                code, message, hint = fault
                yield Finding(index, row["row_id"], code, path, message, hint)


def _titles(row: Row, size: tuple[int, int] | None) -> Iterator[tuple[str, Fault]]:
    """Faults of the titles that will be drawn: each language's own, or the row's."""
    for place, language in enumerate(row.get("languages") or []):
        own = language.get("title")
        text = own or row.get("title")
        fault = _title_fault(text, language["lang"], size) if text else None
        if fault:
            yield (f"/languages/{place}/title" if own else "/title"), fault


@lru_cache(CACHED)
def _title_fault(text: str, lang: str, size: tuple[int, int] | None) -> Fault | None:
    shown = repr(short(text))
    if all(sign.isspace() or unicodedata.category(sign) == "Cf" for sign in text):
        return "E602_TITLE_GLYPHS", f"title {shown} has nothing to draw", "leave it out"
    report = check_text(text, lang)
    if not report.ok:
        what = [f"no typeface has {' '.join(map(repr, report.missing[:10]))}"] if report.missing else []
        if report.dotted_circles:
            what.append(f"signs without a letter to sit on: {report.dotted_circles}")
        return "E602_TITLE_GLYPHS", f"title {shown}: {'; '.join(what)}", "write the title without them"
    try:
        if size:
            draw_title(text, lang, *size)
    except ValueError as error:
        message = str(error).replace(repr(text), shown)
        return "E603_TITLE_FIT", message, "shorten the title, or leave it out"
    return None


def _narrations(row: Row, fps: Fraction) -> Iterator[tuple[str, Fault]]:
    """Faults of the narrations, each held against the shot that it is spoken over."""
    length_s = {shot["shot_id"]: float(_frames(shot, fps) / fps) for shot in row["shots"]}
    for place, language in enumerate(row.get("languages") or []):
        for number, segment in enumerate(language.get("segments") or []):
            text, most = segment["text"], length_s[segment["shot_id"]]
            if surely_fits(text, language["lang"], most):
                continue
            fault = _narration_fault(text, language["lang"], most)
            if fault:
                yield f"/languages/{place}/segments/{number}/text", fault


@lru_cache(CACHED)
def _narration_fault(text: str, lang: str, max_s: float) -> Fault | None:
    if surely_too_long(text, max_s):
        message = f"the narration has {len(text)} characters and the shot has {max_s:.2f} s"
        return "E601_NARRATION_LONG", message, f"cut it to about {15 * max_s:.0f} characters"
    try:
        voice.fit(text, lang, max_s)
    except voice.NarrationTooLong as error:
        return "E601_NARRATION_LONG", str(error), "cut it, or lengthen the shot"
    except voice.VoiceError as error:  # one text that the voice chokes on must not stop the other rows
        return "E604_NARRATION_UNSPOKEN", f"the voice cannot speak it: {error}", "rewrite the text"
    return None


def _assets(row: Row, fps: Fraction, roots: tuple[Path, ...]) -> Iterator[tuple[str, Fault]]:
    """Faults of the files that shots are given."""
    for place, shot in enumerate(row["shots"]):
        for role, uri in given_of(shot).items():
            if fault := asset_fault(role, uri, roots, _frames(shot, fps), fps):
                yield f"/shots/{place}/{column_of(role)}", fault


def _cameras(row: Row) -> Iterator[tuple[str, Fault]]:
    """Faults of the moves that are asked of cameras."""
    for place, shot in enumerate(row["shots"]):
        asked = (shot.get("camera") or "").strip()
        if asked and (fault := _camera_fault(asked)):
            yield f"/shots/{place}/camera", fault


@lru_cache(CACHED)
def _camera_fault(asked: str) -> Fault | None:
    try:
        parse_camera(asked)
    except ValueError:
        hint = f"give one of {', '.join(MOVES)}; before all but {STATIC} may stand {', '.join(SPEEDS)}"
        return "E505_CAMERA", f"camera {short(asked)!r} is not known", hint
    return None


def _frames(shot: Row, fps: Fraction) -> int:
    """A shot's length as planning will count it."""
    frames = shot.get("duration_frames")
    return frames if frames is not None else frames_of(shot["duration_s"], fps)
