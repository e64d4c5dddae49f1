"""Claims about quality's metrics: each fires on its own injected fault, and on no other.

The clips are drawn here: a camera that sways over a picture of noise, a disc on its way. Five windows begin
40 frames apart and share 8 frames; the faults are put in where they would be.
"""

import weakref
from collections.abc import Callable, Iterator
from functools import cache

import cv2
import numpy as np
import pytest

from engine.quality.film import sample_indices
from engine.quality.flow import fastest, flow_between, luma_of, warp_error
from engine.quality.frames import measure_frames
from engine.quality.identity import MOST_ANCHORS, Anchor, identity_curve
from engine.quality.layout import (
    Seam,
    Span,
    interior,
    seams_at,
    seams_every,
    seams_of_weights,
    spans_between,
    stride_of,
    window_centres,
)
from engine.quality.scores import OK, OVER, UNCLEAR, Figure, Scores, figures, overall, score
from engine.quality.seams import folding, seam_index, softness
from engine.quality.trends import slope
from engine.quality.video import working_size
from engine.windows import blend_weights, plan_windows

cv2.setNumThreads(1)
N, STRIDE, OVERLAP, FPS = 200, 40, 8, 8.0
H, W, FINE = 96, 160, 3
SEAMS = seams_every(STRIDE, OVERLAP, N)
LEFT, RED, BLUE = np.array([2.5, 2.0]), (230, 60, 40), (40, 90, 230)
GATED = {"seam_difference", "seam_second_difference", "seam_warp_error", "seam_jerk"}
GATED |= {"folding", "softness", "drift_de_per_min"}


@cache
def panorama(seed: int) -> np.ndarray:
    """Coloured noise of three grains, finer than the clip and larger than its frame."""
    rng = np.random.default_rng(seed)
    size = (H * FINE + 80, W * FINE + 300, 3)
    layers = (
        s * cv2.GaussianBlur(rng.standard_normal(size).astype(np.float32), (0, 0), s) for s in (2, 6, 12)
    )
    total = sum(layers)
    return np.clip(120 + 38 * (total - total.mean((0, 1))) / total.std((0, 1)), 0, 255)


def world(t: int, shift=(0.0, 0.0), other: float = 0.0) -> np.ndarray:
    """The frame at t; `other` is the share of another picture and another disc."""
    x = 40 + 10 * np.sin(t / 19) + 1.5 * np.sin(t / 7.7) + shift[0]
    y = 12 + 4 * np.sin(t / 15.3) + shift[1]
    noise = panorama(1) if not other else (1 - other) * panorama(1) + other * panorama(2)
    move = np.array([[1, 0, -FINE * x], [0, 1, -FINE * y]])
    view = cv2.warpAffine(noise.astype(np.uint8), move, (W * FINE, H * FINE))
    place = 80 + 40 * np.sin(t / 13.1) + shift[0], 48 + 20 * np.cos(t / 11.7) + shift[1]
    colour = tuple((1 - other) * np.array(RED) + other * np.array(BLUE))
    cv2.circle(view, [round(16 * FINE * p) for p in place], 16 * FINE * 9, colour, -1, cv2.LINE_AA, shift=4)
    return cv2.resize(view, (W, H), interpolation=cv2.INTER_AREA)


def bright(frame: np.ndarray, gain: float = 1.0, offset=0.0) -> np.ndarray:
    return np.clip(np.rint(frame * gain + np.asarray(offset)), 0, 255).astype(np.uint8)


def jumps(t: int) -> np.ndarray:
    """Every window sees the world from elsewhere, and they are cut hard."""
    return world(t, 4 * np.random.default_rng(t // STRIDE).uniform(-1, 1, 2))


def ghosts(t: int) -> np.ndarray:
    """Windows that disagree by some pixels are cross-faded where they overlap."""
    k, into = divmod(t, STRIDE)
    own, before = (world(t, LEFT * (-1) ** i).astype(float) for i in (k, k - 1))
    share = (into + 1) / (OVERLAP + 1) if k and into < OVERLAP else 1.0
    return bright(share * own + (1 - share) * before)


def blurred(t: int) -> np.ndarray:
    soft = t >= STRIDE and t % STRIDE < OVERLAP
    return cv2.GaussianBlur(world(t), (0, 0), 0.8) if soft else world(t)


CLIPS: dict[str, Callable[[int], np.ndarray]] = {
    "none": world,
    "jumps": jumps,
    "ghosts": ghosts,
    "colour steps": lambda t: bright(world(t), offset=np.array([6, 1, -6]) * (t // STRIDE - 2)),
    "colour ramp": lambda t: bright(world(t), offset=np.array([8, 0, -8]) * (2 * t / N - 1)),
    "flicker": lambda t: bright(world(t), 1.03 if t % 2 else 0.97),
    "blurred": blurred,
    "frozen": lambda t: world(0),
    "identity": lambda t: world(t, other=float(np.clip((t - 70) / 60, 0, 1))),
}


@cache
def scores_of(name: str) -> Scores:
    span = Span(name, 0, N, SEAMS)
    seconds, centres = sample_indices(N, FPS), window_centres(SEAMS, N)
    measured = measure_frames((CLIPS[name](t) for t in range(N)), set(seconds), set(centres))
    return score(span, measured, FPS)


def found(name: str) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures(scores_of(name))}


def value(name: str, figure: str) -> float:
    return found(name)[figure].value


def over(name: str) -> set[str]:
    return {figure for figure, it in found(name).items() if it.verdict == OVER}


def test_a_film_without_a_fault_passes_every_gate():
    assert over("none") == set()
    assert {figure for figure, it in found("none").items() if it.verdict == OK} >= GATED - {"seam_jerk"}


@pytest.mark.parametrize(
    ("fault", "fires", "may"),
    [
        ("jumps", {"seam_difference", "seam_second_difference", "seam_jerk"}, set()),
        ("ghosts", {"seam_warp_error", "folding", "softness"}, {"seam_jerk"}),
        ("colour steps", {"seam_warp_error", "drift_de_per_min"}, {"folding"}),
        ("colour ramp", {"drift_de_per_min"}, set()),
        ("flicker", set(), set()),
        ("blurred", {"softness", "seam_warp_error", "folding"}, GATED - {"drift_de_per_min"}),
        ("frozen", set(), set()),
        ("identity", set(), {"drift_de_per_min"}),
    ],
)
def test_a_fault_puts_its_own_figures_over_their_gates_and_no_others(fault, fires, may):
    assert fires <= over(fault) <= fires | may


def test_the_frame_difference_is_blind_to_ghosts_and_the_warp_error_is_not():
    assert abs(value("ghosts", "seam_difference") - value("none", "seam_difference")) < 0.15
    assert value("ghosts", "seam_warp_error") > value("none", "seam_warp_error") + 0.3
    assert value("ghosts", "softness") < 0.8 and abs(value("none", "softness") - 1) < 0.03


def test_flicker_is_measured_in_percent_of_luma_and_steps_are_none():
    assert value("flicker", "luma_flicker") == pytest.approx(3.0, abs=0.15)
    assert value("flicker", "flicker") < value("none", "flicker") - 0.005
    assert value("flicker", "smoothness") < value("none", "smoothness") - 0.01
    for clip in ("none", "jumps", "ghosts", "colour steps", "colour ramp", "blurred", "identity"):
        assert value(clip, "luma_flicker") < 0.05, clip


def test_a_still_wins_smoothness_and_flicker_and_has_no_motion_which_is_said():
    assert (value("frozen", "smoothness"), value("frozen", "flicker")) == (1.0, 1.0)
    assert value("frozen", "dynamic_degree") == 0.0
    assert "next to nothing moves" in found("frozen")["dynamic_degree"].note
    assert value("none", "dynamic_degree") > 1.0 and found("none")["dynamic_degree"].note == ""


def test_only_drift_reads_the_colour_ramp_and_in_units_of_its_own():
    red_L, blue_L = (
        cv2.cvtColor(np.float32([[[120 + d, 120, 120 - d]]]) / 255, cv2.COLOR_RGB2LAB)[0, 0] for d in (-8, 8)
    )
    expected = float(np.linalg.norm(blue_L - red_L)) / (N / FPS / 60)
    assert value("colour ramp", "drift_de_per_min") == pytest.approx(expected, rel=0.25)
    assert value("colour ramp", "drift_de_end") > 5 > value("none", "drift_de_end")


def test_another_picture_changes_the_identity_and_nothing_at_the_seams():
    assert value("identity", "identity_far") > 1.5 * value("none", "identity_far")
    assert value("identity", "inliers_least") < 0.3 * value("none", "inliers_least")
    near, far = scores_of("identity").identity[0], scores_of("identity").identity[-1]
    assert (near.lag_s, near.n_pairs) < (far.lag_s, 5) and far.n_pairs == 1
    for clip in ("ghosts", "flicker", "blurred"):
        assert value(clip, "identity_far") < 1.3 * value("none", "identity_far"), clip


def test_without_a_layout_what_needs_none_is_measured_and_the_rest_is_not():
    pictures = [world(t) for t in range(40)]
    known = {
        figure.name: figure.value
        for figure in figures(
            score(Span("s", 0, 40), measure_frames(pictures, {0, 8, 16, 24, 32}, {0, 32}), 8)
        )
    }
    assert all(known[name] is None for name in GATED - {"drift_de_per_min"})
    assert known["drift_de_per_min"] is not None and known["identity_far"] > 0


def test_measuring_holds_a_few_pictures_whatever_the_length():
    alive, most = 0, 0

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def pictures() -> Iterator[np.ndarray]:
        nonlocal alive, most
        for t in range(60):
            picture = np.full((32, 48, 3), t, np.uint8)
            weakref.finalize(picture, gone)
            alive += 1
            most = max(most, alive)
            yield picture

    measure_frames(pictures(), {0, 30}, {0, 30})
    assert most <= 4


def test_flow_finds_a_pan_and_the_warp_explains_it():
    noise = panorama(3)[:, :, :].astype(np.uint8)
    before, now = noise[50:146, 50:210], noise[50:146, 53:213]
    flow = flow_between(luma_of(now), luma_of(before))
    assert np.median(flow, axis=(0, 1)) == pytest.approx([3, 0], abs=0.1)
    assert fastest(flow) == pytest.approx(3 * 256 / 96, rel=0.15)  # pixels at a shorter side of 256
    assert warp_error(before, now, flow) < 0.1 * np.abs(before.astype(float) - now).mean()


def test_the_seam_index_is_one_where_nothing_happens_and_counts_those_that_reach_it():
    x = np.random.default_rng(0).exponential(1, 4000)
    still = seam_index(x, seams_every(40, 8, 4000), 0.0)
    assert still.ratio == pytest.approx(1, abs=0.1) and 0.3 < still.share < 0.7
    x[[seam.start + 3 for seam in seams_every(40, 8, 4000)]] += 20
    loud = seam_index(x, seams_every(40, 8, 4000), 0.0)
    assert loud.ratio > 5 and loud.share == 0 and loud.p_value == pytest.approx(1 / (loud.n_interior + 1))


def test_few_interior_spans_prove_nothing_by_themselves():
    x = np.ones(24)
    x[10] = 9
    index = seam_index(x, (Seam(10, 12),), 0.1)
    assert index.ratio > 5 and index.share == 0 and index.p_value > 0.05
    shown = figures(Scores(Span("s", 0, 24), {"jerk": index}, None, None, None, 1, 0, 1, 1, (), ()))
    assert next(figure for figure in shown if figure.name == "seam_jerk").verdict == UNCLEAR


def test_a_seam_with_more_frames_than_any_interior_is_compared_in_parts():
    x = np.random.default_rng(1).exponential(1, 65)
    wide = (Seam(17, 49),)
    assert 0.5 < seam_index(x, wide, 0.0).ratio < 2
    x[20:48] += 10
    assert seam_index(x, wide, 0.0).ratio > 3
    x[0] = np.nan  # as the change into the first frame is
    assert seam_index(x, (Seam(1, 63),), 0.0) is None  # nothing is left inside


def test_the_rhythm_of_a_decoder_is_neither_a_seam_nor_a_fold():
    x = 1 + 0.05 * np.random.default_rng(2).standard_normal(400) + (np.arange(400) % 4 == 1)
    joins = tuple(Seam(at, at) for at in range(41, 400, 40))
    assert seam_index(x, joins, 0.0).ratio > 1.5 and folding(x, joins).share > 0.8
    assert seam_index(x, joins, 0.0, pulse=4).ratio == pytest.approx(1, abs=0.1)
    assert folding(x, joins, pulse=4).share < 2 / 10


def test_folding_finds_a_fault_anywhere_in_the_window_and_chance_is_one_over_the_periods():
    rng, seams = np.random.default_rng(3), seams_every(20, 4, 400)
    x = rng.standard_normal(400)
    quiet = folding(x, seams)
    assert quiet.share == pytest.approx(1 / quiet.periods, rel=0.6) and quiet.p_value > 0.05
    x[13::20] += 4
    loud = folding(x, seams)
    assert loud.share > 2 / loud.periods and loud.p_value < 0.01
    assert folding(x[:50], seams_every(20, 4, 50)) is None  # too few periods
    assert folding(np.ones(400), seams).share == 0


def test_softness_lets_a_picture_grow_sharper_by_itself():
    x = np.linspace(100, 300, 200)
    assert softness(x, SEAMS) == pytest.approx(1, abs=0.01)
    assert softness(x, tuple(Seam(at, at) for at in (40, 80))) is None


def test_a_slope_is_moved_by_no_odd_sample():
    t = np.arange(20.0)
    x = 3 * t
    x[7] = 1000
    assert slope(t, x) == pytest.approx(3)


def test_anchors_of_a_long_film_are_thinned_and_the_curve_reaches_over_it():
    flat = np.full(4, 0.5, np.float32)
    anchors = tuple(Anchor(8 * i, flat, flat, None) for i in range(1000))
    curve = identity_curve(anchors, 8.0)
    assert len(curve) == MOST_ANCHORS - 1 and curve[-1].lag_s == 999
    assert all(lag.distance == 0 and lag.correlation == 1 for lag in curve)
    assert identity_curve(anchors[:1], 8.0) == ()


@pytest.mark.parametrize(
    ("n_latent", "size", "overlap", "lead_in"),
    [(25, 13, 4, 1), (33, 13, 6, 2), (17, 13, 4, 0), (41, 13, 2, 1)],
)
def test_seams_are_the_pixel_frames_that_two_windows_have_weight_in(n_latent, size, overlap, lead_in):
    windows = plan_windows(n_latent, size, overlap)
    weights = blend_weights(windows, n_latent, lead_in)
    n_frames = 4 * (n_latent - 1) + 1
    of_frame = (np.arange(n_frames) + 3) // 4  # pixel frame to latent frame
    shared = ((weights > 1e-9).sum(axis=0) > 1)[of_frame]
    seams = seams_of_weights(weights, n_frames, 4)
    assert len(seams) == len(windows) - 1
    in_seams = np.zeros(n_frames, bool)
    for seam in seams:
        in_seams[seam.start : seam.stop] = True
        assert of_frame[seam.start - 1] + 1 == of_frame[seam.start]  # the first frame of a latent frame
    assert (in_seams == shared).all()


def test_a_seam_beyond_the_shown_frames_is_none_and_one_across_their_end_is_cut():
    weights = blend_weights(plan_windows(25, 13, 4), 25)
    whole = seams_of_weights(weights, 97, 4)
    assert seams_of_weights(weights, whole[0].start, 4) == ()
    assert seams_of_weights(weights, whole[0].stop - 1, 4)[0].stop == whole[0].stop - 2


def test_spans_end_at_cuts_and_count_their_seams_from_their_start():
    first, second = spans_between([100], 200, [Seam(40, 48), Seam(140, 148)])
    assert (first.stop, second.start, second.seams) == (100, 100, (Seam(40, 48),))
    assert spans_between([], 50)[0].seams is None and spans_between([], 50, [])[0].seams == ()
    assert second.without(30) == Span("shot 2", 130, 200, (Seam(10, 18),))
    assert second.without(50).seams == () and len(second.without(500)) == 0
    assert stride_of(SEAMS) == 40 and stride_of(SEAMS[:1]) is None
    assert not interior(SEAMS, N)[[40, 48, 50]].any() and interior(SEAMS, N)[[39, 51]].all()


def test_seams_that_are_named_may_touch_and_a_narrow_picture_keeps_what_flow_needs():
    assert seams_at([10, 16], 6) == (Seam(10, 16), Seam(16, 22)) and seams_at([], 6) == ()
    sizes = {(1080, 1920): (270, 480), (2000, 20): (1600, 16), (64, 96): (64, 96), (2000, 16): (2000, 16)}
    for size, working in sizes.items():
        assert working_size(np.zeros((*size, 3), np.uint8)).shape[:2] == working


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: spans_between([], 100, [Seam(120, 128)]), "120 to 128.*100 frames"),
        (lambda: spans_between([50], 100, [Seam(48, 52)]), "48 to 52.*one shot"),
        (lambda: spans_between([150], 100), "150 do not lie inside 100 frames"),
        (lambda: seams_every(8, 8, 100), r"overlap=8 frames must lie in \[0, stride=8\)"),
        (lambda: seams_at([10, 12], 6), "10 and 12 are 2 frames apart.*overlap of 6 frames"),
        (lambda: seams_at([12, 10], 0), "frame 10 follows the one at frame 12"),
        (lambda: seams_at([10, 10], 0), "frame 10 follows the one at frame 10"),
        (lambda: Span("s", 0, 10, (Seam(0, 4),)), "0 to 4.*10 frames"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused_with_its_numbers(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_a_films_figure_is_the_median_of_its_shots_and_its_verdict_the_worst():
    shots = [[Figure("softness", v, 0.95, verdict)] for v, verdict in ((1.0, OK), (0.8, OVER), (0.99, OK))]
    (film,) = overall(shots)
    assert (film.value, film.verdict, film.note) == (0.99, OVER, "1 of 3 shots")
    assert overall(shots[:1]) == shots[0]
    assert overall([[Figure("folding", None)], [Figure("folding", None)]])[0].value is None
