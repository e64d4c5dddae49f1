"""What a job would be, before anything is rendered: the verbs `validate` and `plan`.

Decides: what is shown of faults, of the size and of the order. Does not decide: what is a fault (jobs.checks)
or worth a warning (jobs.world), what is there already (jobs.size), or which gangs pay (jobs.explain).
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

from jobs.outcome import DONE, INVALID
from jobs.places import opened
from jobs.size import WORDS, Size, forecast

if TYPE_CHECKING:  # what a command loads, it loads when it is called
    from engine.families.published import Published
    from jobs.explain import Explanation
    from jobs.job import Job
    from jobs.spec import JobSpec
    from jobs.world import Outside
    from manifests.findings import Finding
    from manifests.store import Store

ORDERED = 20  # films of which the plan says when they are begun
SHOWN = 5  # examples of one kind of fault; `-o json` lists all


def spec_of(arguments: argparse.Namespace) -> "JobSpec":
    """The configuration that a command names. Raises SpecError."""
    from jobs.spec import load_spec

    return load_spec(arguments.config, arguments.overrides)


def validate(arguments: argparse.Namespace) -> int:
    """Print every fault of a manifest."""
    from jobs.checks import check
    from jobs.show import count
    from jobs.stock import stock
    from manifests.source import read_source

    spec, manifest = spec_of(arguments), read_source(arguments.manifest)
    findings = check(manifest, stock(spec, exact=False), spec)
    if arguments.output == "json":
        print(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False, indent=1))
    elif findings:
        print(findings_text(findings, manifest.n_rows))
    else:
        print(f"{arguments.manifest}: {count(manifest.n_rows, 'row')}, all valid")
    return INVALID if findings else DONE


def findings_text(findings: Sequence["Finding"], n_rows: int) -> str:
    """Findings for people: one group a code, the most frequent first, each with a few examples."""
    from jobs.show import count
    from manifests.findings import faulty_rows

    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.code, []).append(finding)
    bad = len(faulty_rows(findings) - {-1})
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    lines = [line for code, group in ordered for line in _group(code, group)]
    return "\n".join([*lines, f"{count(len(findings), 'finding')} in {bad} of {count(n_rows, 'row')}"])


def _group(code: str, group: Sequence["Finding"]) -> Iterator[str]:
    """One code: how often, what to do, and where."""
    from jobs.show import one_line

    hints = list(dict.fromkeys(finding.hint for finding in group))
    yield f"{code}  {len(group):,} times" + (f"  {hints[0]}" if len(hints) == 1 else "")
    for finding in group[:SHOWN]:
        where = f"row {finding.row_index} ({finding.row_id}) " if finding.row_index >= 0 else ""
        hint = f"; {finding.hint}" if len(hints) > 1 else ""
        yield "    " + one_line(f"{where}{finding.json_path}: {finding.message}{hint}", 500)
    if len(group) > SHOWN:
        yield f"    … and {len(group) - SHOWN} more; -o json lists all"


def plan(arguments: argparse.Namespace) -> int:
    """Print how much there is to render, with --out how much of it is there already, and the warnings.

    With --explain also which gangs pay on a farm, with --model for a checkpoint that is not here.
    """
    from jobs.job import Invalid, prepare
    from jobs.models import PUBLISHED_PROFILE, checkpoint_of
    from jobs.soundness import check_models
    from jobs.spec import load_spec
    from jobs.world import as_json, as_text

    _check_asked(arguments)
    store = opened(arguments.out) if arguments.out else None
    checkpoint = checkpoint_of(arguments.model) if arguments.model else None
    spec = load_spec(arguments.config, arguments.overrides, PUBLISHED_PROFILE if checkpoint else None)
    try:
        job = prepare(arguments.manifest, spec, checkpoint=checkpoint, exact=store is not None)
    except Invalid as error:
        return _refuse(error.findings, error.n_rows, arguments.output)
    if checkpoint is None:
        check_models(job.stocked, spec.cluster.cache)
    warnings = [] if checkpoint else _warnings(job)
    size = forecast(job.films, store) if store else job.census()
    explained = _explain(job, size, store, checkpoint, arguments) if arguments.explain else None
    if arguments.output == "json":
        facts = _facts(job, arguments.out, size) | {"warnings": [as_json(warning) for warning in warnings]}
        print(json.dumps(facts | (explained.json if explained else {}), ensure_ascii=False, indent=1))
        return DONE
    _print_plan(job, arguments.out, size)
    for warning in warnings:
        print(as_text(warning))
    if explained:
        explained.show()
    return DONE


def _check_asked(arguments: argparse.Namespace) -> None:
    """Refuse what only --explain has a use for."""
    from jobs.refusal import Refused

    if not arguments.explain and arguments.farm:
        raise Refused("--farm is for --explain: add it, or leave it out")


def _explain(
    job: "Job",
    size: "Size",
    store: "Store | None",
    checkpoint: "Published | None",
    arguments: argparse.Namespace,
) -> "Explanation":
    """What --explain says of the job on every farm that is asked for."""
    from cluster.calibration import measured
    from jobs.explain import Explanation, farms
    from jobs.sketch import sketches, work_of
    from jobs.wider import widening

    models, beside = sketches(job.stocked, checkpoint), job.spec.cluster.stage_gpus > 0
    return Explanation.of(
        farms(arguments.farm),
        work_of(size.loads, models, beside),
        work_of(size.longest, models, beside),
        n_films=size.to_do["films"],
        film_s=float(size.to_do["film_s"]),
        cluster=job.spec.cluster,
        measured=measured(store) if store else {},
        widening=widening(job, store, models, beside),
    )


def _warnings(job: "Job") -> "list[Outside]":
    from jobs.world import outside, worlds

    idioms = {name: one.idiom for name, one in job.stocked.items()}
    return outside(job.levels, worlds(job.stocked), idioms)


def _refuse(findings: Sequence["Finding"], n_rows: int, output: str) -> int:
    """A manifest with faults has no plan."""
    if output == "json":
        print(
            json.dumps({"findings": [asdict(finding) for finding in findings]}, ensure_ascii=False, indent=1)
        )
    else:
        print(findings_text(findings, n_rows))
    return INVALID


def _facts(job: "Job", out: str | None, size: Size) -> dict[str, Any]:
    counts = {
        name: {"total": float(size.total[name]), "to_render": float(size.to_do[name])}
        if name == "film_s"
        else {"total": size.total[name], "to_render": size.to_do[name]}
        for name in WORDS
    }
    rows = {"rows": job.manifest.n_rows, "invalid_rows": job.manifest.n_rows - job.n_films}
    stitched = [{"mode": mode, "why": why, "shots": n} for (mode, why), n in size.stitched.most_common()]
    job_facts = {"job_id": job.job_id, "manifest": job.manifest.source, "out": out}
    return job_facts | rows | counts | {"stitching": stitched, "edited": size.edited} | _order_facts(job)


def _order_facts(job: "Job") -> dict[str, Any]:
    """The order in which films are begun, of a manifest that asks for one."""
    return {"order": list(job.manifest.ordered(job.order))} if job.order else {}


def _print_plan(job: "Job", out: str | None, size: Size) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from jobs.show import count, one_line

    table = Table(box=SIMPLE, title=f"{job.job_id}", title_justify="left")
    for name in ("", "in all", *(("there already", "to render") if out else ())):
        table.add_column(name, justify="right" if name else "left")
    for name, words in WORDS.items():
        total, left = size.total[name], size.to_do[name]
        shown = (total, total - left, left) if out else (total,)
        table.add_row(words, *(_number(value) for value in shown))
    Console().print(table)
    for (mode, why), n in size.stitched.most_common():
        print(f"stitching  {count(n, 'shot')} by {mode}: {why}")
    for row, shots in size.edited.items():
        renders = "; ".join(f"{shot}, {why}" for shot, why in shots.items())
        print(one_line(f"edited     {row} renders {renders}", 500))
    for line in _order_lines(job):
        print(one_line(line, 500))
    if job.findings:
        left_out = count(job.manifest.n_rows - job.n_films, "faulty row")
        print(f"left out: {left_out}; longtake validate lists the faults")


def _order_lines(job: "Job") -> Iterator[str]:
    """The first films in the order in which they are begun, of a manifest that asks for one."""
    if job.order is None:
        return
    for place, row in enumerate(islice(job.manifest.ordered(job.order), ORDERED), 1):
        waits = f" after {', '.join(row['depends_on'])}" if row["depends_on"] else ""
        yield f"order      {place:,} {row['row_id']}, priority {row['priority']}{waits}"
    if job.n_films > ORDERED:
        yield f"order      and {job.n_films - ORDERED:,} more; -o json lists all"


def _number(value: Any) -> str:
    """Thousands apart; seconds to a tenth."""
    return f"{value:,}" if isinstance(value, int) else f"{float(value):,.1f}"
