"""The input manifest, `manifest/1.0`: its Arrow schema and the checked way into Parquet; stream reads it."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

VERSION_KEY = b"longtake.schema"
VERSION = b"manifest/1.0"
GROUP_ROWS = 1 << 14  # that a reader may pass over at once


class ManifestError(Exception):
    """A manifest that cannot be used: what is wrong, where, and what to do about it."""

    def __init__(self, what: str, where: str, todo: str) -> None:
        super().__init__(f"{what} ({where}): {todo}")
        self.what, self.todo = what, todo


def column(name: str, type_: pa.DataType, unit: str, doc: str) -> pa.Field:
    """A field that carries its unit and meaning, so that a file explains itself.

    Every field is nullable: an absent value must become a finding with a row, not a failed read.
    """
    return pa.field(name, type_, metadata={"unit": unit, "doc": doc})


PROMPT = pa.struct(
    [
        column("start_s", pa.float64(), "s", "Time in its shot from which the prompt holds; above 0."),
        column("prompt", pa.string(), "none", "What the shot shows from then on."),
        column("blend_s", pa.float64(), "s", "Length of the change, around start_s; null means at once."),
    ]
)
ADAPTER = pa.struct(
    [
        column("name", pa.string(), "none", "An adapter of the profile."),
        column("scale", pa.float64(), "none", "How strongly it is added; null takes the profile's."),
    ]
)
SHOT = pa.struct(
    [
        column("shot_id", pa.string(), "none", "Name of the shot, unique in its row; used in paths."),
        column("prompt", pa.string(), "none", "What the shot shows; null takes the row's prompt."),
        column("prompts", pa.list_(PROMPT), "none", "Later prompts of the shot, which follow `prompt`."),
        column("negative_prompt", pa.string(), "none", "What the shot must not show."),
        column("duration_frames", pa.int32(), "frames", "Length in frames; exclusive with duration_s."),
        column("duration_s", pa.float64(), "s", "Length in seconds; exclusive with duration_frames."),
        column("seed", pa.int64(), "none", "Noise seed; null derives one from row and shot."),
        column(
            "camera", pa.string(), "none", "How the camera moves, such as slow push in; null says nothing."
        ),
        column("adapters", pa.list_(ADAPTER), "none", "LoRA adapters; null takes the row's."),
        column("first_frame_uri", pa.string(), "none", "Picture that the shot starts from, a local path."),
        column("last_frame_uri", pa.string(), "none", "Picture that the shot ends with, a local path."),
        column("extend_uri", pa.string(), "none", "Clip whose end the shot goes on from, a local path."),
        column("source_video_uri", pa.string(), "none", "Clip that the shot redraws, a local path."),
        column("strength", pa.float64(), "none", "Share of the steps that redraw; above 0, to 1. Null: 0.8."),
    ]
)
SEGMENT = pa.struct(
    [
        column("shot_id", pa.string(), "none", "Shot of the same row that the text is spoken over."),
        column("text", pa.string(), "none", "Narration in the language of its list."),
    ]
)
LANGUAGE = pa.struct(
    [
        column("lang", pa.string(), "BCP-47", "Language tag, such as hi-IN."),
        column("title", pa.string(), "none", "Title of the film in this language."),
        column("segments", pa.list_(SEGMENT), "none", "Narration, in the order of the film."),
    ]
)
SCHEMA = pa.schema(
    [
        column("row_id", pa.string(), "none", "Name of the film, unique in the manifest; used in paths."),
        column("title", pa.string(), "none", "Title of the film, any script."),
        column("profile", pa.string(), "none", "Named render profile in the configuration."),
        column("priority", pa.int32(), "none", "-100 to 100, more goes first; null is 0."),
        column("depends_on", pa.list_(pa.string()), "none", "Rows that must be done before this one begins."),
        column("width_px", pa.int32(), "px", "Frame width; null takes the profile's."),
        column("height_px", pa.int32(), "px", "Frame height; null takes the profile's."),
        column("fps_num", pa.int32(), "frames", "Frame rate numerator; null takes the profile's."),
        column("fps_den", pa.int32(), "s", "Frame rate denominator; null takes the profile's."),
        column("seed", pa.int64(), "none", "Noise seed; null derives one from row_id."),
        column("prompt", pa.string(), "none", "Default prompt of the row's shots."),
        column("negative_prompt", pa.string(), "none", "Default negative prompt of the row's shots."),
        column("adapters", pa.list_(ADAPTER), "none", "LoRA adapters of the row's shots."),
        column("shots", pa.list_(SHOT), "none", "The shots, in the order of the film."),
        column("languages", pa.list_(LANGUAGE), "none", "Narration languages; empty means visual only."),
    ],
    metadata={VERSION_KEY: VERSION},
)


def write_manifest(table: pa.Table, path: str | Path) -> None:
    """Write `table` as a manifest with page checksums; the file appears whole or not at all."""
    target = Path(path)
    _refuse_unknown_columns(table.schema, target)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        conformed = table.select(SCHEMA.names).cast(SCHEMA)
        pq.write_table(
            conformed, part, row_group_size=GROUP_ROWS, compression="zstd", write_page_checksum=True
        )
        os.replace(part, target)
    except (pa.ArrowException, KeyError) as error:
        todo = "build the table with manifests.schema.SCHEMA"
        raise ManifestError(f"table does not fit manifest/1.0: {brief(error)}", str(target), todo) from error
    finally:
        part.unlink(missing_ok=True)


def check_header(source: Path) -> None:
    """Raise unless the footer is readable, of our version and free of unknown columns."""
    if not source.is_file():
        raise ManifestError("manifest not found", str(source), "check the path")
    try:
        found = pq.read_schema(source)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        todo = "give a manifest written by write_manifest, copied whole"
        what = f"not a readable Parquet file: {brief(error)}"
        raise ManifestError(what, str(source), todo) from error
    version = (found.metadata or {}).get(VERSION_KEY, b"none").decode(errors="replace")
    if version != VERSION.decode():
        todo = "compose the manifest again with this release"
        raise ManifestError(f"schema version is {version}, expected {VERSION.decode()}", str(source), todo)
    _refuse_unknown_columns(found, source)


def _refuse_unknown_columns(found: pa.Schema, where: Path) -> None:
    """Raise on a column that the schema lacks, which would otherwise be dropped without a word."""
    twice = sorted({name for name in found.names if found.names.count(name) > 1})
    if twice:
        raise ManifestError(f"columns {', '.join(twice)} come twice", str(where), "leave one of each")
    unknown = sorted(set(found.names) - set(SCHEMA.names))
    if unknown:
        raise ManifestError(f"unknown columns {', '.join(unknown)}", str(where), "remove or rename them")


def brief(error: BaseException) -> str:
    """The first line of an error: Arrow appends its own stack to some messages."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
