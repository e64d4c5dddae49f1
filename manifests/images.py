"""First-frame images: local files below an allowed root, or none at all for a model that takes none."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from manifests.findings import Finding, Level


def refused_images(shots: Level, profile: str) -> Iterator[Finding]:
    """No first frame for a model that could not start from it."""
    given = pc.is_valid(shots.column("first_frame_uri"))
    message = "{v!r}: the model of this profile takes no image"
    hint = f"remove the image, or choose another profile than {profile}"
    yield from shots.report(given, "E313_NO_IMAGE_INPUT", "first_frame_uri", message, hint)


def image_findings(shots: Level, roots: tuple[Path, ...]) -> Iterator[Finding]:
    """First-frame images: local files below an allowed root, each distinct path looked up once."""
    uris = shots.column("first_frame_uri")
    codes = {uri: find_image(uri, roots) for uri in pc.unique(uris).to_pylist() if uri is not None}
    below = "move the file below an allowed root" if roots else "name the folder of images: roots=[FOLDER]"
    for code, note, hint in (
        ("E310_ASSET_404", "no such file", "check the path"),
        ("E311_ASSET_OUTSIDE", "path is outside the allowed roots", below),
        ("E312_ASSET_SCHEME", "only local paths are read", "copy the image to an allowed root"),
    ):
        named = [uri for uri, c in codes.items() if c == code]
        bad = pc.is_in(uris, value_set=pa.array(named, pa.string()))
        yield from shots.report(bad, code, "first_frame_uri", "{v!r}: " + note, hint)


def find_image(uri: str, roots: tuple[Path, ...]) -> Path | str:
    """Where the image lies, below one of the roots; or the code of what is wrong with its path."""
    if "://" in uri and not uri.startswith("file:///"):
        return "E312_ASSET_SCHEME"
    try:
        allowed = [root.resolve() for root in roots]
        places = [(root / uri.removeprefix("file://")).resolve() for root in allowed]
        inside = [p for p in places if any(p.is_relative_to(root) for root in allowed)]
        # Outside is decided first, so that a finding never tells whether a foreign file exists.
        if not inside:
            return "E311_ASSET_OUTSIDE"
        return next((p for p in inside if p.is_file()), "E310_ASSET_404")
    except (OSError, RuntimeError, ValueError):  # symlink loops, null bytes, names too long
        return "E310_ASSET_404"
