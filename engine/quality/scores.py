"""A span's figures, and which of them pass their gates.

Decides: what is measured where the layout is known or not, the gates, and what a film's figure is: the median
of its shots'. Does not decide what becomes of a film that is over a gate. The gates are values to start from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.quality.frames import Measured
from engine.quality.identity import Lag, identity_curve
from engine.quality.layout import Span, stride_of
from engine.quality.seams import Folding, SeamIndex, folding, seam_indices, softness
from engine.quality.trends import (
    Drift,
    drift,
    dynamic_degree,
    flicker_score,
    luma_flicker,
    smoothness_score,
)

SEAM_INDEX, CHANCE, SOFTNESS, DE_PER_MIN, FOLDING = 1.15, 0.05, 0.95, 3.0, 2.0
STILL = 0.1  # px a frame: below this next to nothing moves
OK, OVER, UNCLEAR = "ok", "over", "unclear"
WORDS = {
    "seam_difference": ("seam index, frame difference", "{:.2f}"),
    "seam_second_difference": ("seam index, second difference", "{:.2f}"),
    "seam_warp_error": ("seam index, warp error", "{:.2f}"),
    "seam_jerk": ("seam index, motion jerk", "{:.2f}"),
    "folding": ("folding at the stride", "{:.2f}"),
    "softness": ("sharpness, overlaps/inside", "{:.2f}"),
    "drift_de_per_min": ("colour drift, dE a minute", "{:.1f}"),
    "drift_saturation_per_min": ("saturation drift, % a minute", "{:+.0f}"),
    "drift_contrast_per_min": ("contrast drift, % a minute", "{:+.0f}"),
    "drift_sharpness_per_min": ("sharpness drift, % a minute", "{:+.0f}"),
    "drift_de_end": ("colour, end less start, dE", "{:.1f}"),
    "luma_flicker": ("flicker of luma, %", "{:.2f}"),
    "flicker": ("flicker score (VBench)", "{:.4f}"),
    "smoothness": ("smoothness (VBench's way)", "{:.4f}"),
    "dynamic_degree": ("motion, px a frame of 256", "{:.2f}"),
    "identity_near": ("colours change, near", "{:.2f}"),
    "identity_far": ("colours change, far", "{:.2f}"),
    "layout_far": ("layout correlates, far", "{:.2f}"),
    "inliers_least": ("first frame found again", "{:.2f}"),
}  # of every figure: its name for people, and how it is written


@dataclass(frozen=True)
class Scores:
    """All metrics of one span; None, or no entry, where a metric has nothing to compare."""

    span: Span
    seam_index: dict[str, SeamIndex]
    folding: Folding | None
    softness: float | None
    drift: Drift | None
    flicker: float
    luma_flicker: float
    smoothness: float
    dynamic_degree: float
    identity: tuple[Lag, ...]
    inliers: tuple[float, ...]


@dataclass(frozen=True)
class Figure:
    """One metric of a span: its value, its gate if it has one, and whether it passes."""

    name: str
    value: float | None
    limit: float | None = None
    verdict: str = ""
    note: str = ""

    @property
    def words(self) -> str:
        """Its name for people."""
        return WORDS[self.name][0]

    @property
    def shown(self) -> str:
        """Its value for people."""
        return "-" if self.value is None else WORDS[self.name][1].format(self.value)

    @property
    def gate(self) -> str:
        """Its gate for people."""
        if self.limit is None or self.value is None:
            return ""
        return f"{'≥' if self.name == 'softness' else '≤'} {self.limit:.2f}"


def score(span: Span, measured: Measured, fps: float) -> Scores:
    """Every metric of a measured span."""
    seams, series = span.seams or (), measured.series
    found = [anchor.inliers for anchor in measured.anchors]
    return Scores(
        span=span,
        seam_index=seam_indices(measured, span),
        folding=folding(series["warp_error"], seams, span.pulse),
        softness=softness(series["sharpness"], seams),
        drift=drift(measured, fps),
        flicker=flicker_score(series["difference"]),
        luma_flicker=luma_flicker(series["luma"]),
        smoothness=smoothness_score(series["interpolation"]),
        dynamic_degree=dynamic_degree(series["fastest"]),
        identity=identity_curve(measured.anchors, fps),
        inliers=tuple(share for share in found if share is not None),
    )


def figures(scores: Scores) -> list[Figure]:
    """A span's metrics in the order in which people read them."""
    seams = [
        _seam_figure(name, scores.seam_index.get(name))
        for name in ("difference", "second_difference", "warp_error", "jerk")
    ]
    moved = scores.drift
    return [
        *seams,
        _folding_figure(scores),
        _gated("softness", scores.softness, SOFTNESS, low_is_good=False),
        _gated("drift_de_per_min", moved.de_per_min if moved else None, DE_PER_MIN),
        *(
            Figure(f"drift_{name}", getattr(moved, name, None))
            for name in ("saturation_per_min", "contrast_per_min", "sharpness_per_min", "de_end")
        ),
        Figure("luma_flicker", scores.luma_flicker),
        Figure("flicker", scores.flicker),
        Figure("smoothness", scores.smoothness),
        _dynamic_figure(scores.dynamic_degree),
        *_identity_figures(scores),
    ]


def _seam_figure(name: str, index: SeamIndex | None) -> Figure:
    """Over only where it is large in size and in rank; large, yet common inside windows, is unclear."""
    if index is None:
        return Figure(f"seam_{name}", None, SEAM_INDEX)
    verdict = OK if index.ratio <= SEAM_INDEX else OVER if index.p_value <= CHANCE else UNCLEAR
    reached = round(index.share * index.n_interior)
    note = f"{reached} of {index.n_interior} inside reach it"
    return Figure(f"seam_{name}", index.ratio, SEAM_INDEX, verdict, note)


def _folding_figure(scores: Scores) -> Figure:
    folded = scores.folding
    if folded is None:
        return Figure("folding", None)
    limit = FOLDING / folded.periods
    verdict = OK if folded.share <= limit else OVER if folded.p_value <= CHANCE else UNCLEAR
    note = f"{folded.periods:.1f} periods, p {folded.p_value:.3f}"
    return Figure("folding", folded.share, limit, verdict, note)


def _gated(
    name: str, value: float | None, limit: float, *, low_is_good: bool = True, note: str = ""
) -> Figure:
    if value is None:
        return Figure(name, None, limit)
    good = value <= limit if low_is_good else value >= limit
    return Figure(name, value, limit, OK if good else OVER, note)


def _dynamic_figure(value: float) -> Figure:
    still = "next to nothing moves: seams, flicker and smoothness say little" if value < STILL else ""
    return Figure("dynamic_degree", value, note=still)


def _identity_figures(scores: Scores) -> list[Figure]:
    """The curve's two ends, and the worst sight of the first frame."""
    near, far = (scores.identity[0], scores.identity[-1]) if scores.identity else (None, None)
    return [
        Figure("identity_near", near.distance if near else None, note=f"at {near.lag_s:g} s" if near else ""),
        Figure("identity_far", far.distance if far else None, note=f"at {far.lag_s:g} s" if far else ""),
        Figure("layout_far", far.correlation if far else None, note=f"at {far.lag_s:g} s" if far else ""),
        Figure("inliers_least", min(scores.inliers, default=None)),
    ]


def overall(shots: Sequence[Sequence[Figure]]) -> list[Figure]:
    """A film's figures: each the median of its shots', with how many shots are over the gate."""
    if len(shots) == 1:
        return list(shots[0])
    return [_median(same) for same in zip(*shots, strict=True)]


def _median(same: Sequence[Figure]) -> Figure:
    known = [figure for figure in same if figure.value is not None]
    if not known:
        return same[0]
    value = float(np.median([figure.value for figure in known if figure.value is not None]))
    verdicts = [figure.verdict for figure in known]
    worst = next((word for word in (OVER, UNCLEAR, OK) if word in verdicts), "")
    note = f"{verdicts.count(worst)} of {len(known)} shots" if worst in (OVER, UNCLEAR) else ""
    limits = {figure.limit for figure in known}
    return Figure(known[0].name, value, limits.pop() if len(limits) == 1 else None, worst, note)


def layout_note(spans: Sequence[Span]) -> str:
    """What is known of where windows meet."""
    if any(span.seams is None for span in spans):
        return ""
    n = sum(len(span.seams or ()) for span in spans)
    strides = [s for span in spans if (s := stride_of(span.seams or ())) is not None]
    typical = f", {np.median(strides):g} frames apart" if strides else ""
    words = (
        f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in ((n, "seam"), (len(spans), "shot"))
    )
    return f"{' in '.join(words)}{typical}"
