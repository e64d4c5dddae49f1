"""Claims about takes: each is a shot of its own, and a picked one is finished with nothing else made anew."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.dispatch import Limits, State
from cluster.events import Admitted
from cluster.loop import Source, render
from cluster.outcomes import Failure
from cluster.picks import MOST, seed_of, with_takes
from jobs.cli import main
from jobs.spool import Spool
from manifests.control import give_order
from manifests.results import read_results
from manifests.store import open_store
from tests.night import film, night_of, shot_task
from tests.test_jobs_control import Desk

PICK = {"order": "pick", "rows": ["a"], "shot": "s", "take": 1}


@settings(deadline=None)
@given(st.integers(0, 2**63 - 1))
def test_each_take_has_a_seed_of_its_own_that_the_manifest_may_have_and_take_0_has_the_shots(seed):
    seeds = [seed_of(seed, take) for take in range(MOST + 1)]
    assert seeds[0] == seed and len(set(seeds)) == MOST + 1
    assert all(0 <= each < 2**63 for each in seeds)


def test_another_take_changes_its_shot_and_what_follows_from_it_and_nothing_else():
    one, other = shot_task("one", 2), shot_task("other", 2)
    before = film("a", one, other, langs=("hi", "ta"))
    after = with_takes(before, {("a", "one"): 2, ("b", "other"): 3})
    kinds = [before.tasks[key].kind for key in before.tasks.keys() - after.tasks.keys()]
    assert sorted(kinds) == ["master", "segment", "shot", "version", "version"]
    assert {t.kind for key, t in before.tasks.items() if key in after.tasks} == {"prompt", "shot", "segment"}
    assert with_takes(before, {("b", "one"): 1}) is before
    assert with_takes(before, {("a", "one"): 0}).tasks.keys() == before.tasks.keys()


def test_of_a_film_that_was_made_only_the_picked_take_and_what_follows_is_made_and_back_again_nothing():
    made = film("a", shot_task("one", 2), shot_task("other", 2), langs=("hi",))
    night = night_of(made).run()
    begun = len(night.log)
    night.ended.clear()
    night.films.append(with_takes(made, {("a", "one"): 1}))
    night.admit()
    assert night.run().ended.keys() == {"a"}
    tasks = [a.task for a in night.log[begun:] if type(a).__name__ in ("Run", "Open")]
    assert sorted(task.kind for task in tasks) == ["master", "segment", "shot", "version"]
    begun = len(night.log)
    night.ended.clear()
    night.films.append(made)
    night.admit()
    assert [type(a).__name__ for a in night.log[begun:]] == ["FilmDone"]


# When a film is made again.


def names(source, n=100):
    return [each.row_id for each in source.draw(n)]


def films(*rows):
    return [film(row, shot_task(row)) for row in rows]


class Ended:
    def __init__(self, row, failed=False):
        self.film = film(row, shot_task(row))
        result = Failure("E900_RENDER", "broke") if failed else None
        self.results = {task.key: result for task in self.film.wanted}


def test_a_pick_before_the_first_film_changes_no_order():
    source = Source(films("a", "b"), Desk([PICK]))
    assert source.ordered() == [] and names(source) == ["a", "b"] and source.desk.asked == []


def test_a_film_under_way_is_made_again_when_it_has_ended_and_not_before():
    source = Source(films("a", "b"), Desk([], [PICK]))
    source.ordered()
    assert names(source) == ["a", "b"]
    source.ordered()
    assert names(source) == []
    source.ended(Ended("b"))
    assert names(source) == []
    source.ended(Ended("a"))
    assert names(source) == ["a"] and names(source) == [] and source.desk.asked == [{"a"}]


def test_a_film_that_has_ended_is_made_again_at_once_whether_it_was_done_or_failed():
    for failed in (True, False):
        source = Source(films("a"), Desk([], [PICK], [{"order": "retry"}]))
        source.ordered()
        assert names(source) == ["a"]
        source.ended(Ended("a", failed))
        source.ordered()
        assert names(source) == ["a"]
        source.ordered()
        assert names(source) == [], "it is under way, and no retry makes it once more"


def test_a_film_that_has_not_come_yet_is_made_at_once_and_not_when_it_comes():
    source = Source(films("x", "y", "a", "z"), Desk([], [PICK]))
    source.ordered()
    assert names(source, 1) == ["x"]
    source.ordered()
    assert names(source) == ["a", "y", "z"]


def test_while_there_is_no_room_a_pick_waits(tmp_path):
    source = Source(films("x", "a"), Desk([], [PICK]))
    source.ordered()
    assert names(source, 1) == ["x"]
    source.ordered()
    assert names(source, 0) == [] and names(source, 1) == ["a"] and names(source) == []


def test_a_film_that_is_made_again_is_drawn_by_the_loop_and_yielded_twice(tmp_path):
    store = open_store(str(tmp_path))
    cancel = {"order": "cancel"}
    desk = Desk([cancel], [], [PICK])
    drawn = []

    def watch(event, state: State):
        if isinstance(event, Admitted):
            drawn.append(event.film.row_id)

    def no_crew():
        raise AssertionError("nothing is to be rendered")

    limits = Limits(max_films=1)
    done = [each.film.row_id for each in render(films("a", "b"), no_crew, store, limits, watch, desk)]
    assert done == drawn == ["a", "b", "a"]


# Counts.


def row(row_id, status, **more):
    return {"row_id": row_id, "lang": "und", "status": status} | more


def test_a_film_that_is_made_again_counts_once_however_it_ended_before(tmp_path):
    spool = Spool(tmp_path / "rows", "night", 1)
    spool.add([row("a", "done", reused=True)])
    spool.add([row("b", "failed", code="E942_DEADLINE")])
    assert (spool.films["done"], spool.films["reused"], spool.films["dropped"]) == (1, 1, 1)
    spool.void({"a", "b", "never seen"})
    assert not any(spool.films.values()) and list(spool.rows()) == []
    spool.add([row("b", "done")])
    spool.add([row("a", "failed", code="E900_RENDER")])
    assert {name: n for name, n in spool.films.items() if n} == {"done": 1, "failed": 1}
    assert [each["row_id"] for each in spool.rows()] == ["b", "a"]


# The verb.


@pytest.fixture
def rendered(tmp_path, tiny_folder, capsys):
    """Renders a film of two shots; how many tasks of each kind that added."""
    path, out = tmp_path / "film.yaml", tmp_path / "out"
    shots = "".join(f"    - {{shot_id: s{k}, prompt: rain {k}, duration_frames: 9}}\n" for k in (1, 2))
    head = "- row_id: rain\n  profile: chalk\n  width_px: 64\n  height_px: 64\n  shots:\n"
    path.write_text(head + shots)
    settings = {"model.folder": tiny_folder, "sampling.n_steps": 2, "picture.upscale": 1}
    told = [f"profiles.chalk.{key}={value}" for key, value in settings.items()]
    told += [f"identity={tmp_path / 'identity'}", "--job-id", "night", "--local"]

    def keys():
        return {p.relative_to(out).parts[1] + p.stem for p in (out / "done").rglob("*.json")}

    def run():
        before = keys() if out.exists() else set()
        assert main(["run", str(path), "--out", str(out), *told]) == 0
        kinds = ("prompt", "shot", "segment", "master", "version")
        new = keys() - before
        said = capsys.readouterr()
        return {kind: n for kind in kinds if (n := sum(key.startswith(kind) for key in new))}, said.err

    return run, out


def test_a_picked_take_is_rendered_once_and_later_only_finished_again(rendered, capsys):
    run, out = rendered
    assert run()[0] == {"prompt": 3, "shot": 2, "segment": 2, "master": 1, "version": 1}
    seeds = [read_results(open_store(str(out))).to_pylist()[0]["seed"]]
    first = (out / "films" / "rain.und.mp4").read_bytes()

    def pick(shot, take):
        words = ["--row", "rain", "--shot", shot, "--take", str(take), "--out", str(out)]
        assert main(["pick", "night", *words]) == 0
        return capsys.readouterr().out

    assert "makes rain with take 1 of shot s1; it has ended, so give its run command again" in pick("s1", 1)
    assert run()[0] == {"shot": 1, "segment": 1, "master": 1, "version": 1}
    seeds.append(read_results(open_store(str(out))).to_pylist()[0]["seed"])
    assert seeds[1] == seed_of(seeds[0], 1)
    assert (out / "films" / "rain.und.mp4").read_bytes() != first
    pick("s2", 1)
    assert run()[0] == {"shot": 1, "segment": 1, "master": 1, "version": 1}
    pick("s1", 0)
    assert run()[0] == {"master": 1, "version": 1}, "both takes were drawn: only the film is finished again"
    assert main(["takes", "night", "--out", str(out), "--row", "rain"]) == 0
    said = capsys.readouterr().out
    assert said == "s1: take 0 is picked; drawn: 0, 1\ns2: take 1 is picked; drawn: 0, 1\n"
    pick("s2", 0)
    assert run()[0] == {} and (out / "films" / "rain.und.mp4").read_bytes() == first
    assert main(["takes", "night", "--out", str(out), "--row", "snow"]) == 2
    assert "longtake pick has another one drawn" in capsys.readouterr().err


def test_what_is_picked_of_nothing_is_told(rendered):
    run, out = rendered
    store = open_store(str(out))
    give_order(store, "night", PICK | {"rows": ["rain"], "shot": "nowhere"})
    _, said = run()
    assert "row rain has no shot 'nowhere'" in said


def test_a_pick_that_cannot_be_is_refused(tmp_path, capsys):
    store = open_store(str(tmp_path))
    store.put_marker("jobs/night/job.json", {"job_id": "night"})
    words = ["pick", "night", "--out", store.url, "--row", "a", "--shot", "s", "--take", "1000"]
    assert main(words) == 2 and "from 0 to 999" in capsys.readouterr().err
    assert main([*words[:-1], "3", "-o", "json"]) == 0
    order = json.loads(capsys.readouterr().out)
    assert (order["rows"], order["shot"], order["take"]) == (["a"], "s", 3)
