"""Manifests as files: one to start from, what its columns mean, and the same in another form."""

import argparse
import json
from pathlib import Path
from typing import Any

from jobs.outcome import DONE
from jobs.refusal import Refused

STARTER = Path(__file__).parent / "examples" / "starter.yaml"
FIRST = "manifest.yaml"


def init(arguments: argparse.Namespace) -> int:
    """Write the starter manifest into a folder, which is made if need be."""
    return _start(arguments.folder / FIRST)


def new(arguments: argparse.Namespace) -> int:
    """Write the starter manifest to a path."""
    return _start(arguments.path)


def _start(path: Path) -> int:
    if path.suffix not in (".yaml", ".yml"):
        raise Refused(f"{path}: a new manifest has comments, so it is YAML; name it .yaml")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:  # x: never over somebody's work
            file.write(STARTER.read_text(encoding="utf-8"))
    except FileExistsError as error:
        raise Refused(f"{error.filename} exists, and is left as it is: name another place") from error
    except OSError as error:
        raise Refused(f"cannot write {path}: {error.strerror}") from error
    print(f"{path}: one film in two languages; next: longtake validate {path}")
    return DONE


def schema(arguments: argparse.Namespace) -> int:
    """Print every column."""
    from manifests.schema import SCHEMA

    columns = [column for field in SCHEMA for column in _columns(field, "")]
    if arguments.output == "json":
        print(json.dumps(columns, ensure_ascii=False, indent=1))
        return DONE
    wide = [max(len(column[name]) for column in columns) for name in ("column", "type", "unit")]
    for column in columns:
        cells = zip((column["column"], column["type"], column["unit"]), wide, strict=True)
        print("  ".join([*(cell.ljust(width) for cell, width in cells), column["doc"]]))
    return DONE


def _columns(field: Any, above: str) -> list[dict[str, str]]:
    """A column, then those inside it: `shots[].prompt`."""
    kind, name = field.type, above + field.name
    is_list = hasattr(kind, "value_type")
    inner = kind.value_type if is_list else kind
    nested = [inner.field(i) for i in range(inner.num_fields)]
    about = {key.decode(): value.decode() for key, value in field.metadata.items()}
    shown = "list" if is_list else str(kind)
    own = {"column": name, "type": shown, "unit": about["unit"], "doc": about["doc"]}
    return [own, *(column for child in nested for column in _columns(child, f"{name}[]."))]


def convert(arguments: argparse.Namespace) -> int:
    """Write a manifest in the form that the target's ending names."""
    from manifests.compose import decompose
    from manifests.schema import write_manifest
    from manifests.source import read_source

    target = arguments.target
    if target.exists():
        raise Refused(f"{target} exists, and is left as it is: name another place")
    manifest = read_source(arguments.source)
    try:
        (write_manifest if target.suffix == ".parquet" else decompose)(manifest.table, target)
    except OSError as error:
        raise Refused(f"cannot write {target}: {error.strerror}") from error
    print(f"{target}: {manifest.n_rows} rows")
    return DONE
