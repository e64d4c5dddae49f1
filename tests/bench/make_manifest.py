"""Writes a big, varied manifest of short lessons: rows of 6 shots and 4 languages, every shot narrated in
each.

    python tests/bench/make_manifest.py --rows 1000000 --out big.parquet

The same rows and seed give the same table, batch by batch, so memory does not grow with the rows. Texts are
put together of phrases: titles all differ, prompts are of 600,000, narrations of some dozens a language.
Some rows have a size or a rate of their own, some shots a camera, a seed or a second prompt, some languages
no title.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from manifests.schema import LANGUAGE, SCHEMA, SEGMENT, SHOT

GROUP_ROWS = 4096
SHOTS, LANGUAGES = 6, 4
PLACES = ("over green hills", "over the blue sea", "over snowy mountains", "in the valley", "under the sky")
SCENES = ("the sun shines", "rain falls", "white clouds drift right", "grey clouds gather", "stars shine")
LIGHTS = ("in soft light", "on a warm morning", "by day", "at night", "in the evening", "in bright daylight")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "grey")
CAMERAS = ("pan left", "pan right", "zoom in", "slow zoom out", "static")
SECONDS = (5.5, 6.0, 6.5, 7.5, 8.0, 9.0)
SPOKEN = {  # who, how, what happens, and a word for a lesson's title
    "en-IN": ("The sun|The river|The cloud|The seed", "slowly|now|again", "moves on|grows|rises", "Lesson"),
    "hi-IN": ("सूरज|पानी|बादल|पौधा", "धीरे|अब|फिर", "बढ़ता है|चलता है|उठता है", "पाठ"),
    "ta-IN": ("சூரியன்|நிலா|மேகம்|செடி", "மெல்ல|மீண்டும்|இப்போது", "வளர்கிறது|நகர்கிறது", "பாடம்"),
    "bn-IN": ("সূর্য|নদী|মেঘ|গাছ", "ধীরে|আবার|এখন", "বাড়ে|চলে|ওঠে", "পাঠ"),
    "mr-IN": ("सूर्य|नदी|ढग|झाड", "हळू|पुन्हा|आता", "वाढते|चालते|उगवते", "धडा"),
    "te-IN": ("సూర్యుడు|నది|మేఘం|మొక్క", "మెల్లగా|మళ్ళీ|ఇప్పుడు", "వస్తుంది|వెళ్తుంది", "పాఠం"),
}
MARKS = (".", "!")


class Draw:
    """The draws of one batch of rows, keyed by the seed and the batch."""

    def __init__(self, seed: int, first: int, n_rows: int) -> None:
        self.random, self.first, self.n_rows = np.random.default_rng([seed, first]), first, n_rows

    def of(self, choices: Sequence[Any], n: int) -> Any:
        """So many of the choices, as an Arrow array."""
        return pa.array(choices).take(pa.array(self.random.integers(len(choices), size=n)))

    def some(self, values: Any, share: float) -> Any:
        """About this share of the values, null in the others' places."""
        return pc.if_else(pa.array(self.random.random(len(values)) < share), values, None)


def batches(n_rows: int, seed: int) -> Iterator[pa.RecordBatch]:
    """The manifest, GROUP_ROWS rows at a time."""
    for first in range(0, n_rows, GROUP_ROWS):
        yield batch(Draw(seed, first, min(GROUP_ROWS, n_rows - first)))


def batch(draw: Draw) -> pa.RecordBatch:
    """The rows of one draw."""
    n, numbers = draw.n_rows, pa.array(np.arange(draw.first, draw.first + draw.n_rows)).cast(pa.string())
    large = pa.array(draw.random.random(n) < 0.1)
    fast = pa.array(draw.random.random(n) < 0.1)
    columns = {
        "row_id": joined(["lesson-", pc.utf8_lpad(numbers, 7, "0")]),
        "title": joined([draw.of(("Clouds", "Rivers", "The moon", "Plants"), n), " ", numbers]),
        "profile": pa.array(["chalk"] * n),
        "width_px": pc.if_else(large, pa.scalar(512, pa.int32()), None),
        "height_px": pc.if_else(large, pa.scalar(384, pa.int32()), None),
        "fps_num": pc.if_else(fast, pa.scalar(12, pa.int32()), None),
        "fps_den": pc.if_else(fast, pa.scalar(1, pa.int32()), None),
        "seed": draw.some(pa.array(draw.random.integers(1 << 31, size=n)), 0.5),
        "negative_prompt": draw.some(pa.array(["rain"] * n), 0.2),
        "shots": lists(shots(draw), n, SHOTS),
        "languages": lists(languages(draw, numbers), n, LANGUAGES),
    }
    absent = {field.name: pa.nulls(n, field.type) for field in SCHEMA if field.name not in columns}
    return pa.RecordBatch.from_pydict(columns | absent, schema=SCHEMA)


def shots(draw: Draw) -> Any:
    """The shots of all rows, one row's after another's."""
    n = draw.n_rows * SHOTS
    scene, place = draw.of(SCENES, n), draw.of(PLACES, n)
    things = [f" {word} a " for word in ("and", "circle with", "square under", "triangle over")]
    figures = [part for thing in things for part in (thing, draw.of(COLOURS, n))]
    in_frames = pa.array(draw.random.random(n) < 0.2)
    seconds = draw.of(SECONDS, n)
    columns = {
        "shot_id": draw_ids(draw.n_rows, SHOTS),
        "prompt": joined([scene, " ", place, *figures, " ball ", draw.of(LIGHTS, n)]),
        "prompts": later(draw, n),
        "duration_frames": pc.if_else(in_frames, pa.scalar(66, pa.int32()), None),
        "duration_s": pc.if_else(in_frames, None, seconds),
        "camera": draw.some(draw.of(CAMERAS, n), 0.1),
        "seed": draw.some(pa.array(draw.random.integers(1 << 31, size=n)), 0.1),
    }
    return struct(columns, SHOT, n)


def later(draw: Draw, n: int) -> Any:
    """One shot in two hundred has a second prompt, from its second second on."""
    one = [{"start_s": 2.0, "prompt": "rain falls from grey clouds", "blend_s": 1.0}]
    given = draw.random.random(n) < 0.005
    return pa.array([one if each else None for each in given], SHOT.field("prompts").type)


def languages(draw: Draw, numbers: Any) -> Any:
    """The languages of all rows, four of six for each, with a narration of every shot."""
    n = draw.n_rows * LANGUAGES
    first = np.repeat(draw.random.integers(len(SPOKEN), size=draw.n_rows), LANGUAGES)
    which = (first + np.tile(np.arange(LANGUAGES), draw.n_rows)) % len(SPOKEN)
    number = numbers.take(pa.array(np.repeat(np.arange(draw.n_rows), LANGUAGES)))
    words = pa.array([each[3] for each in SPOKEN.values()]).take(pa.array(which))
    columns = {
        "lang": pa.array(list(SPOKEN)).take(pa.array(which)),
        "title": draw.some(joined([words, " ", number]), 0.95),
        "segments": lists(segments(draw, which), n, SHOTS),
    }
    return struct(columns, LANGUAGE, n)


def segments(draw: Draw, which: Any) -> Any:
    """A narration a shot in each language."""
    which, n = np.repeat(which, SHOTS), len(which) * SHOTS
    parts = []
    for part in range(3):
        pools = [each[part].split("|") for each in SPOKEN.values()]
        sizes = np.array([len(pool) for pool in pools])
        at = (np.cumsum(sizes) - sizes)[which] + draw.random.integers(1 << 30, size=n) % sizes[which]
        parts.append(pa.array([text for pool in pools for text in pool]).take(pa.array(at)))
    text = joined([parts[0], " ", parts[1], " ", parts[2], draw.of(MARKS, n)])
    return struct({"shot_id": draw_ids(n // SHOTS, SHOTS), "text": text}, SEGMENT, n)


def draw_ids(n_owners: int, n_each: int) -> Any:
    """Names of shots, the same in every row."""
    return pa.array([f"shot-{i}" for i in range(n_each)]).take(
        pa.array(np.arange(n_owners * n_each) % n_each)
    )


def joined(parts: Sequence[Any]) -> Any:
    """Texts, element by element, of arrays and of texts that are the same in all."""
    return pc.binary_join_element_wise(*parts, "")


def struct(columns: dict[str, Any], type_: Any, n: int) -> Any:
    """Columns as one array of structs; those that are left out are null."""
    fields = list(type_)
    arrays = [columns.get(each.name, pa.nulls(n, each.type)).cast(each.type) for each in fields]
    return pa.StructArray.from_arrays(arrays, fields=fields)


def lists(values: Any, n_owners: int, n_each: int) -> Any:
    """Values as lists of equal length."""
    return pa.ListArray.from_arrays(pa.array(np.arange(n_owners + 1, dtype=np.int32) * n_each), values)


def write(path: Path, n_rows: int, seed: int) -> None:
    """Write the manifest; the file appears whole."""
    part = path.with_name(f".{path.name}.part")
    with pq.ParquetWriter(part, SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        for each in batches(n_rows, seed):
            writer.write_batch(each)
    part.rename(path)


def main() -> None:
    """Write it, and say so."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    write(asked.out, asked.rows, asked.seed)
    print(f"{asked.out}: {asked.rows:,} rows, {asked.out.stat().st_size / 2**20:,.1f} MiB")


if __name__ == "__main__":
    main()
