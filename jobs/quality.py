"""How good a film is: seams, drift, flicker and smoothness of any video, as a table and as a picture.

Decides where the windows of a film met: at frames that are named, or as in the plan that rendered it. Does
not decide how anything is measured (`engine.quality`) or what a plan is (`jobs.plan`).
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.outcome import DONE, INVALID
from jobs.refusal import Refused

if TYPE_CHECKING:  # what a command loads, it loads when it is called
    from cluster.tasks import FilmTasks, SegmentTask
    from engine.quality.film import FilmQuality
    from engine.quality.layout import Seam, Span
    from engine.quality.video import Video

TITLE_S = 3.0  # a title is burnt into a film's first seconds (engine.film.finish)
NO_LAYOUT = (
    "where windows met is not known, so seams, folding and softness are not measured: "
    "give --manifest, --stride or --seams"
)


@dataclass(frozen=True)
class Plan:
    """What of a film is measured, and what a reader must know about that."""

    spans: "tuple[Span, ...]"
    notes: tuple[str, ...]


def quality(arguments: argparse.Namespace) -> int:
    """Measure one film: print its figures and draw them. Exit 0 whatever they are."""
    from jobs.quality_table import facts, print_figures

    _check_words(arguments)
    out = _plot_path(arguments)
    film, notes = _measured(arguments)
    _draw(film, out)
    if arguments.output == "json":
        print(json.dumps(facts(film, notes, out), ensure_ascii=False, indent=1))
    else:
        print_figures(film, notes, out)
    return DONE


def _measured(arguments: argparse.Namespace) -> "tuple[FilmQuality, tuple[str, ...]]":
    """The film's figures, and what a reader must know about them."""
    from engine.quality.film import measure_film
    from engine.quality.video import open_video

    try:
        video = open_video(arguments.film)
        plan = plan_of(arguments, video)
        film = measure_film(video, plan.spans)
    except ValueError as error:
        raise Refused(str(error)) from error
    short = [f"{span.label} is left out: {len(span)} frames are too few" for span in film.short]
    return film, (*plan.notes, *short)


def _draw(film: "FilmQuality", out: Path) -> None:
    from engine.quality.plot import draw_quality

    try:
        draw_quality(film, out)
    except OSError as error:
        raise Refused(f"cannot write {out}: {error.strerror}; --plot names another place") from error


def _check_words(arguments: argparse.Namespace) -> None:
    """Refuse options that contradict each other, would be ignored, or mean nothing."""
    by_hand = [
        name for name in ("seams", "stride", "cuts", "compression") if getattr(arguments, name) is not None
    ]
    if arguments.manifest and by_hand:
        raise Refused(f"--manifest tells the layout, and so does --{by_hand[0]}: give one of them")
    if not arguments.manifest and (arguments.overrides or arguments.config or arguments.row):
        raise Refused("--config, --row and key.sub=value are about a manifest: give --manifest as well")
    if arguments.overlap is not None and arguments.seams is None and arguments.stride is None:
        raise Refused("--overlap alone tells no layout: give --stride or --seams as well")
    if arguments.compression == 0:
        raise Refused("--compression 0: a latent frame holds at least 1 pixel frame")


def _plot_path(arguments: argparse.Namespace) -> Path:
    """Where the picture goes: beside the film, unless named."""
    out: Path = arguments.plot or arguments.film.with_name(f"{arguments.film.stem}.quality.png")
    if out.suffix.lower() != ".png":
        raise Refused(f"--plot {out}: the picture is a PNG; name it .png")
    if not out.parent.is_dir():
        raise Refused(f"--plot {out}: there is no folder {out.parent}")
    return out


def plan_of(arguments: argparse.Namespace, video: "Video") -> Plan:
    """The spans to measure. Raises ValueError or Refused where they do not fit the film."""
    plan = _planned(arguments, video) if arguments.manifest else _by_hand(arguments, video)
    if not arguments.skip:
        return plan
    n = round(arguments.skip * float(video.fps))
    note = f"the first {arguments.skip:g} s are left out, as asked"
    return Plan(without_start(plan.spans, n), (*plan.notes, note))


def without_start(spans: "Sequence[Span]", n_frames: int) -> "tuple[Span, ...]":
    """The spans without what they hold of the film's first n_frames."""
    return tuple(span.without(n_frames - span.start) for span in spans if span.stop > n_frames)


def _by_hand(arguments: argparse.Namespace, video: "Video") -> Plan:
    """The layout that the command itself tells, if any."""
    from engine.quality.layout import spans_between

    seams = _seams_by_hand(arguments, video.n_frames)
    notes = () if seams is not None else (NO_LAYOUT,)
    spans = spans_between(arguments.cuts or (), video.n_frames, seams, arguments.compression or 1)
    return Plan(spans, notes)


def _seams_by_hand(arguments: argparse.Namespace, n_frames: int) -> "tuple[Seam, ...] | None":
    from engine.quality.layout import seams_at, seams_every

    overlap = arguments.overlap or 0
    if arguments.stride is not None:
        seams = seams_every(arguments.stride, overlap, n_frames)
        if not seams:
            raise Refused(f"--stride {arguments.stride}: no seam lies inside the film's {n_frames} frames")
        return seams
    if arguments.seams is None:
        return None
    return seams_at(arguments.seams, overlap)


def _planned(arguments: argparse.Namespace, video: "Video") -> Plan:
    """The layout of the plan that rendered the film: its windows, its cuts, its title."""
    from jobs.holding import notes_of

    film = _film_of(arguments)
    shots = film.master.segments
    planned = sum(segment.source.shot.n_frames for segment in shots)
    if planned != video.n_frames:
        raise Refused(
            f"{arguments.film} has {video.n_frames} frames, and {film.row_id} of {arguments.manifest} plans "
            f"{planned}: give the manifest and the settings that rendered it"
        )
    spans, notes = spans_of(shots), tuple(notes_of(shots, arguments.film))
    if not _titled(film, arguments.film):
        return Plan(spans, notes)
    n = -(-TITLE_S * video.fps.numerator // video.fps.denominator)
    note = f"the first {TITLE_S:g} s are left out: they carry the title"
    return Plan(without_start(spans, min(int(n), len(spans[0]))), (note, *notes))


def spans_of(segments: "Sequence[SegmentTask]") -> "tuple[Span, ...]":
    """Every shot of a film with the seams of the windows that it was denoised in."""
    from engine.quality.layout import Seam, Span, seams_of_weights

    spans, start = [], 0
    for segment in segments:
        task, n_frames, hidden = segment.source, segment.source.shot.n_frames, segment.source.hidden_frames
        found = seams_of_weights(task.shown_weights, hidden + n_frames, *task.layout.clock)
        seams = tuple(Seam(one.start - hidden, one.stop - hidden) for one in found if one.start > hidden)
        spans.append(
            Span(task.shot.shot_id, start, start + n_frames, seams, task.layout.temporal_compression)
        )
        start += n_frames
    return tuple(spans)


def _film_of(arguments: argparse.Namespace) -> "FilmTasks":
    """The film's tasks: of the row that is named, else that of the file's name, else the only one."""
    from jobs.job import Invalid, prepare
    from jobs.preview import findings_text, spec_of

    try:
        job = prepare(arguments.manifest, spec_of(arguments), exact=False)
    except Invalid as error:
        raise Refused(findings_text(error.findings, error.n_rows), INVALID) from error
    wanted = arguments.row or arguments.film.name.removesuffix(arguments.film.suffix).rpartition(".")[0]
    for film in job.films:
        if film.row_id == wanted or (job.n_films == 1 and not arguments.row):
            return film
    hint = "no such row" if arguments.row else "name its row with --row"
    raise Refused(f"{arguments.manifest} has {job.n_films} films, none of them {wanted or 'named'!r}: {hint}")


def _titled(film: "FilmTasks", path: Path) -> bool:
    """Whether a title is burnt into the file: that of its language, or of any where that is unclear."""
    own = [version for version in film.versions if path.stem.endswith(f".{version.lang}")]
    return any(version.title for version in own or film.versions)
