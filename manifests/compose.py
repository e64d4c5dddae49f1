"""Manifests from the files people write, YAML, JSON lines or CSV, and back."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from manifests.schema import SCHEMA, SHOT, ManifestError

Row = dict[str, Any]
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
        raise ManifestError(f"cannot read: {error}", str(source), "give a readable UTF-8 file") from error
    for index, row in enumerate(rows):
        _check_keys(row, pa.struct(list(SCHEMA)), f"{source} row {_label(index, row)}", "")
    return _to_table(rows, source)


def decompose(table: pa.Table, path: str | Path) -> None:
    """Write `table` as .yaml, .yml, .jsonl or .csv; null values are left out."""
    target = Path(path)
    write = _by_suffix(
        target, {".yaml": _write_yaml, ".yml": _write_yaml, ".jsonl": _write_jsonl, ".csv": _write_csv}
    )
    write([_without_nulls(row) for row in table.to_pylist()], target)


def _by_suffix(path: Path, choices: dict[str, Callable[..., Any]]) -> Callable[..., Any]:
    """The reader or writer for the suffix of `path`."""
    if path.suffix.lower() not in choices:
        raise ManifestError(f"unknown suffix {path.suffix!r}", str(path), f"use {', '.join(choices)}")
    return choices[path.suffix.lower()]


def _read_yaml(source: Path) -> list[Row]:
    """A list of rows, or a mapping whose only key is `rows`."""
    try:
        content = yaml.safe_load(source.read_text(encoding="utf-8"))
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
            rows.append(json.loads(line))
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
        _check_header(reader.fieldnames or [], source)
        for line in reader:
            where = f"{source} line {reader.line_num}"
            _add_line(rows, line, where)
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


def _check_keys(value: Any, type_: pa.DataType, where: str, path: str) -> None:
    """Raise on keys that the schema lacks, at any depth: Arrow would drop them without a word."""
    if value is None:
        return
    if pa.types.is_list(type_):
        if not isinstance(value, list):
            raise ManifestError(f"{path} is not a list", where, "give a list")
        for index, item in enumerate(value):
            _check_keys(item, type_.value_type, where, f"{path}/{index}")
    elif pa.types.is_struct(type_):
        if not isinstance(value, dict):
            raise ManifestError(f"{path or 'row'} is not a mapping", where, "give keys and values")
        known = {field.name: field.type for field in type_}
        for key, item in value.items():
            if key not in known:
                raise ManifestError(f"unknown key {f'{path}/{key}'!r}", where, f"use {', '.join(known)}")
            _check_keys(item, known[key], where, f"{path}/{key}")


def _to_table(rows: list[Row], source: Path) -> pa.Table:
    """The rows as a table; on a wrong type the row is sought out, since Arrow names none."""
    try:
        return pa.Table.from_pylist(rows, schema=SCHEMA)
    except (pa.ArrowException, TypeError, OverflowError, ValueError):
        for index, row in enumerate(rows):
            for field in SCHEMA:
                try:
                    pa.array([row.get(field.name)], field.type)
                except (pa.ArrowException, TypeError, OverflowError, ValueError) as error:
                    where = f"{source} row {_label(index, row)}"
                    what = f"{field.name} does not fit {field.type}: {error}"
                    raise ManifestError(what, where, "correct the value") from error
        raise


def _label(index: int, row: Any) -> str:
    """A row's place, counted from 0 as in findings, and its id."""
    name = row.get("row_id") if isinstance(row, dict) else None
    return f"{index} ({name})" if name is not None else str(index)


def _without_nulls(value: Any) -> Any:
    """`value` with null fields left out, since nobody writes them by hand."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _write_yaml(rows: list[Row], target: Path) -> None:
    text = yaml.safe_dump(rows, allow_unicode=True, sort_keys=False, width=100)
    target.write_text(text, encoding="utf-8")


def _write_jsonl(rows: list[Row], target: Path) -> None:
    target.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")


def _write_csv(rows: list[Row], target: Path) -> None:
    """One line a shot; refuses what a flat line cannot hold."""
    seen: set[str] = set()
    for index, row in enumerate(rows):
        where = f"{target} row {_label(index, row)}"
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
    with target.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [*ROW_COLUMNS, *SHOT_COLUMNS])
        writer.writeheader()
        for row in rows:
            flat = {name: row[name] for name in ROW_COLUMNS if name in row}
            for shot in row.get("shots") or [{}]:
                cells = {cell: shot[name] for cell, name in SHOT_COLUMNS.items() if name in shot}
                writer.writerow(flat | cells)
