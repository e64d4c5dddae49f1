"""Files that shots are given: which a model takes, what goes together, and where they may lie.

Does not decide whether a file can be read, or is long enough: that is checked above this room.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests.findings import Finding, Level, floats
from manifests.places import plain_path

# The columns, with what each names, in an order in which later ones are refused beside earlier ones.
ASSETS = {
    "source_video_uri": "video",
    "extend_uri": "clip",
    "first_frame_uri": "first frame",
    "last_frame_uri": "last frame",
}
_ALONE = {  # what a column cannot stand beside
    "extend_uri": ("source_video_uri",),
    "first_frame_uri": ("source_video_uri", "extend_uri"),
    "last_frame_uri": ("source_video_uri",),
}


def asset_findings(
    shots: Level, profile: str, takes: frozenset[str], needs: frozenset[str], roots: tuple[Path, ...]
) -> Iterator[Finding]:
    """Files that the profile's model takes, all that it needs, in a sound choice, below an allowed root."""
    for field, name in ASSETS.items():
        given = pc.is_valid(shots.column(field))
        hint = f"remove it, or choose another profile than {profile}"
        if field not in takes:
            message = f"{{v!r}}: the model of this profile takes no {name}"
            yield from shots.report(given, "E313_NOT_TAKEN", field, message, hint)
            continue
        if field in needs:
            message = f"the model of this profile draws no shot without a {name}"
            hint = f"give a picture, or choose another profile than {profile}"
            yield from shots.report(pc.invert(given), "E317_NEEDED", field, message, hint)
        yield from _places(shots, field, roots)
    yield from _choices(shots)
    yield from _strengths(shots)


def _choices(shots: Level) -> Iterator[Finding]:
    """One way to begin: from a video, a clip or a picture."""
    for field, others in _ALONE.items():
        for other in others:
            both = pc.and_(pc.is_valid(shots.column(field)), pc.is_valid(shots.column(other)))
            message = f"{{v!r}}: {other} is given too, and a shot begins in one way"
            yield from shots.report(both, "E315_GIVEN_CHOICE", field, message, "give one of the two")


def _strengths(shots: Level) -> Iterator[Finding]:
    """A strength is of a video that is redrawn, and redraws."""
    strength, given = shots.column("strength"), pc.is_valid(shots.column("strength"))
    alone = pc.and_(given, pc.is_null(shots.column("source_video_uri")))
    share = np.nan_to_num(floats(strength), nan=0.0)
    outside = pc.and_(pc.and_(given, pc.invert(alone)), pa.array(~((share > 0) & (share <= 1))))
    range_hint = "give a share of the steps, such as 0.6: the higher, the less is left of the video"
    for bad, message, hint in (
        (alone, "strength {v} of no video", "give source_video_uri, or no strength"),
        (outside, "strength {v} is not above 0 and at most 1", range_hint),
    ):
        yield from shots.report(bad, "E316_STRENGTH", "strength", message, hint)


def _places(shots: Level, field: str, roots: tuple[Path, ...]) -> Iterator[Finding]:
    """Local files below an allowed root, each distinct path looked up once."""
    uris = shots.column(field)
    codes = {uri: find_asset(uri, roots) for uri in pc.unique(uris).to_pylist() if uri is not None}
    below = "move the file below an allowed root" if roots else "name the folder of files: roots=[FOLDER]"
    for code, note, hint in (
        ("E310_ASSET_404", "no such file", "check the path"),
        ("E311_ASSET_OUTSIDE", "path is outside the allowed roots", below),
        ("E312_ASSET_SCHEME", "only local paths are read", "copy the file to an allowed root"),
    ):
        named = [uri for uri, c in codes.items() if c == code]
        bad = pc.is_in(uris, value_set=pa.array(named, pa.string()))
        yield from shots.report(bad, code, field, "{v!r}: " + note, hint)


def find_asset(uri: str, roots: tuple[Path, ...]) -> Path | str:
    """Where the file lies, below one of the roots; or the code of what is wrong with its path."""
    if "://" in uri and not uri.startswith("file:///"):
        return "E312_ASSET_SCHEME"
    try:
        allowed = [root.resolve() for root in roots]
        places = [(root / plain_path(uri)).resolve() for root in allowed]
        inside = [p for p in places if any(p.is_relative_to(root) for root in allowed)]
        # Outside is decided first, so that a finding never tells whether a foreign file exists.
        if not inside:
            return "E311_ASSET_OUTSIDE"
        return next((p for p in inside if p.is_file()), "E310_ASSET_404")
    except (OSError, RuntimeError, ValueError):  # symlink loops, null bytes, names too long
        return "E310_ASSET_404"
