"""Which rows of a batch must be looked at one by one, and which are surely sound: asked of whole columns.

A million lessons have millions of titles and narrations. That most of them can be drawn and spoken follows
from bounds: a title takes no more room than its words, a narration no longer than its letters. Decides:
what is surely sound. Does not decide: what is wrong with the rest (checks), which has the last word.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from engine.camera import parse_camera
from engine.film.shaping import Extent, extent_of
from engine.film.titles import room_em
from engine.takes import CLIP, FIRST, LAST, SOURCE
from jobs.assets import column_of
from jobs.pace import surely_fit
from jobs.profile import Profile
from manifests.findings import Level, Levels, floats
from manifests.texts import coded, given, places, taken, words
from manifests.times import whole_frames

WORDS = 65_536  # remembered
SPACE_EM = 0.35  # more than a space is wide in any of the typefaces
MARGIN = 1.1  # by which a title's words are taken for larger, as neighbours may be set apart
NO_EXTENT = Extent(float("inf"), float("-inf"), float("inf"))


def unsure(levels: Levels, profiles: Mapping[str, Profile]) -> Any:
    """Which of these rows, all of known profiles and sound as far as the table tells, must be looked at.

    Numpy bool, one a row.
    """
    frames = Frames(levels, profiles)
    doubt = with_files(levels)
    doubt[levels.shots.rows[_moving(levels.shots)]] = True
    doubt[levels.languages.rows[_wide(levels, frames)]] = True
    doubt[levels.segments.rows[_long(levels, frames)]] = True
    return doubt


class Frames:
    """Sizes, rates and lengths of shots of some rows, as planning will count them; numpy."""

    def __init__(self, levels: Levels, profiles: Mapping[str, Profile]) -> None:
        rows, shots = levels.rows, levels.shots
        codes, names = coded(rows.column("profile"))
        own = [profiles[name].picture for name in names]

        def filled(column: str) -> Any:
            asked, stock = floats(rows.column(column)), np.array([getattr(one, column) for one in own])
            return np.where(np.isnan(asked), stock[codes], asked).astype(np.int64)

        self.profile, self.names = codes, names
        self.width_px, self.height_px = filled("width_px"), filled("height_px")
        self.num, self.den = filled("fps_num"), filled("fps_den")
        num, den = (part[shots.rows].astype(np.float64) for part in (self.num, self.den))
        given_frames = floats(shots.column("duration_frames"))
        rounded = whole_frames(floats(shots.column("duration_s")), num, den)
        self.of_shot = np.where(np.isnan(given_frames), rounded, given_frames).astype(np.int64)
        self.seconds = self.of_shot * den / num


def with_files(levels: Levels) -> Any:
    """Rows with a shot that is given a file, numpy bool."""
    found = np.zeros(len(levels.rows.rows), bool)
    for role in (FIRST, LAST, CLIP, SOURCE):
        found[levels.shots.rows[given(levels.shots.column(column_of(role)))]] = True
    return found


def _moving(shots: Level) -> Any:
    """Shots whose camera does what is not known."""
    codes, cameras = coded(shots.column("camera"))
    return np.array([*(not _known(asked) for asked in cameras), False])[codes]


@lru_cache(WORDS)
def _known(camera: str) -> bool:
    try:
        return not camera.strip() or bool(parse_camera(camera.strip()))
    except ValueError:
        return False


def _long(levels: Levels, frames: Frames) -> Any:
    """Narrations that may be longer than their shots."""
    shots, segments = levels.shots, levels.segments
    shot = places(segments.keys("shot_id", segments.rows), shots.keys("shot_id", shots.rows))
    codes, langs = coded(levels.languages.column("lang"))
    texts, code = segments.column("text"), codes[segments.parent]
    long = np.ones(len(code), bool)
    for number, lang in enumerate(langs):
        at = np.flatnonzero(code == number)
        long[at] = ~surely_fit(taken(texts, at), lang, frames.seconds[shot[at]])
    return long


def _wide(levels: Levels, frames: Frames) -> Any:
    """Languages whose titles may not fit the picture, or cannot be drawn."""
    rows, languages = levels.rows, levels.languages
    codes, langs = coded(languages.column("lang"))
    own = given(languages.column("title"))
    lent = np.flatnonzero(~own & given(rows.column("title"))[languages.rows])
    wide, own = np.zeros(len(codes), bool), np.flatnonzero(own)
    for titles, at, place in (
        (languages.column("title"), own, own),
        (rows.column("title"), lent, languages.rows[lent]),
    ):
        for number, lang in enumerate(langs):
            one = codes[at] == number
            rooms = _rooms(frames, languages.rows[at[one]])
            wide[at[one]] = _too_wide(taken(titles, place[one]), lang, rooms)
    return wide


def _rooms(frames: Frames, rows: Any) -> Any:
    """The room of each row's titles: numpy (n, 2), width and height in em."""
    sizes = np.stack([frames.width_px[rows], frames.height_px[rows]], axis=1)
    distinct, at = np.unique(sizes, axis=0, return_inverse=True)
    rooms = np.array([room_em(int(w), int(h)) for w, h in distinct]).reshape(-1, 2)
    return rooms[at.reshape(-1)]


def _too_wide(titles: Any, lang: str, rooms: Any) -> Any:
    """Titles whose words may be too wide for a line, or too tall, or cannot be drawn."""
    owner, codes, vocabulary = words(titles, digit="0")
    extents = [_extent(word, lang) or NO_EXTENT for word in vocabulary]
    width, low, high = (
        np.array([getattr(each, name) for each in extents])[codes] for name in ("width", "bottom", "top")
    )
    total, bottom, top = np.zeros(len(titles)), np.zeros(len(titles)), np.zeros(len(titles))
    np.add.at(total, owner, width + SPACE_EM)
    np.minimum.at(bottom, owner, low)
    np.maximum.at(top, owner, high)
    blank = np.bincount(owner, minlength=len(titles)) == 0
    return blank | ~((MARGIN * total <= rooms[:, 0]) & (MARGIN * (top - bottom) <= rooms[:, 1]))


@lru_cache(WORDS)
def _extent(word: str, lang: str) -> Extent | None:
    return extent_of(word, lang)
