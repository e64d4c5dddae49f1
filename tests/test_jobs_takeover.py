"""A driver that takes a job over goes on at the first film that is not finished, and asks nothing twice."""

import json
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import jobs.job
import jobs.run
from cluster.events import Done, Hired, Open, Run
from cluster.once import claim
from cluster.outcomes import Outcome
from cluster.upstream import MADE
from jobs.job import before, prepare
from jobs.run import run
from jobs.spec import JobSpec, load_spec
from manifests.control import give_order
from manifests.results import read_results
from manifests.store import Store, open_store

ROLES = ("encode", "decode", "finish", "denoise")
FACTS = {
    "frame_count": 16,
    "duration_s": 2.0,
    "width_px": 64,
    "height_px": 64,
    "size_bytes": 5,
    "sha256": "0" * 64,
}
FILES = {"prompt": ["embedding"], "shot": ["latents"], "segment": ["segment"], "master": ["master", "sheet"]}


SMALL = [f"profiles.chalk.picture.{key}" for key in ("width_px=64", "height_px=64", "upscale=1", "fps_num=8")]


class Killed(BaseException):
    """The driver is gone."""


class Brisk:
    """A crew that has done everything at once, until it is told to make an end of its driver."""

    def __init__(self, store: Store, most: int, acted: list[str]) -> None:
        self.store, self.most, self.acted = store, most, acted
        self.events: deque[Any] = deque(Hired(role, role, 8) for role in ROLES)
        self.events.append(Hired("conduct", "conduct", 8))

    def act(self, action: Any) -> None:
        """Put what a task makes, and its marker."""
        assert isinstance(action, Run | Open)
        task, worker = action.task, action.conductor if isinstance(action, Open) else action.worker
        if len(self.acted) == self.most:
            raise Killed
        self.acted.append(task.key)
        names = FILES.get(task.kind, ["film"])
        files = {name: self.store.put_artefact(f"{task.key} {name}".encode()) for name in names}
        outcome = claim(self.store, task, Outcome(task.key, task.kind, files, dict(FACTS), 1.0))
        self.events.append(Done(task.key, worker, outcome))

    def wait(self, most_s: float = 1.0) -> list[Any]:
        """The next event."""
        return [self.events.popleft()] if self.events else []

    def close(self) -> None:
        """Nothing is left."""


class Seen:
    """A Show that keeps what it is told."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []
        self.films: list[str] = []

    def begin(self, job: Any) -> None:
        self.jobs.append(job)

    def event(self, event: Any, state: Any) -> None:
        pass

    def film(self, film: Any) -> None:
        self.films.append(film.film.row_id)


@pytest.fixture
def spec() -> JobSpec:
    return load_spec(None, [*SMALL, "cluster.max_films=2"])


@pytest.fixture
def manifest(tmp_path) -> Path:
    path = tmp_path / "films.jsonl"
    path.write_text("\n".join(json.dumps(film(f"film-{i}")) for i in range(12)), encoding="utf-8")
    return path


def film(row_id: str) -> dict[str, Any]:
    shots = [{"shot_id": "a", "prompt": f"rain {row_id}", "duration_s": 2.0}]
    return {"row_id": row_id, "profile": "chalk", "shots": shots, "languages": []}


def drive(manifest: Path, out: Path, spec: JobSpec, most: int = 10**9) -> tuple[Any, Seen, list[str]]:
    """Run a job with a brisk crew that ends its driver after so many tasks; its result, None if so."""
    store, show, acted = open_store(str(out)), Seen(), list[str]()
    job = prepare(str(manifest), spec, store=store)
    try:
        return run(job, str(out), lambda setup: Brisk(store, most, acted), show), show, acted
    except Killed:
        return None, show, acted


def test_a_driver_that_takes_over_goes_on_where_the_first_one_ended(manifest, tmp_path, spec, monkeypatch):
    calm, out = tmp_path / "calm", tmp_path / "out"
    whole, *_, every = drive(manifest, calm, spec)
    result, first, _ = drive(manifest, out, spec, len(every) // 2)
    assert result is None and 3 <= len(first.films) <= 8
    monkeypatch.setattr(jobs.job, "check", lambda *_: pytest.fail("the manifest is checked again"))
    monkeypatch.setattr(jobs.job, "census", lambda *_: pytest.fail("the manifest is counted again"))
    result, second, acted = drive(manifest, out, spec)
    assert (result.status, result.done) == ("done", 12)
    assert 0 <= result.reused - len(first.films) <= 2  # of the last ones no more than their end was missing
    assert not set(first.films) & set(second.films) and len(first.films) + len(second.films) == 12
    assert len(acted) <= len(every) - len(every) // 2
    (job,) = second.jobs
    assert job.listed.n_films == len(first.films) and 0 < job.listed.predictions < job.known.work.window_steps
    found, other = (read_results(open_store(str(place))).to_pylist() for place in (out, calm))
    told = ("row_id", "lang", "status", "output_uri", "output_sha256", "frame_count", "shots", "windows")
    assert sorted(str([row[name] for name in told]) for row in found) == sorted(
        str([row[name] for name in told]) for row in other
    )
    assert {row["row_id"] for row in found if row["reused"]} >= set(first.films)
    assert whole.done == 12


def test_what_is_not_listed_is_looked_for_film_by_film(manifest, tmp_path, spec, monkeypatch):
    monkeypatch.setattr(jobs.run.Finishing, "add", lambda *_: None)
    _, first, before = drive(manifest, tmp_path / "out", spec, 20)
    result, second, acted = drive(manifest, tmp_path / "out", spec)
    assert first.films and len(second.films) == 12 and result.reused >= len(first.films)
    assert not set(before) & set(acted)


def test_after_its_own_end_a_job_is_looked_through_film_by_film(manifest, tmp_path, spec):
    drive(manifest, tmp_path / "out", spec)
    result, show, acted = drive(manifest, tmp_path / "out", spec)
    assert (result.done, result.reused, len(show.films), acted) == (12, 12, 12, [])


@pytest.mark.parametrize("left_out", [{"early": "E941_BREAKER", "status": "failed"}, {"dropped": 3}])
def test_after_an_end_that_left_films_out_what_was_listed_is_believed(manifest, tmp_path, spec, left_out):
    drive(manifest, tmp_path / "out", spec)
    store = open_store(str(tmp_path / "out"))
    path = Path(store.url, "jobs", one_id(store), "ended", "000001.json")
    body = json.loads(path.read_text(encoding="utf-8"))
    path.chmod(0o644)
    path.write_text(json.dumps(body | left_out), encoding="utf-8")
    result, show, _ = drive(manifest, tmp_path / "out", spec)
    assert (result.done, show.films) == (12, [])


@pytest.mark.parametrize("change", ["profiles.chalk.sampling.n_steps=3", "profiles.chalk.picture.crf=30"])
def test_other_settings_under_the_same_id_find_nothing_listed(manifest, tmp_path, spec, change):
    store = open_store(str(tmp_path / "out"))
    drive(manifest, tmp_path / "out", spec, 20)
    other = load_spec(None, [*SMALL, change])
    one, two = prepare(str(manifest), spec), prepare(str(manifest), other, one_id(store))
    assert one.asked != two.asked
    acted: list[str] = []
    show = Seen()
    run(two, store.url, lambda setup: Brisk(store, 10**9, acted), show)
    assert len(show.films) == 12


def one_id(store: Store) -> str:
    return store.list_keys("jobs")[0].split("/")[1]


def test_a_retry_of_some_rows_reads_no_others(manifest, tmp_path, spec):
    job = prepare(str(manifest), spec)
    assert [made.row_id for _, made in job.placed({"film-3", "film-7", "none"})] == ["film-3", "film-7"]
    assert [place for place, _ in job.placed({"film-3", "film-7"})] == [3, 7]


def test_a_manifest_that_names_files_is_checked_again_and_lists_nothing(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    given = film("given")
    given["shots"][0]["first_frame_uri"] = "a.png"
    path = tmp_path / "films.jsonl"
    path.write_text("\n".join(json.dumps(each) for each in (given, film("plain"))), encoding="utf-8")
    spec = load_spec(
        None, [f"roots=[{tmp_path}]", "cluster.max_films=1"]
    )  # the embedded model takes pictures
    drive(path, tmp_path / "out", spec, 12)
    store = open_store(str(tmp_path / "out"))
    assert store.list_keys(f"jobs/{one_id(store)}/checked") == []
    result, second, _ = drive(path, tmp_path / "out", spec)
    assert (len(second.films), result.done) == (2, 2)


def test_films_are_planned_one_at_a_time(manifest, spec, monkeypatch):
    planned, real = [], jobs.job.film_tasks
    monkeypatch.setattr(jobs.job, "film_tasks", lambda row, *more: planned.append(row) or real(row, *more))
    films = prepare(str(manifest), spec).films
    assert next(films).row_id == "film-0" and len(planned) == 1


def test_films_that_wait_go_on_behind_those_that_an_earlier_driver_finished(tmp_path, spec):
    path, rows = tmp_path / "films.jsonl", [film(f"film-{i}") for i in range(12)]
    rows[11] |= {"priority": 7}
    rows[10] |= {"depends_on": ["film-11", "film-9"], "priority": 9}
    rows[3] |= {"depends_on": ["film-10"]}
    rows[0] |= {"depends_on": ["film-3", "film-11"]}
    path.write_text("\n".join(json.dumps(each) for each in rows), encoding="utf-8")
    made = [f"film-{i}" for i in (9, 11, 10, 1, 2, 3, 0, *range(4, 9))]
    assert [each.row_id for each in prepare(str(path), spec).films] == made
    _, first, _ = drive(path, tmp_path / "out", spec, 12)
    assert {"film-9", "film-11"} <= set(first.films) and "film-3" not in first.films
    result, second, _ = drive(path, tmp_path / "out", spec)
    assert (result.status, result.done) == ("done", 12) and not set(first.films) & set(second.films)
    (job,) = second.jobs
    assert job.awaited["film-11"] == MADE and job.awaited["film-3"] is None
    assert [each.row_id for each in job.films] == [row for row in made if row not in first.films]
    begun = before(job)
    assert (begun.films, begun.films_done) == (12, len(first.films)) and 0 < begun.behind < begun.windows


def test_other_prices_and_logs_of_the_same_job_find_what_was_listed(manifest, tmp_path, spec):
    drive(manifest, tmp_path / "out", spec, 20)
    priced = replace(spec, log="json", cluster=replace(spec.cluster, price_per_gpu_hour=2.0, currency="EUR"))
    _, show, _ = drive(manifest, tmp_path / "out", priced)
    assert show.jobs[0].listed.n_films > 0


def test_a_take_that_is_picked_of_a_finished_film_is_made_by_the_driver_that_takes_over(
    manifest, tmp_path, spec
):
    _, first, _ = drive(manifest, tmp_path / "out", spec, 20)
    store = open_store(str(tmp_path / "out"))
    row, job_id = first.films[0], one_id(store)
    give_order(store, job_id, {"order": "pick", "rows": [row], "shot": "a", "take": 2})
    result, second, _ = drive(manifest, tmp_path / "out", spec)
    assert (result.status, result.done) == ("done", 12)
    assert row in second.films and not set(first.films[1:]) & set(second.films)
    (found,) = (one for one in read_results(store).to_pylist() if one["row_id"] == row)
    assert not found["reused"] and result.reused < 12
    assert store.list_keys(f"jobs/{job_id}/takes/{row}") == [f"jobs/{job_id}/takes/{row}/a/002.json"]
