"""The command line: reads arguments, calls a verb, turns what it returns into text and an exit code.

Exit codes: 0 all is well, 1 an error in the tool, 2 usage, 3 the manifest is invalid.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from manifests.compose import compose, decompose
from manifests.schema import ManifestError, read_manifest, write_manifest
from manifests.validate import Finding, Limits, validate

OK, INVALID = 0, 3
TWELVE = "as-IN bn-IN gu-IN hi-IN kn-IN ml-IN mr-IN or-IN pa-IN ta-IN te-IN ur-IN"
# CogVideoX patches 2 x 2 latents of 8 x 8 pixels, hence 16.
DEFAULTS = Limits(
    size_multiple_px=16,
    max_width_px=1920,
    max_height_px=1920,
    max_shot_s=60.0,
    languages=frozenset(["en-IN", *TWELVE.split()]),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code. A faulty manifest is a message, never a traceback."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.verb(arguments)
    except ManifestError as error:
        print(f"longtake: {error}", file=sys.stderr)
        return INVALID
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="longtake", description="Render AI films from a manifest.")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    check = verbs.add_parser("validate", help="check every row of a manifest; exit 3 if any is faulty")
    check.add_argument("manifest", type=Path, help="a .parquet manifest, or .yaml, .csv or .jsonl")
    check.add_argument("-o", choices=["text", "json"], default="text", dest="output", help="form of findings")
    check.set_defaults(verb=_validate)
    convert = verbs.add_parser("convert", help="write a manifest in another form, by the file names' endings")
    convert.add_argument("source", type=Path)
    convert.add_argument("target", type=Path)
    convert.set_defaults(verb=_convert)
    return parser


def _validate(arguments: argparse.Namespace) -> int:
    table = _load(arguments.manifest)
    findings = validate(table, DEFAULTS)
    if arguments.output == "json":
        print(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False, indent=1))
    else:
        print("\n".join([*map(_line, findings), _verdict(arguments.manifest, table.num_rows, findings)]))
    return INVALID if findings else OK


def _convert(arguments: argparse.Namespace) -> int:
    table = _load(arguments.source)
    write = write_manifest if arguments.target.suffix == ".parquet" else decompose
    write(table, arguments.target)
    print(f"{arguments.target}: {table.num_rows} rows")
    return OK


def _load(path: Path):  # type: ignore[no-untyped-def]  # a pyarrow table, which only manifests/ may name
    if not path.is_file():
        raise ManifestError("there is no such file", str(path), "give the path of a manifest")
    return read_manifest(path) if path.suffix == ".parquet" else compose(path)


def _line(finding: Finding) -> str:
    where = f"row {finding.row_index} ({finding.row_id}) {finding.json_path}"
    return f"{finding.code}  {where}: {finding.message}. {finding.hint}"


def _verdict(path: Path, n_rows: int, findings: Sequence[Finding]) -> str:
    if not findings:
        return f"{path}: {n_rows} rows, all valid"
    return f"{path}: {n_rows} rows, {len(findings)} findings; nothing would be rendered"
