"""A film's quality as one picture: stills, what happens at seams, how it drifts, whether it stays itself.

Decides how it looks. Does not decide what is measured (frames) or which figure is over its gate (scores).
"""

import warnings
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D

from engine.film.encode import whole_file
from engine.quality.film import FilmQuality, ShotQuality
from engine.quality.frames import Series
from engine.quality.scores import OK, OVER, SEAM_INDEX, UNCLEAR, figures, layout_note, overall
from engine.quality.scores import Figure as Value
from engine.quality.seams import NOISE, compared_maxima

SIZE_IN, DPI = (13.0, 10.6), 110
INK, QUIET, PALE, BLUE, ORANGE, SEAM = "#20242c", "#7a828e", "#e6e9ee", "#2f6fb2", "#d9822b", "#f3d9b1"
COLOURS = {OK: "#2e7d5b", UNCLEAR: "#a9791c", OVER: "#b8352a", "": QUIET}
LAB = (("L*", INK), ("a*", "#c0447a"), ("b*", "#c9a227"))
CHIPS = ("seam_difference", "seam_warp_error", "seam_jerk", "folding", "softness", "drift_de_per_min")
CHIP_WORDS = ("difference", "warp error", "jerk", "folding", "sharpness", "drift")
SERIES_WORDS = ("difference", "2nd diff.", "warp error", "jerk")


def draw_quality(film: FilmQuality, out: Path) -> None:
    """Draw the PNG `out`, whole or not at all."""
    figure = Figure(figsize=SIZE_IN, facecolor="white")
    FigureCanvasAgg(figure)  # draws without a screen, and without pyplot's global state
    grid = GridSpec(5, 2, figure, height_ratios=[0.75, 1.45, 1.1, 1.2, 1.6], width_ratios=[1.0, 1.0])
    grid.update(left=0.07, right=0.975, top=0.885, bottom=0.06, hspace=0.55, wspace=0.16)
    _head(figure, film)
    _stills(figure.add_subplot(grid[0, :]), film)
    _changes(figure.add_subplot(grid[1, :]), film)
    _sharpness(figure.add_subplot(grid[2, :]), film)
    _drift(figure.add_subplot(grid[3, :]), film)
    _seams(figure.add_subplot(grid[4, 0]), film)
    _identity(figure.add_subplot(grid[4, 1]), film)
    with whole_file(out) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # of a file name in a script the typeface lacks
        figure.savefig(partial, format="png", dpi=DPI, metadata={"Software": "longtake"})


def _head(figure: Figure, film: FilmQuality) -> None:
    """The film's name and facts on the left, a chip for every gate on the right."""
    video = film.video
    facts = [
        f"{video.n_frames} frames, {float(video.n_frames / video.fps):.1f} s",
        f"{video.width_px}x{video.height_px} px",
        f"{float(video.fps):.4g} frames a second",
        layout_note([shot.span for shot in film.shots]) or "where windows meet is not known",
    ]
    figure.text(0.07, 0.955, video.path.name, size=17, weight="bold", color=INK, parse_math=False)
    figure.text(0.07, 0.935, "   ".join(facts[:-1]), size=9.5, color=QUIET)
    figure.text(0.07, 0.918, facts[-1], size=9.5, color=QUIET)
    values = {value.name: value for value in overall([figures(shot.scores) for shot in film.shots])}
    for place, (name, words) in enumerate(zip(CHIPS, CHIP_WORDS, strict=True)):
        _chip(figure, 0.975 - 0.079 * (len(CHIPS) - 1 - place), words, values[name])


def _chip(figure: Figure, right: float, words: str, value: Value) -> None:
    """A figure and its verdict, in the verdict's colour."""
    colour = COLOURS[value.verdict]
    figure.text(right, 0.962, words, size=8.5, color=QUIET, ha="right")
    figure.text(right, 0.936, value.shown, size=14, color=colour, ha="right", weight="bold")
    below = f"{value.verdict} {value.gate}" if value.verdict else "not measured"
    if value.note.endswith(" shots"):
        below = f"{value.verdict}, {value.note.removesuffix(' shots')}"
    figure.text(right, 0.918, below, size=7.5, color=colour, ha="right")


def _stills(axes: Axes, film: FilmQuality) -> None:
    """Pictures of the film, evenly spaced, each where it lies in time."""
    axes.set_axis_off()
    n = max(len(film.stills), 1)
    axes.set(xlim=(0, n), ylim=(0, 1))
    for place, (index, still) in enumerate(film.stills):
        box = axes.inset_axes((place / n, 0, 0.97 / n, 1))
        box.imshow(still, interpolation="lanczos")
        box.set_axis_off()
        box.set_title(f"{float(index / film.video.fps):.1f} s", size=8, color=QUIET, pad=3)


def _times(film: FilmQuality, shot: ShotQuality) -> Series:
    """Seconds from the film's start of every frame of a shot."""
    return np.asarray(np.arange(shot.span.start, shot.span.stop) / float(film.video.fps), dtype=np.float64)


def _over_time(axes: Axes, film: FilmQuality, title: str, unit: str) -> None:
    """A panel whose x is the film's time: overlaps shaded, cuts as lines."""
    fps = float(film.video.fps)
    _plain(axes, title)
    axes.set_ylabel(unit, size=8.5, color=QUIET)
    axes.set_xlim(0, film.video.n_frames / fps)
    for number, shot in enumerate(film.shots):
        if number:
            axes.axvline(shot.span.start / fps, color=QUIET, lw=0.8, ls=(0, (1, 2)))
        for seam in shot.span.seams or ():
            left, right = (shot.span.start + edge for edge in (seam.start - 0.5, seam.stop + 0.5))
            axes.axvspan(left / fps, right / fps, color=SEAM, alpha=0.75, lw=0, zorder=0)


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(title, size=10.5, loc="left", color=INK, pad=6)
    axes.tick_params(labelsize=8, colors=QUIET, length=2)
    axes.grid(axis="y", color=PALE, lw=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(QUIET)


def _changes(axes: Axes, film: FilmQuality) -> None:
    """What changes from frame to frame, and what of it motion does not explain."""
    known = any(shot.span.seams for shot in film.shots)
    shaded = " (shaded: where windows meet)" if known else ""
    _over_time(axes, film, f"Change from frame to frame{shaded}", "levels of 255")
    for shot in film.shots:
        times, series = _times(film, shot), shot.measured.series
        axes.plot(times, series["difference"], color=BLUE, lw=1.1)
        axes.plot(times, series["warp_error"], color=ORANGE, lw=1.1)
    axes.set_ylim(bottom=0)
    _named(axes, ("all of it", BLUE), ("not explained by motion", ORANGE))


def _named(axes: Axes, *names: tuple[str, str]) -> None:
    """The lines' names in their colours, at the right above the panel."""
    lines = [Line2D([], [], color=colour, label=words) for words, colour in names]
    axes.legend(
        handles=lines,
        ncols=len(lines),
        loc="lower right",
        bbox_to_anchor=(1.0, 0.98),
        borderaxespad=0.0,
        handlelength=1.2,
        columnspacing=1.4,
        frameon=False,
        fontsize=8.5,
        labelcolor="linecolor",
    )


def _sharpness(axes: Axes, film: FilmQuality) -> None:
    """Sharpness of every frame against its shot's median: it falls where windows disagree."""
    _over_time(axes, film, "Sharpness against the shot's median", "%")
    for shot in film.shots:
        x = shot.measured.series["sharpness"]
        middle = float(np.median(x))
        if middle > 0:
            axes.plot(_times(film, shot), 100 * x / middle, color=BLUE, lw=1.1)
    axes.axhline(100, color=QUIET, lw=0.7)


def _drift(axes: Axes, film: FilmQuality) -> None:
    """Mean colour once a second, against the shot's start."""
    _over_time(axes, film, "Colour against the shot's start, once a second", "CIE L*a*b*")
    for shot in film.shots:
        samples = shot.measured.samples
        lab = np.asarray([sample.lab for sample in samples])
        times = _times(film, shot)[[sample.index for sample in samples]]
        for channel, (_, colour) in zip((lab - lab[0]).T, LAB, strict=True):
            axes.plot(times, channel, color=colour, lw=1.2, marker=".", ms=3.5)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -2.0), max(high, 2.0))  # so that rounding does not look like drift
    axes.set_xlabel("seconds", size=8.5, color=QUIET, labelpad=1)
    _named(axes, *LAB)


def _seams(axes: Axes, film: FilmQuality) -> None:
    """Every seam's largest change among those of interior spans, each over its shot's interior median."""
    _plain(axes, "Seams (orange) among spans inside windows (grey)")
    shots = [shot for shot in film.shots if shot.scores.seam_index]
    if not shots:
        return _say(axes, "No seam to measure.\nWhere windows meet is told by a manifest, or by frames.")
    for row, name in enumerate(NOISE):
        for shot in shots:
            _scatter(axes, row, shot, name)
    axes.axvline(SEAM_INDEX, color=COLOURS[OVER], lw=0.9, ls="--")
    axes.set_xscale("log", base=2)
    axes.set_yticks(range(len(NOISE)), SERIES_WORDS)
    axes.set_ylim(len(NOISE) - 0.4, -0.6)
    low, high = axes.get_xlim()
    axes.set_xlim(max(min(low, 0.5), 0.25), min(max(high, 2.0), 64.0))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("times the interior median; dashed: the gate", size=8.5, color=QUIET, labelpad=1)


def _scatter(axes: Axes, row: int, shot: ShotQuality, name: str) -> None:
    x = shot.measured.jerk if name == "jerk" else shot.measured.series[name]
    noise = NOISE[name]
    for own, others in compared_maxima(x, shot.span.seams or (), shot.span.pulse):
        middle = np.median(others) + noise
        spread = np.linspace(-0.22, 0.22, others.size)
        axes.plot((others + noise) / middle, row + spread, ".", color=QUIET, ms=3.5, alpha=0.4)
        place = min((own + noise) / middle, 60.0)
        axes.plot(place, row, "o", color=ORANGE, ms=6, mec="white", mew=0.6, zorder=3)


def _identity(axes: Axes, film: FilmQuality) -> None:
    """How like the shot is to itself, over the distance in time."""
    _plain(axes, "Likeness over distance in time")
    curves = [shot.scores.identity for shot in film.shots if shot.scores.identity]
    if not curves:
        return _say(axes, "Shots too short to compare a shot with itself.")
    for curve in curves:
        lags = [lag.lag_s for lag in curve]
        axes.plot(lags, [1 - lag.distance**2 for lag in curve], color=BLUE, lw=1.2, marker=".", alpha=0.8)
        axes.plot(lags, [lag.correlation for lag in curve], color=ORANGE, lw=1.2, marker=".", alpha=0.8)
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.04)
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds apart; 1 is the same", size=8.5, color=QUIET, labelpad=1)
    _named(axes, ("colours", BLUE), ("layout", ORANGE))


def _say(axes: Axes, words: str) -> None:
    axes.set_axis_off()
    axes.text(0.0, 0.5, words, size=9.5, color=QUIET, va="center", transform=axes.transAxes)
