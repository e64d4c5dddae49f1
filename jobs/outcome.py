"""What became of a job: its exit code, its last line, and its rows of results. Pure.

Ray reports only success or failure, so the driver's last line carries the rest.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cluster.events import FilmDone
from cluster.outcomes import Failure, Outcome
from cluster.tasks import VISUAL_ONLY, VersionTask
from jobs.bill import Bill

DONE, TOOL, USAGE, INVALID, SOME_FAILED, FAILED, CANCELLED, TIMED_OUT, STOPPED = range(9)
UNREACHABLE, INTERRUPTED = 9, 130
LAST_LINE = "LONGTAKE_RESULT"
RESULTS_KEY = "results.parquet"


@dataclass(frozen=True)
class JobResult:
    """A job's counts, in films, where to look, and what this run of it took."""

    job_id: str
    status: str
    exit_code: int
    films: int
    done: int
    failed: int
    invalid: int
    reused: int
    seconds: float
    out: str
    results: str
    report: str
    dropped: int = 0  # of the failed ones: those for which there was no time or money
    early: str = ""  # code of what ended the job before its end
    deadline: str = ""  # UTC
    gpu: Bill = field(default_factory=Bill)

    @property
    def last_line(self) -> str:
        """The line that scripts read."""
        return f"{LAST_LINE} {json.dumps(asdict(self), ensure_ascii=False)}"


def verdict(done: int, failed: int, invalid: int) -> tuple[str, int]:
    """The status and exit code of a job that came to its end."""
    if not failed and not invalid:
        return "done", DONE
    return ("some_failed", SOME_FAILED) if done else ("failed", FAILED)


def early_end(closing: Failure) -> tuple[str, int]:
    """The status and exit code of a job that was ended before its end."""
    ends = {"E930_CANCELLED": ("cancelled", CANCELLED), "E941_BREAKER": ("failed", FAILED)}
    ends |= {"E802_STORE_FULL": ("unreachable", UNREACHABLE)}
    return ends.get(closing.code, ("stopped", STOPPED))


def results_key(job_id: str) -> str:
    """Where a job's own results stay; RESULTS_KEY shows those of the job that ended last."""
    return f"jobs/{job_id}/{RESULTS_KEY}"


def film_key(row_id: str, lang: str) -> str:
    """Where a film is published."""
    return f"films/{row_id}.{lang}.mp4"


def captions_key(row_id: str, lang: str) -> str:
    """Where its captions are."""
    return f"films/{row_id}.{lang}.vtt"


def sheet_key(row_id: str) -> str:
    """Where its contact sheet is."""
    return f"report/sheets/{row_id}.jpg"


def rows_of(film: FilmDone) -> Iterator[dict[str, Any]]:
    """One row of results a language; columns that only the driver knows are left out."""
    shots = [segment.source for segment in film.film.master.segments]
    master = film.results[film.film.master.key]
    common = {
        "row_id": film.film.row_id,
        "shots": len(shots),
        "windows": sum(shot.course.n_windows for shot in shots),
        "model": shots[0].model.digest,
        "seed": shots[0].shot.seed,
        "fps_num": film.film.master.segments[0].picture.fps.numerator,
        "fps_den": film.film.master.segments[0].picture.fps.denominator,
        "held": None if isinstance(master, Failure) else master.facts.get("held"),
        "render_s": round(sum(o.seconds for o in _fresh(film.results)), 3),
    }
    for version in film.film.versions:
        told = {"lang": version.lang, "title": version.title or None}
        yield common | told | _columns(film.film.row_id, version, film.results[version.key])
    versions = [film.results[version.key] for version in film.film.versions]
    if isinstance(master, Failure) and not any(isinstance(result, Failure) for result in versions):
        yield common | {"lang": VISUAL_ONLY} | _trouble(master)  # else it would fail without a word


def _fresh(results: Mapping[str, Outcome | Failure]) -> list[Outcome]:
    """What this run made itself."""
    return [result for result in results.values() if isinstance(result, Outcome) and not result.reused]


def _trouble(failure: Failure) -> dict[str, Any]:
    return {"status": "failed", "code": failure.code, "message": failure.message, "hint": failure.hint}


def _columns(row_id: str, version: VersionTask, result: Outcome | Failure) -> dict[str, Any]:
    if isinstance(result, Failure):
        return _trouble(result)
    facts = result.facts
    return {
        "status": "done",
        "output_uri": film_key(row_id, version.lang),
        "captions_uri": captions_key(row_id, version.lang) if "captions" in result.files else None,
        "output_bytes": facts["size_bytes"],
        "output_sha256": facts["sha256"],
        "width_px": facts["width_px"],
        "height_px": facts["height_px"],
        "frame_count": facts["frame_count"],
        "duration_s": facts["duration_s"],
        "reused": result.reused,
    }
