"""A film's figures for people, as tables, and for scripts, as JSON values."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.quality.film import FilmQuality, ShotQuality
from engine.quality.scores import OK, OVER, UNCLEAR, Figure, figures, layout_note, overall

STYLES = {OK: "green", OVER: "bold red", UNCLEAR: "yellow", "": ""}
SHORT = {
    "seam_difference": "diff.",
    "seam_warp_error": "warp",
    "seam_jerk": "jerk",
    "folding": "folding",
    "softness": "sharp",
    "drift_de_per_min": "dE/min",
    "luma_flicker": "flicker",
    "dynamic_degree": "motion",
}  # columns of the table of shots


def print_figures(film: FilmQuality, notes: Sequence[str], plot: Path) -> None:
    """A table of the film, one of its shots if there are several, and what must be known to read them."""
    console = Console(highlight=False, markup=False)
    shots = [figures(shot.scores) for shot in film.shots]
    console.print(_film_table(film, overall(shots), len(shots)))
    if len(shots) > 1:
        console.print(_shot_table(film.shots, shots))
    for note in notes:
        console.print(f"note: {note}", soft_wrap=True)
    console.print(f"plot: {plot}", soft_wrap=True)


def _film_table(film: FilmQuality, values: Sequence[Figure], n_shots: int) -> Table:
    video, layout = film.video, layout_note([shot.span for shot in film.shots])
    facts = f"{video.n_frames} frames, {float(video.n_frames / video.fps):.1f} s"
    title = Text(", ".join(part for part in (video.path.name, facts, layout) if part))
    table = Table(box=SIMPLE, title=title, title_justify="left", padding=(0, 1, 0, 0))
    table.add_column("" if n_shots == 1 else f"median of {n_shots} shots", no_wrap=True)
    table.add_column("film", justify="right")
    table.add_column("gate", justify="right")
    for name in ("", ""):
        table.add_column(name)
    for value in values:
        style = STYLES[value.verdict]
        table.add_row(value.words, value.shown, value.gate, Text(value.verdict, style), value.note)
    return table


def _shot_table(shots: Sequence[ShotQuality], values: Sequence[Sequence[Figure]]) -> Table:
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("shot", no_wrap=True, max_width=16)
    table.add_column("seams", justify="right", no_wrap=True)
    for words in SHORT.values():
        table.add_column(words, justify="right", no_wrap=True)
    for shot, row in zip(shots, values, strict=True):
        found = {value.name: value for value in row}
        cells = [Text(found[name].shown, STYLES[found[name].verdict]) for name in SHORT]
        seams = shot.span.seams
        table.add_row(Text(shot.span.label), "?" if seams is None else str(len(seams)), *cells)
    return table


def facts(film: FilmQuality, notes: Sequence[str], plot: Path) -> dict[str, Any]:
    """All that was measured, as JSON values; a figure that cannot be measured is null."""
    video = film.video
    rows = [figures(shot.scores) for shot in film.shots]
    return {
        "film": str(video.path),
        "frames": video.n_frames,
        "fps": str(video.fps),
        "width_px": video.width_px,
        "height_px": video.height_px,
        "notes": list(notes),
        "plot": str(plot),
        "figures": _by_name(overall(rows)),
        "shots": [_shot(shot, row) for shot, row in zip(film.shots, rows, strict=True)],
    }


def _by_name(values: Sequence[Figure]) -> dict[str, dict[str, Any]]:
    return {
        value.name: {"value": value.value, "limit": value.limit, "verdict": value.verdict or None}
        | ({"note": value.note} if value.note else {})
        for value in values
    }


def _shot(shot: ShotQuality, values: Sequence[Figure]) -> dict[str, Any]:
    """One shot: where it lies, its figures, and what they were made from."""
    scores, span = shot.scores, shot.span
    return {
        "shot": span.label,
        "start": span.start,
        "stop": span.stop,
        "seams": None if span.seams is None else [[seam.start, seam.stop] for seam in span.seams],
        "figures": _by_name(values),
        "seam_index": {name: asdict(index) for name, index in scores.seam_index.items()},
        "folding": scores.folding and asdict(scores.folding),
        "drift": scores.drift and asdict(scores.drift),
        "identity": [asdict(lag) for lag in scores.identity],
        "inliers": list(scores.inliers),
    }
