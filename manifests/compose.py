"""Manifests from the files people write, YAML, JSON lines or CSV, and back.

Decides how a file's text becomes rows. Does not decide whether values fit their columns (typed) or whether
the rows can be planned (validate).
"""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from manifests.schema import SCHEMA, SHOT, ManifestError
from manifests.typed import TWICE, faults

Row = dict[str, Any]
MOST_TOLD = 20  # in one message
ROW_COLUMNS = [field.name for field in SCHEMA if not pa.types.is_list(field.type)]
# A CSV line holds a row and one shot of it; names that both have get a prefix on the shot's side. Lists nest
# deeper than a line can.
SHOT_COLUMNS = {
    field.name if field.name not in ROW_COLUMNS else f"shot_{field.name}": field.name
    for field in SHOT
    if not pa.types.is_list(field.type)
}


def compose(path: str | Path) -> pa.Table:
    """The manifest table of a .yaml, .yml, .jsonl or .csv file; any key not in the schema is refused."""
    source = Path(path)
    read = _by_suffix(
        source, {".yaml": _read_yaml, ".yml": _read_yaml, ".jsonl": _read_jsonl, ".csv": _read_csv}
    )
    try:
        rows = read(source)
    except (OSError, UnicodeDecodeError) as error:
        todo = "give a readable UTF-8 file"
        raise ManifestError(f"cannot read: {_why(error)}", str(source), todo) from error
    _check_types(rows, source)
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _why(error: OSError | UnicodeDecodeError) -> str:
    """What keeps a file from being read, without the numbers of the system or the words of a codec."""
    if isinstance(error, UnicodeDecodeError):
        return f"its byte {error.start + 1:,} is no UTF-8"
    return error.strerror or str(error)


def decompose(table: pa.Table, path: str | Path) -> None:
    """Write `table` as .yaml, .yml, .jsonl or .csv; null values are left out.

    The file appears whole or not at all. Raises ManifestError, and OSError for a place that takes no file.
    """
    target = Path(path)
    text_of = _by_suffix(
        target, {".yaml": _yaml_text, ".yml": _yaml_text, ".jsonl": _jsonl_text, ".csv": _csv_text}
    )
    text = text_of([_without_nulls(row) for row in table.to_pylist()], target)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _by_suffix(path: Path, choices: dict[str, Callable[..., Any]]) -> Callable[..., Any]:
    """The reader or writer for the suffix of `path`."""
    if path.suffix.lower() not in choices:
        raise ManifestError(f"unknown suffix {path.suffix!r}", str(path), f"use {', '.join(choices)}")
    return choices[path.suffix.lower()]


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a key given twice has the value TWICE: the parent keeps the last one silently."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """As read, before any merge (`<<`), whose keys may be given again."""
        node = super().compose_mapping_node(anchor)
        assert node is not None
        times = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        node.value = [
            (key, yaml.ScalarNode(_TWICE_TAG, "") if times[key.value] > 1 else value)
            if isinstance(key, yaml.ScalarNode)
            else (key, value)
            for key, value in node.value
        ]
        return node


_TWICE_TAG = "tag:longtake,2025:twice"
_Loader.add_constructor(_TWICE_TAG, lambda loader, node: TWICE)


def _pairs(pairs: list[tuple[str, Any]]) -> Row:
    """A JSON object; a key given twice has the value TWICE."""
    times = Counter(key for key, _ in pairs)
    return {key: TWICE if times[key] > 1 else value for key, value in pairs}


def _read_yaml(source: Path) -> list[Row]:
    """A list of rows, or a mapping whose only key is `rows`."""
    text = source.read_text(encoding="utf-8")
    try:
        content = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        what = "not safe, well-formed YAML: " + " ".join(str(error).split())
        raise ManifestError(what, str(source), "correct the YAML; tags are not allowed") from error
    if isinstance(content, dict) and set(content) == {"rows"}:
        content = content["rows"]
    if not isinstance(content, list):
        raise ManifestError("no list of rows", str(source), "give a list, or a mapping with one key, rows")
    return content


def _read_jsonl(source: Path) -> list[Row]:
    """One row a line; empty lines are passed over."""
    rows = []
    for number, line in enumerate(source.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line, object_pairs_hook=_pairs))
        except (ValueError, RecursionError) as error:
            where = f"{source} line {number}"
            raise ManifestError(f"not JSON: {error}", where, "write one object a line") from error
    return rows


def _read_csv(source: Path) -> list[Row]:
    """One shot a line, gathered by row_id; a line without shot fields makes a row without shots."""
    rows: dict[str, Row] = {}
    # A spreadsheet program writes a byte-order mark, which would become part of the first name.
    with source.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        try:
            _check_header(reader.fieldnames or [], source)
            for line in reader:
                _add_line(rows, line, f"{source} line {reader.line_num}")
        except csv.Error as error:
            where = f"{source} line {reader.reader.line_num}"  # the other counts only what was well read
            raise ManifestError(f"not CSV: {error}", where, "correct or shorten the cell") from error
    return list(rows.values())


def _check_header(names: Any, source: Path) -> None:
    """Raise on a column that is unknown or repeated, or when row_id is absent."""
    unknown = [name for name in names if name not in ROW_COLUMNS and name not in SHOT_COLUMNS]
    if unknown:
        todo = f"use {', '.join([*ROW_COLUMNS, *SHOT_COLUMNS])}"
        raise ManifestError(f"unknown key {unknown[0]!r}", f"{source} header row", todo)
    if "row_id" not in names or len(set(names)) != len(names):
        raise ManifestError(
            "row_id absent or a column repeated", f"{source} header row", "name each column once"
        )


def _add_line(rows: dict[str, Row], line: Row, where: str) -> None:
    """Add one CSV line to the row that it names."""
    if None in line or None in line.values():
        raise ManifestError("more or fewer cells than the header", where, "quote cells that hold commas")
    if not line["row_id"]:
        raise ManifestError("row_id is empty", where, "repeat row_id on every line of the row")
    row = rows.setdefault(line["row_id"], {"shots": []})
    for name in ROW_COLUMNS:
        if not line.get(name):
            continue
        value = _cell(line[name], SCHEMA.field(name).type, name, where)
        if row.setdefault(name, value) != value:
            what = f"{name} differs from an earlier line of row {line['row_id']!r}"
            raise ManifestError(what, where, "make them equal or leave later cells empty")
    shot = {
        name: _cell(line[cell], SHOT.field(name).type, cell, where)
        for cell, name in SHOT_COLUMNS.items()
        if line.get(cell)
    }
    if shot:
        row["shots"].append(shot)


def _cell(text: str, type_: pa.DataType, name: str, where: str) -> Any:
    """The value of a CSV cell."""
    try:
        if pa.types.is_integer(type_):
            return int(text)
        return float(text) if pa.types.is_floating(type_) else text
    except ValueError as error:
        raise ManifestError(f"{name} {text!r} is not {type_}", where, "correct the cell") from error


def _check_types(rows: list[Row], source: Path) -> None:
    """Raise on values that do not fit their columns, naming up to 20 rows, a line each."""
    told = {index: list(faults(row)) for index, row in enumerate(rows)}
    bad = [(f"row {_label(index, rows[index])}", found) for index, found in told.items() if found]
    if not bad:
        return
    todo = "correct the values; `longtake manifest schema` lists the columns"
    if len(bad) == 1:
        raise ManifestError("; ".join(bad[0][1][:MOST_TOLD]), f"{source} {bad[0][0]}", todo)
    lines = [
        f"\n{row}: {found[0]}" + (f", and {len(found) - 1} more" if found[1:] else "")
        for row, found in bad[:MOST_TOLD]
    ]
    rest = f"\nand {len(bad) - MOST_TOLD} more rows" if len(bad) > MOST_TOLD else ""
    raise ManifestError(f"{len(bad)} rows do not fit:{''.join(lines)}{rest}\n", str(source), todo)


def _label(index: int, row: Any) -> str:
    """A row's place, counted from 0 as in findings, and its id."""
    name = row.get("row_id") if isinstance(row, dict) else None
    return f"{index} ({name})" if isinstance(name, str) else str(index)


def _without_nulls(value: Any) -> Any:
    """`value` with null fields left out, since nobody writes them by hand."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _yaml_text(rows: list[Row], target: Path) -> str:
    return yaml.safe_dump(rows, allow_unicode=True, sort_keys=False, width=100)


def _jsonl_text(rows: list[Row], target: Path) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _csv_text(rows: list[Row], target: Path) -> str:
    """One line a shot; refuses what a flat line cannot hold."""
    _check_flat(rows, target)
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, [*ROW_COLUMNS, *SHOT_COLUMNS])
    writer.writeheader()
    for row in rows:
        flat = {name: row[name] for name in ROW_COLUMNS if name in row}
        for shot in row.get("shots") or [{}]:
            cells = {cell: shot[name] for cell, name in SHOT_COLUMNS.items() if name in shot}
            writer.writerow(flat | cells)
    return stream.getvalue()


def _check_flat(rows: list[Row], target: Path) -> None:
    """Raise on what a line would lose or merge."""
    seen: set[str] = set()
    for index, row in enumerate(rows):
        where = f"{target} row {_label(index, row)}"
        if row.get("adapters") or any((shot or {}).get("adapters") for shot in row.get("shots") or []):
            raise ManifestError("CSV cannot hold adapters", where, "write .yaml or .jsonl")
        if row.get("depends_on"):
            raise ManifestError("CSV cannot hold depends_on", where, "write .yaml or .jsonl")
        if row.get("languages"):
            raise ManifestError("CSV cannot hold languages", where, "write .yaml or .jsonl")
        for shot in row.get("shots") or []:
            if shot and shot.get("prompts"):
                raise ManifestError("CSV cannot hold later prompts of a shot", where, "write .yaml or .jsonl")
            if not shot or not set(shot) & set(SHOT_COLUMNS.values()):  # its line would be read as no shot
                raise ManifestError("CSV cannot hold a shot without values", where, "write .yaml or .jsonl")
        if not row.get("row_id") or row["row_id"] in seen:
            raise ManifestError("CSV needs a unique row_id", where, "rename the row, or write .yaml")
        seen.add(row["row_id"])
