"""A contact sheet shows every shot, first to last frame."""

from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops

from engine.film.encode import encode_segment
from engine.film.sheet import (
    GAP_PX,
    HEAD_PX,
    LARGEST,
    MARGIN_PX,
    PAPER,
    ROW_GAP_PX,
    ROWS,
    contact_sheet,
    read_pictures,
    still_indices,
)

FPS = Fraction(8)
COUNTS = (17, 8, 1)


def colour(shot, index):
    """A colour of its own for every frame of every shot."""
    return (60 + 60 * shot, 20 + 12 * index, 200 - 50 * shot)


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shots")
    paths = [folder / f"{index}.mp4" for index in range(len(COUNTS))]
    for shot, (path, count) in enumerate(zip(paths, COUNTS, strict=True)):
        frames = [np.full((96, 128, 3), colour(shot, index), np.uint8) for index in range(count)]
        encode_segment(frames, path, FPS, crf=6, preset="veryfast")
    return paths


def read(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


@pytest.mark.parametrize("columns", [1, 3, 4])
def test_every_shot_has_its_row_and_every_cell_is_the_decoded_frame(shots, tmp_path, columns):
    size = contact_sheet(shots, ["s01", "s02", "s03"], tmp_path / "sheet.png", columns=columns)
    sheet = read(tmp_path / "sheet.png")
    assert sheet.shape == (size[1], size[0], 3)
    width, height = round(128 * LARGEST), round(96 * LARGEST)
    for row, (path, count) in enumerate(zip(shots, COUNTS, strict=True)):
        decoded = list(read_pictures(path))
        top = MARGIN_PX + row * (HEAD_PX + height + ROW_GAP_PX) + HEAD_PX
        for column, index in enumerate(still_indices(count, columns)):
            left = MARGIN_PX + column * (width + GAP_PX)
            cell = sheet[top : top + height, left : left + width]
            # Frames next to each other differ by 12 levels; coding a flat colour costs one or two.
            assert abs(cell - decoded[index][48, 64]).max() <= 3
            assert abs(cell - colour(row, index)).max() <= 5
            assert (sheet[top + height, left : left + width] == PAPER).all()


def test_a_film_of_many_shots_is_shown_by_evenly_spaced_ones_and_the_sheet_says_so(shots, tmp_path):
    count = 2 * ROWS - 1
    segments = [shots[index % 4 > 0] for index in range(count)]  # every fourth is the first shot
    labels = [f"s{index:02}" for index in range(count)]
    contact_sheet(segments, labels, tmp_path / "all.png", columns=1)
    contact_sheet(segments[::2], labels[::2], tmp_path / "half.png", columns=1)
    every, half = read(tmp_path / "all.png"), read(tmp_path / "half.png")
    foot = every.shape[0] - MARGIN_PX
    assert np.array_equal(every[:foot], half[:foot]) and every.shape == half.shape
    assert (half[foot:] == PAPER).all() and (every[foot:] != PAPER).any()


def test_labels_and_lengths_are_written_above_the_rows(shots, tmp_path):
    for name, labels in (("a", ["s01"] * 3), ("b", ["s01", "s02", "s01"])):
        contact_sheet(shots, labels, tmp_path / f"{name}.png")
    a, b = (Image.open(tmp_path / f"{name}.png") for name in "ab")
    changed = ImageChops.difference(a, b).getbbox()
    second = MARGIN_PX + HEAD_PX + round(96 * LARGEST) + ROW_GAP_PX
    assert changed[0] >= MARGIN_PX and changed[2] < MARGIN_PX + 60
    assert second <= changed[1] and changed[3] <= second + HEAD_PX
    sheet = read(tmp_path / "a.png")
    head = sheet[MARGIN_PX : MARGIN_PX + HEAD_PX, sheet.shape[1] // 2 : sheet.shape[1] - MARGIN_PX]
    assert (head != PAPER).any()


@pytest.mark.parametrize("width", [640, 1600])
def test_large_pictures_are_shrunk_to_the_width_of_the_sheet(tmp_path, width):
    picture = np.full((720, 1280, 3), (30, 90, 150), np.uint8)
    encode_segment([picture] * 2, tmp_path / "s.mp4", FPS, preset="ultrafast")
    size = contact_sheet([tmp_path / "s.mp4"], ["s01"], tmp_path / "sheet.jpg", width_px=width)
    assert width - 3 <= size[0] <= width
    assert Image.open(tmp_path / "sheet.jpg").format == "JPEG"


def test_decoded_colours_are_those_that_were_encoded(tmp_path):
    across, down = np.meshgrid(np.arange(128), np.arange(96))
    ramp = np.stack([60 + across, 200 - down, 40 + across // 2 + down], axis=-1).astype(np.uint8)
    encode_segment([ramp], tmp_path / "s.mp4", FPS, crf=1)
    (picture,) = read_pictures(tmp_path / "s.mp4")
    assert abs((picture.astype(int) - ramp).mean()) < 0.3


@pytest.mark.parametrize(
    ("labels", "name", "options", "words"),
    [
        (["s01"], "sheet.png", {}, "3 segments, 1 labels, 3 columns make no sheet"),
        (["s01", "s02", "शॉट"], "sheet.png", {}, "label 'शॉट' is not printable ASCII"),
        (["s01", "s02", "s03"], "sheet.gif", {}, r"sheet\.gif must end in one of \.png, \.jpg, \.jpeg"),
        (["s01", "s02", "s03"], "sheet.png", {"columns": 0}, "0 columns"),
        (["s01", "s02", "s03"], "sheet.png", {"columns": 200}, "200 columns do not fit a sheet of 1600 px"),
    ],
)
def test_a_sheet_that_cannot_be_drawn_is_refused_and_leaves_no_file(
    shots, tmp_path, labels, name, options, words
):
    with pytest.raises(ValueError, match=words):
        contact_sheet(shots, labels, tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_cut_off_segment_is_refused_and_leaves_no_sheet(shots, tmp_path):
    whole = shots[0].read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) - 40])
    with pytest.raises((av.FFmpegError, ValueError), match=r"cut\.mp4"):
        contact_sheet([tmp_path / "cut.mp4"], ["s01"], tmp_path / "sheet.png")
    assert [path.name for path in tmp_path.iterdir()] == ["cut.mp4"]


@given(count=st.integers(1, 500), columns=st.integers(1, 12))
def test_stills_are_frames_of_the_shot_in_order_from_the_first_to_the_last(count, columns):
    indices = still_indices(count, columns)
    assert len(indices) == columns and indices == sorted(indices)
    assert indices[0] >= 0 and indices[-1] < count
    if columns > 1:
        assert (indices[0], indices[-1]) == (0, count - 1)
