"""Gangs are tried on Ray before a job's axes are settled, and what they took is known to the next job."""

import json
import time

import pytest

from cluster.calibration import measured
from cluster.choose import NEAR
from cluster.crew import Setup
from cluster.rehearsal import Rehearsal
from cluster.trials import WARM
from engine.parallel.axes import ALONE, Axes
from jobs.axes import with_axes
from jobs.cli import main
from jobs.farm import load_farm
from jobs.job import prepare
from jobs.spec import load_spec
from manifests.store import open_store
from tests.test_jobs_explain import many_films

ULYSSES = Axes.of_gang(1, 1, 2)
FARM = "{gpu: cpu, gpus: 2, memory_gib: 8, tflops: 3e-5, inside_gb_s: 1}"  # so slow that trials pay


def told(folder):
    return [
        f"profiles.chalk.model.folder={folder}",
        "profiles.chalk.sampling.n_steps=4",
        "cluster.ulysses=0",
        "cluster.stage_gpus=0",  # else such a farm's one decoder would take longer than any gangs
    ]


class Watching:
    """An overseer that keeps what it is told, and ends the trials when gangs have predicted so often."""

    def __init__(self, most=10**6):
        self.most, self.took_gpu_s, self.had_gpu_s, self.ended_s = most, [], [], 0.0

    def took(self, gang, seconds, gpu_s):
        self.took_gpu_s.append(gpu_s)

    def had(self, gpu_s):
        self.had_gpu_s.append(gpu_s)

    def goes_on(self, gpu_s=0.0):
        on = len(self.took_gpu_s) < self.most
        self.ended_s = self.ended_s or (0.0 if on else time.monotonic())
        return on

    def resumed(self):
        return False


@pytest.fixture
def job_and_machine(tmp_path, tiny_folder):
    (tmp_path / "farm.yaml").write_text(FARM)
    job = prepare(many_films(tmp_path, 40), load_spec(None, told(tiny_folder)))
    return job, load_farm(tmp_path / "farm.yaml")


def test_gangs_of_one_and_two_ranks_are_timed_kept_and_told_as_measured(
    job_and_machine, tmp_path, tiny_folder, ray_here, capsys
):
    (job, machine), out = job_and_machine, str(tmp_path / "out")
    asked, watching = [], Watching()

    def rehearse(trials, shot):
        asked.extend(trials)
        return Rehearsal(Setup(out, str(tmp_path / "identity"), device="cpu"), watching)(trials, shot)

    settled, reason = with_axes(job, machine, open_store(out), rehearse)
    known = measured(open_store(out))
    assert {one.axes for one in asked} == {ALONE, ULYSSES} and len(known) == 2
    assert all(0 < seconds < 60 for seconds in known.values())
    assert "of 2 gangs that were tried, 2 told their time" in reason
    assert len(watching.took_gpu_s) == 2 * (1 + WARM) and len(watching.had_gpu_s) == 2
    assert 0 < sum(watching.took_gpu_s) < sum(watching.had_gpu_s)
    one, two = (next(s for key, s in known.items() if f"ulysses{n} cpu" in key) for n in (1, 2))
    assert settled.spec.cluster.ulysses == (2 if two * NEAR < one / 2 else 1)

    again, reason = with_axes(job, machine, open_store(out), lambda *_: pytest.fail("all was measured"))
    assert again.spec.cluster == settled.spec.cluster and "tried" not in reason
    words = ["--out", out, "--farm", str(tmp_path / "farm.yaml"), *told(tiny_folder)]
    assert main(["plan", job.manifest.source, "--explain", "-o", "json", *words]) == 0
    (farm,) = json.loads(capsys.readouterr().out)["farms"]
    assert farm["best"]["measured"] and farm["best"]["axes"]["ring"] == 1
    assert main(["plan", job.manifest.source, "--explain", *words]) == 0
    assert capsys.readouterr().out.count("measured ") >= 2


def test_a_gang_that_fails_or_takes_too_long_tells_nothing_and_the_job_goes_on(
    job_and_machine, tmp_path, ray_here
):
    (job, machine), out = job_and_machine, str(tmp_path / "out")
    setup = Setup(out, str(tmp_path / "identity"), device="cpu")
    late = Rehearsal(setup, Watching(), most_s=0.01)
    settled, reason = with_axes(job, machine, open_store(out), late)
    assert measured(open_store(out)) == {} and "2 gangs that were tried, 0 told" in reason
    assert settled.spec.cluster.ulysses in (1, 2)


def test_trials_that_are_ended_let_their_gang_go_at_once(job_and_machine, tmp_path, ray_here):
    (job, machine), out = job_and_machine, str(tmp_path / "out")
    watching = Watching(most=1)
    rehearsal = Rehearsal(Setup(out, str(tmp_path / "identity"), device="cpu"), watching)
    with_axes(job, machine, open_store(out), rehearsal)
    over_s = time.monotonic()
    assert measured(open_store(out)) == {} and len(watching.took_gpu_s) == len(watching.had_gpu_s) == 1
    assert watching.ended_s and over_s - watching.ended_s < 10.0
