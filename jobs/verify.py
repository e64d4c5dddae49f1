"""What films say about their making, and whether it is true: their Content Credentials against one root."""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.audit import audit_job
from jobs.outcome import DONE, SOME_FAILED, USAGE
from jobs.refusal import Refused

if TYPE_CHECKING:
    from engine.film.provenance import Verdict

UNTRUSTED = "signingCredential.untrusted"
UNREAD = "Unread"  # a state of ours, beside those of C2PA


@dataclass(frozen=True)
class Checked:
    """A film's verdict in words, and facts read from the file; `frames` counted, not taken from a header."""

    film: str
    verdict: str
    trusted: bool
    state: str
    reasons: tuple[str, ...]
    frames: int | None = None
    fps: str | None = None
    width_px: int | None = None
    height_px: int | None = None
    tracks: tuple[str, ...] = ()


def verify(arguments: argparse.Namespace) -> int:
    """Print a verdict a film, also of one that cannot be read: exit 2 then, else 4 unless all are ours.

    With --out, what is named are jobs, and their folders are checked.
    """
    if arguments.out:
        return audit_job(arguments)
    root = _root(arguments)
    if root is None:
        print("longtake: no identity on this machine yet: give --root or --identity", file=sys.stderr)
    films = [check(Path(film), root) for film in arguments.films]
    if arguments.output == "json":
        print(json.dumps([asdict(film) for film in films], ensure_ascii=False, indent=1))
    else:
        print("\n".join(line for film in films for line in _lines(film)))
    if any(film.state == UNREAD for film in films):
        return USAGE
    return DONE if all(film.trusted for film in films) else SOME_FAILED


def check(path: Path, root_pem: str | None) -> Checked:
    """One film, trusting one root certificate."""
    from engine.film.provenance import verify

    try:
        found = verify(path, root_pem)
    except OSError as error:
        return Checked(str(path), f"cannot be read: {error.strerror}", False, UNREAD, ())
    trusted = found.signed and found.state == "Trusted"
    return Checked(
        str(path), words(found, root_pem is not None), trusted, found.state, found.reasons, **_facts(path)
    )


def words(found: "Verdict", has_root: bool) -> str:
    """A verdict as a person says it."""
    if found.state == "Trusted" and found.signed:
        return "signed and unaltered"
    if found.state == "Unsigned":
        return "unsigned"
    if found.state == "Valid":
        return (
            "unaltered, but signed by another root"
            if has_root
            else "unaltered, but there is no root to trust"
        )
    return "altered since it was signed" if found.signed else "damaged: no credentials can be read"


def _root(arguments: argparse.Namespace) -> str | None:
    """The root to trust: one that is named must be there, the default may be absent on a fresh machine."""
    from jobs.spec import JobSpec

    folder = arguments.identity or Path(JobSpec().identity)
    path = arguments.root or folder.expanduser() / "development-identity" / "root.pem"
    try:
        text: str = path.read_text(encoding="ascii")
    except FileNotFoundError as error:
        if arguments.root is None and arguments.identity is None:
            return None
        raise Refused(f"there is no root certificate at {path}") from error
    except OSError as error:
        raise Refused(f"cannot read the root certificate {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise Refused(f"{path} is no certificate in PEM form") from error
    if "BEGIN CERTIFICATE" not in text:
        raise Refused(f"{path} is no certificate in PEM form")
    return text


def _facts(path: Path) -> dict[str, Any]:
    """Frames, rate, size and tracks of a film; nothing of a file that is none."""
    import av

    try:
        with av.open(path) as film:
            picture = film.streams.video[0]
            size = {"width_px": picture.codec_context.width, "height_px": picture.codec_context.height}
            tracks = tuple(f"{s.type} {s.metadata.get('language', 'und')}" for s in film.streams)
            frames = sum(packet.dts is not None for packet in film.demux(picture))
            return {"frames": frames, "fps": str(picture.average_rate), "tracks": tracks} | size
    except (av.FFmpegError, IndexError, OSError):
        return {}


def _lines(film: Checked) -> Iterator[str]:
    yield f"{film.film}: {film.verdict}"
    reasons = [reason for reason in film.reasons if reason != UNTRUSTED]
    if reasons:
        yield f"    {', '.join(reasons)}"
    if film.frames is not None:
        size = f"{film.width_px}x{film.height_px}"
        yield f"    {film.frames} frames at {film.fps}/s, {size}, {', '.join(film.tracks)}"
