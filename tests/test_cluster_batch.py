"""Claims about batches: the same windows share a forward in every run, and as many as the figures say pay."""

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.batch import CLEARLY, CPU, MOST, Pool, choose_batch
from cluster.calibration import Stopwatch, keep, measured
from cluster.conductor import Conductor
from cluster.cost import Shape, measure_key, memory
from cluster.dispatch import Canvas, State
from cluster.events import Fared, Predicted, Window
from cluster.machine import Machine
from cluster.rank import Rank
from cluster.stages import Encoder
from cluster.strand import Strand
from engine.families.denoiser import Blocks, Denoiser
from engine.parallel.axes import ALONE
from engine.phases import Course
from engine.tensors import from_bytes
from jobs.batch import with_batch
from jobs.enrol import keep_settled
from jobs.job import prepare
from jobs.spec import load_spec
from manifests.store import open_store

DENOISER = Denoiser(6, 192, (1, 4, 4), (Blocks(6, 12 * 192**2, joint=True),), True)
TINY = Shape("tiny", "digest", DENOISER, 10**6, "float32", 13, 16, 24, 4, 8, 32, True)
LARGE = replace(TINY, name="large", frames=33, height=360, width=640, parameters=10**9)
H100 = Machine(1, 1, 79.6, 989.0, 0.335, 300.0, 12.5, 1e-4, "H100")


def work_of(*courses, shape=TINY):
    return {Strand(shape, course): 4 for course in courses}


# Which windows share a forward.


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9)), min_size=1, max_size=3), st.integers(1, 10))
def test_every_prediction_is_of_one_part_and_all_parts_but_a_steps_last_are_full(legs, batch):
    course = Course(tuple(legs), batch)
    total = 0
    for step in range(course.n_steps):
        parts = [course.predictions_of(step, part) for part in course.parts_at(step)]
        assert [n for part in parts for n in part] == list(range(sum(map(len, parts))))
        assert {len(part) for part in parts[:-1]} <= {batch} and 0 < len(parts[-1]) <= batch
        assert course.before(step) == total and len(parts) <= course.n_slots
        total += sum(map(len, parts))
    assert total == course.n_predictions == replace(course, batch=1).n_predictions


def render(store_url, task, seed, killed_after=None):
    """The latents of a shot whose parts two ranks predict in an order drawn by seed.

    The conductor dies once, after so many steps, and another one goes on from its checkpoint.
    """
    draw, ranks = random.Random(seed), [Rank(store_url), Rank(store_url)]
    conductor, steps, forwards = Conductor(store_url, 1), 0, []
    turn, *requests = conductor.open(task, 1)
    while turn.outcome is None:
        if steps == killed_after:
            conductor = Conductor(store_url, 1)
            turn, *requests = conductor.open(task, 1)
        parts = list(task.course.parts_at(turn.step))
        forwards.append([len(requests[part].prompts) for part in parts])
        answers = {
            part: ranks[draw.randrange(2)].predict(requests[part])[1]
            for part in draw.sample(parts, len(parts))
        }
        turn, *requests = conductor.advance(task.key, 1, *(answers[part] for part in parts))
        steps += 1
    assert turn.outcome.facts["batch"] == task.batch
    latents = from_bytes(conductor.store.read_artefact(turn.outcome.files["latents"]))["latents"]
    return latents, forwards


@pytest.fixture
def shot(make_film, tmp_path):
    """A shot of five predictions a step, and its store; the digest makes another key and no other bit."""

    def make(digest, batch, rescale=0.0):
        task = make_film("film", 5, digest, batch=batch).master.segments[1].source
        task = replace(task, sampling=replace(task.sampling, guidance_rescale=rescale))
        for source in task.sources:
            Encoder(str(tmp_path)).run(source)
        return str(tmp_path), task

    return make


@pytest.mark.parametrize("batch", [2, 3])
def test_a_shot_in_batches_has_the_same_bits_whoever_predicts_in_which_order_and_after_a_death(shot, batch):
    calm, forwards = render(*shot("calm", batch), seed=0)
    assert forwards == 3 * [{2: [2, 2, 1], 3: [3, 2]}[batch]]
    for seed, killed_after in ((1, None), (2, 1)):
        again, _ = render(*shot(f"again {seed}", batch), seed, killed_after)
        assert torch.equal(again, calm)


@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_a_shot_in_batches_is_the_one_without_but_for_low_bits(shot, rescale):
    alone, _ = render(*shot("alone", 1, rescale), seed=0)
    together, _ = render(*shot("together", 3, rescale), seed=0)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)
    assert alone.std() > 0.1


# How many pay.


@given(st.integers(1, 9), st.integers(1, 8), st.integers(1, 8))
def test_a_batch_is_chosen_only_where_it_clearly_saves_time(n_windows, gangs, open_shots):
    pool = Pool(H100, ALONE, gangs, open_shots)
    batch, reason = choose_batch(work_of(Course(((10, n_windows),))), pool, {})
    assert 1 <= batch <= min(MOST, n_windows) and reason.startswith(f"{batch} window")
    if open_shots == 1 and gangs >= n_windows:
        assert batch == 1  # every window has a gang of its own
    if gangs == 1 and n_windows > 1:
        assert batch > 1  # so small that a forward takes as long as its kernels' starts


def test_a_film_that_is_to_be_there_soon_keeps_its_windows_apart_where_gangs_wait_for_them():
    (strand,), pool = work_of(Course(((10, 8),))), Pool(H100, ALONE, 8, 16)
    assert choose_batch({strand: 64}, pool, {})[0] > 1
    batch, reason = choose_batch({strand: 64}, pool, {}, {strand: 1})
    assert batch == 1 and "with more of them the longest film takes" in reason


def test_windows_that_fill_a_gpu_or_its_memory_stay_alone():
    course, pool = Course(((10, 8),)), Pool(H100, ALONE, 1, 4)
    assert choose_batch(work_of(course, shape=LARGE), pool, {})[0] == 1
    two_gib = memory(TINY, ALONE, 2).gib
    small = replace(pool, machine=replace(H100, memory_gib=two_gib))
    assert choose_batch(work_of(course), small, {})[0] == 2


@settings(max_examples=50)
@given(st.floats(0.3, 1.2), st.sampled_from([None, H100]))
def test_what_was_measured_decides_and_on_cpus_nothing_else_does(share, machine):
    """Four windows in one forward took `share` of four forwards."""
    pool, work = Pool(machine, ALONE, 1, 4), work_of(Course(((10, 4),)))
    size = (TINY.frames, TINY.height * 8, TINY.width * 8)
    name = machine.gpu if machine else CPU
    known = {measure_key("digest", "float32", size, True, ALONE, name, n): 2.0 for n in range(2, MOST + 1)}
    if machine is None:
        assert choose_batch(work, pool, known)[0] == 1, "nothing is known of one window"
        known = {}
    for n in range(2 if machine else 4, MOST + 1):
        known[measure_key("digest", "float32", size, True, ALONE, name, n)] = n * share
    known[measure_key("digest", "float32", size, True, ALONE, name)] = 1.0
    batch, reason = choose_batch(work, pool, known)
    assert batch == (1 if share > CLEARLY else 4 if machine is None else 2), reason


def test_a_stopwatch_tells_forwards_of_several_windows_from_those_of_one(make_film):
    task = make_film("film", batch=4).master.segments[1].source
    state, watch = State(canvases={task.key: Canvas(task, "conduct-0", 1)}), Stopwatch()
    for part, seconds in ((0, 3.0), (1, 1.0), (0, 3.0), (1, 1.0)):
        watch.watch(Predicted("g", Window(task.key, 1, 0, part), Fared(seconds, "cpu", ALONE)), state)
    kept = {key.rpartition(" ")[2]: entry["seconds"] for key, entry in watch.table().items()}
    assert kept == {"batch4": 3.0, "cpu": 1.0}


FILM = """
- {row_id: one, profile: chalk, width_px: 128, height_px: 128,
   shots: [{shot_id: s, prompt: rain, duration_frames: 100}]}
"""


@pytest.fixture
def job(tmp_path, tiny_folder):
    (tmp_path / "m.yaml").write_text(FILM)
    words = [
        f"profiles.chalk.model.folder={tiny_folder}",
        "cluster.batch=0",
        "profiles.chalk.window.mode=blend",
    ]
    return prepare(str(tmp_path / "m.yaml"), load_spec(None, words))


def measure(job, store, batch, seconds):
    """As if a job of this store had taken so long for forwards of so many windows."""
    (film,) = job.films
    task = replace(film.master.segments[0].source, batch=batch)
    state, watch = State(canvases={task.key: Canvas(task, "conduct-0", 1)}), Stopwatch()
    for _ in range(2):
        watch.watch(Predicted("g", Window(task.key, 1, 0, 0), Fared(seconds, "cpu", ALONE)), state)
    keep(store, watch.table())
    assert measured(store)


def test_a_job_with_its_batch_left_open_takes_what_its_store_has_measured_and_keeps_it(job, tmp_path):
    store = open_store(str(tmp_path / "out"))
    assert with_batch(job, [], store)[0].spec.cluster.batch == 1
    measure(job, store, 1, 1.0)
    measure(job, store, 2, 1.2)
    chosen, reason = with_batch(job, [], store)
    assert chosen.spec.cluster.batch == 2 and "0.80 of the time" in reason
    (film,) = chosen.films
    assert film.master.segments[0].source.batch == 2
    on_cpus, _ = with_batch(job, [{"CPU": 2.0}], store)
    assert on_cpus.spec.cluster.batch == 2
    many, reason = with_batch(job, [{"CPU": 64.0}], store)  # a gang for every window
    assert many.spec.cluster.batch == 1, reason
    keep_settled(store, replace(job, spec=replace(job.spec, cluster=replace(job.spec.cluster, batch=3))), 1)
    kept, reason = with_batch(job, [], store)
    assert kept.spec.cluster.batch == 3 and "when the job began" in reason
    in_pairs = replace(job, spec=replace(job.spec, cluster=replace(job.spec.cluster, ulysses=2)))
    anew, reason = with_batch(in_pairs, [{"CPU": 64.0}], store)
    assert anew.spec.cluster.batch == 1 and "when the job began" not in reason, "it was of other gangs"
