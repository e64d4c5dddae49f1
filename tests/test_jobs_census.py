"""The size of a job counted by columns is the size counted film by film, whatever films share."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.census import census
from jobs.distinct import Distinct
from jobs.plan import film_tasks
from jobs.size import Size, forecast
from jobs.spec import load_spec
from jobs.stock import Stock, stock
from manifests.findings import Levels
from manifests.schema import SCHEMA

SETTINGS = [
    "profiles.long.model.folder=chalk",
    "profiles.long.window.mode=blend",
    "profiles.long.picture.fps_num=12",
]
TEXTS = st.sampled_from(
    ["rain", " rain ", "rain\nfalls", "the sun rises", "बारिश", 'a "b" \\ c', "\u00a0moon\u2003"]
)
BLANK = st.sampled_from([None, "", " "])
SHOT = st.fixed_dictionaries(
    {
        "prompt": st.one_of(TEXTS, BLANK),
        "negative_prompt": st.one_of(st.none(), st.just("fog "), BLANK),
        "duration": st.sampled_from([("duration_s", 3.0), ("duration_s", 7.06), ("duration_frames", 60)]),
        "seed": st.one_of(st.none(), st.integers(0, 2)),
        "camera": st.sampled_from([None, "", "static", "slow push in", "Slow-Push in", "orbit"]),
        "prompts": st.sampled_from([None, [], [{"start_s": 1.5, "prompt": "rain", "blend_s": None}]]),
    }
)
LANGUAGE = st.fixed_dictionaries(
    {
        "lang": st.sampled_from(["hi-IN", "ta-IN"]),
        "title": st.sampled_from([None, "", "जल"]),
        "texts": st.lists(st.sampled_from(["a", "b"]), max_size=2),
    }
)
ROW = st.fixed_dictionaries(
    {
        "profile": st.sampled_from(["chalk", "long"]),
        "title": st.sampled_from([None, "जल", "Rain"]),
        "size": st.sampled_from([(None, None), (384, 256), (512, 384)]),
        "fps": st.sampled_from([(None, None), (8, 1), (24000, 1001)]),
        "seed": st.one_of(st.none(), st.integers(0, 1)),
        "prompt": st.one_of(st.just("snow"), TEXTS),
        "negative_prompt": st.one_of(st.none(), TEXTS),
        "shots": st.lists(SHOT, min_size=1, max_size=3),
        "languages": st.lists(LANGUAGE, max_size=2, unique_by=lambda one: one["lang"]),
    }
)


@pytest.fixture(scope="module")
def stocked() -> dict[str, Stock]:
    return stock(load_spec(None, SETTINGS))


def as_row(number: int, drawn: dict[str, Any]) -> dict[str, Any]:
    """A row of a manifest; rows of one draw may differ by nothing but their names."""
    row = {name: drawn[name] for name in ("profile", "title", "seed", "prompt", "negative_prompt")}
    row |= dict(zip(("width_px", "height_px"), drawn["size"], strict=True))
    row |= dict(zip(("fps_num", "fps_den"), drawn["fps"], strict=True))
    shots = []
    for place, shot in enumerate(drawn["shots"]):
        kept = {name: value for name, value in shot.items() if name != "duration"}
        shots.append(kept | {"shot_id": f"s{place}", shot["duration"][0]: shot["duration"][1]})
    languages = []
    for one in drawn["languages"]:
        spoken = [{"shot_id": f"s{i}", "text": t} for i, t in enumerate(one["texts"][: len(shots)])]
        languages.append({"lang": one["lang"], "title": one["title"], "segments": spoken})
    return row | {"row_id": f"r{number}", "shots": shots, "languages": languages}


def counted(rows: list[dict[str, Any]], stocked: dict[str, Stock], size: int) -> tuple[Size, Size]:
    """The size by columns, so many rows at a time, and film by film."""
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    levels = [
        Levels.of_batch(start, batch)
        for start in range(0, len(table), size)
        for batch in table.slice(start, size).to_batches()
    ]
    return census(levels, stocked), forecast((film_tasks(row, stocked) for row in table.to_pylist()), None)


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=4), st.lists(st.integers(0, 3), max_size=4), st.integers(1, 3))
def test_columns_and_films_come_to_the_same_size(stocked, drawn, again, size):
    drawn = drawn + [drawn[at % len(drawn)] for at in again]
    rows = [as_row(number, one) for number, one in enumerate(drawn)]
    by_columns, by_films = counted(rows, stocked, size)
    assert by_columns == by_films
    assert list(by_columns.loads) == list(by_films.loads)
    assert list(by_columns.stitched) == list(by_films.stitched)


def test_shots_with_adapters_and_later_prompts_are_told_apart(stocked):
    shot = {"shot_id": "s", "prompt": "rain", "duration_s": 9.0, "seed": 1}
    later = [[{"start_s": at, "prompt": "snow", "blend_s": 0.0}] for at in (2.0, 2.0, 3.0)]
    rows = [
        {"row_id": f"r{i}", "profile": "chalk", "shots": [shot | {"prompts": each}], "languages": []}
        for i, each in enumerate([None, *later])
    ]
    by_columns, by_films = counted(rows, stocked, 2)
    assert by_columns == by_films and by_columns.total["shots"] == 3 and by_columns.total["prompts"] == 3


def test_a_batch_of_windows_is_one_part_of_a_step(stocked):
    shots = [{"shot_id": "s", "prompt": "rain", "duration_s": 20.0}]
    table = pa.Table.from_pylist([{"row_id": "r", "profile": "chalk", "shots": shots}], schema=SCHEMA)
    levels = [Levels.of_batch(0, batch) for batch in table.to_batches()]
    (load,) = census(levels, stocked, batch=2).loads
    assert load.course.batch == 2


def test_equal_numbers_are_counted_once_with_the_kind_of_the_first():
    import numpy as np

    with Distinct() as things:
        things.add(np.array([5, -7, 5, 1 << 62]), np.array([2, 0, 1, 2]))
        things.add(np.array([-7, 9]), np.array([1, 1]))
        assert things.by_kind().tolist() == [1, 1, 2] and things.total == 4


def test_a_profile_of_other_steps_is_another_kind(stocked):
    one = stocked["chalk"]
    sampling = replace(one.profile.sampling, n_steps=one.profile.sampling.n_steps + 1)
    both = {"chalk": one, "long": replace(one, profile=replace(one.profile, sampling=sampling))}
    shot = {"shot_id": "s", "prompt": "rain", "duration_s": 3.0, "seed": 1}
    rows = [{"row_id": name, "profile": name, "shots": [shot], "languages": []} for name in both]
    by_columns, by_films = counted(rows, both, 4)
    assert by_columns == by_films and by_columns.total["shots"] == 2
