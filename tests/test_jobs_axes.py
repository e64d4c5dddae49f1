"""Claims about axes that are left open: when gangs are tried, and that a job that goes on keeps its axes."""

from dataclasses import replace

import pytest

from cluster.calibration import Stopwatch, keep, key_of, measured
from cluster.choose import OBJECTIVES, NoFit
from cluster.events import Fared
from cluster.trials import WARM
from engine.parallel.axes import ALONE, Axes
from jobs.axes import with_axes
from jobs.cli import main
from jobs.enrol import keep_settled, settled_of
from jobs.farm import EXAMPLES, load_farm
from jobs.job import prepare
from jobs.settle import with_open_axes
from jobs.spec import load_spec
from jobs.stock import stock
from manifests.store import open_store
from tests.test_cluster_rehearsal import FARM, told
from tests.test_jobs_explain import explained, many_films, predicted


@pytest.fixture
def farm(tmp_path):
    path = tmp_path / "farm.yaml"
    path.write_text(FARM)
    return load_farm(path)


@pytest.fixture
def job_of(tmp_path, tiny_folder):
    return lambda n_films: prepare(many_films(tmp_path, n_films), load_spec(None, told(tiny_folder)))


@pytest.mark.parametrize(("alone_s", "ulysses"), [(10.0, 2), (3.0, 1)])
def test_the_gang_that_a_trial_shows_to_be_faster_is_settled_for(tmp_path, farm, job_of, alone_s, ulysses):
    store, seconds = open_store(str(tmp_path / "out")), {ALONE: alone_s, Axes(2, ulysses=2): 2.0}

    def rehearse(trials, shot):
        fared = [Fared(seconds[one.axes], "cpu", one.axes) for one in trials]
        return {key_of(shot, 0, each, 1): {"seconds": each.seconds, "n": WARM} for each in fared}

    settled, reason = with_axes(job_of(40), farm, store, rehearse)
    assert settled.spec.cluster.ulysses == ulysses and "2 told their time" in reason
    assert sorted(measured(store).values()) == sorted(seconds.values())


OPEN = [f"cluster.{name}=0" for name in ("cfg", "ring", "ulysses")]
HELD = {
    "zero": (["profiles.chalk.model.zero=true"], 2),
    "compile": (["profiles.chalk.model.compile=true"], 1),
    "first_block": (["profiles.chalk.sampling.cache=first_block"], 1),
}


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_an_explanation_names_and_a_run_chooses_is_what_the_run_accepts(
    tmp_path, tiny_folder, capsys, held, objective
):
    words, ranks = HELD[held]
    told = [f"profiles.chalk.model.folder={tiny_folder}", f"cluster.objective={objective}", *words]
    manifest = many_films(tmp_path, 1)
    (farm,) = explained([manifest, *told, *OPEN, "--farm", str(EXAMPLES[1])], capsys)["farms"]
    assert stock(load_spec(None, [*told, *farm["settings"]]))
    job = prepare(manifest, load_spec(None, [*told, *OPEN]))
    for machine in (load_farm(EXAMPLES[1]), None):
        cluster = with_axes(job, machine, open_store(str(tmp_path / "out")))[0].spec.cluster
        assert cluster.cfg * cluster.ring * cluster.ulysses == ranks
        assert stock(load_spec(None, [*told, *(f"cluster.{axis}" for axis in axes_of(cluster))]))


def axes_of(cluster):
    return [f"{name}={getattr(cluster, name)}" for name in ("cfg", "ring", "ulysses")]


def test_open_axes_of_weights_that_are_shared_out_are_refused_where_there_is_one_gpu_before_any_trial(
    tmp_path, tiny_folder
):
    told = [f"profiles.chalk.model.folder={tiny_folder}", "profiles.chalk.model.zero=true", *OPEN]
    job = prepare(many_films(tmp_path, 1), load_spec(None, told))
    never = lambda *_: pytest.fail("it cannot be rendered here")  # noqa: E731
    with pytest.raises(NoFit, match=r"model\.zero=true .+ no node has more than one GPU"):
        with_axes(job, load_farm(EXAMPLES[0]), open_store(str(tmp_path / "out")), never)


def test_one_process_has_nobody_to_share_weights_out_with(tmp_path, tiny_folder, capsys):
    told = [f"profiles.chalk.model.folder={tiny_folder}", "profiles.chalk.model.zero=true", *OPEN]
    assert main(["run", many_films(tmp_path, 1), "--local", "--out", str(tmp_path / "out"), *told]) == 2
    assert "profiles.chalk.model.zero=true: --local is a single process" in capsys.readouterr().err


def test_a_short_job_has_nothing_tried(tmp_path, farm, job_of):
    never = lambda *_: pytest.fail("a trial takes longer than such a job")  # noqa: E731
    with_axes(job_of(1), farm, open_store(str(tmp_path / "out")), never)


def test_a_job_that_goes_on_keeps_its_axes_whatever_was_measured_meanwhile(tmp_path, farm, job_of):
    job, store = job_of(4), open_store(str(tmp_path / "out"))
    begun = replace(job, spec=replace(job.spec, cluster=replace(job.spec.cluster, ulysses=2)))
    assert with_axes(job, farm, store)[0].spec.cluster.ulysses == 1
    keep_settled(store, begun, 1)
    again, reason = with_axes(job, farm, store)
    assert again.spec.cluster.ulysses == 2 and reason == "as when the job began"
    elsewhere, reason = with_axes(job, replace(farm, gpus=1), store)  # where no such gang is possible
    assert elsewhere.spec.cluster.ulysses == 1 and reason != "as when the job began"


def test_a_job_that_was_moved_keeps_what_it_chose_there_and_has_its_first_choice_where_that_fits_again(
    tmp_path, farm, job_of
):
    job, store = job_of(4), open_store(str(tmp_path / "out"))

    def settled(machine, epoch):
        there, reason = with_axes(job, machine, store)
        keep_settled(store, there, epoch)
        return there.spec.cluster.ulysses, reason == "as when the job began"

    begun = replace(job, spec=replace(job.spec, cluster=replace(job.spec.cluster, ulysses=2)))
    keep_settled(store, begun, 1)
    small = replace(farm, gpus=1)
    assert settled(small, 2) == (1, False)
    assert settled(small, 3) == (1, True), "of two choices the one that fits"
    assert settled(farm, 4) == (2, True) and len(settled_of(store, job.job_id)) == 2


@pytest.mark.parametrize(("words", "tried"), [([], True), (["cluster.calibrate=false"], False)])
def test_gangs_are_tried_unless_the_configuration_says_not_to(
    tmp_path, tiny_folder, monkeypatch, words, tried
):
    asked = []
    monkeypatch.setattr("cluster.nodes.living_nodes", lambda: [])
    monkeypatch.setattr("cluster.topology.machine_of", lambda nodes: None)
    monkeypatch.setattr(
        "jobs.axes.with_axes", lambda job, machine, store, rehearse: asked.append(rehearse) or (job, "")
    )
    job = prepare(many_films(tmp_path, 1), load_spec(None, [*told(tiny_folder), *words]))
    with_open_axes(job, str(tmp_path / "out"), None)
    assert [one is not None for one in asked] == [tried]


def test_what_no_job_had_measured_is_kept_as_soon_as_a_gang_has_told_it(tmp_path, make_film):
    store = open_store(str(tmp_path))
    watch = Stopwatch(measured(store))
    for n, seconds in enumerate((90.0, 2.0, 2.2, 2.1, 2.0)):  # the first has loaded the weights
        keep(store, watch.watch(*predicted(make_film("a"), seconds)))
        assert list(measured(store).values()) == ([2.1] if n >= WARM else [])
    again = Stopwatch(measured(store))
    for seconds in (90.0, *(7.0,) * WARM):
        assert again.watch(*predicted(make_film("a"), seconds)) == {}  # until the job ends


def test_two_jobs_that_keep_at_once_both_do(tmp_path, monkeypatch):
    store = open_store(str(tmp_path))
    put = type(store).put_marker

    def late(self, key, body):
        monkeypatch.setattr(type(store), "put_marker", put)
        keep(open_store(str(tmp_path)), {"other": {"seconds": 1.0, "n": 3}})
        return put(self, key, body)

    monkeypatch.setattr(type(store), "put_marker", late)
    keep(store, {"own": {"seconds": 2.0, "n": 3}})
    assert measured(store) == {"other": 1.0, "own": 2.0}
