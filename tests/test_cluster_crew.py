"""The contract of a crew, kept by the one in this process and the one on Ray; and equal bits from both."""

import os
import shutil
import signal
import time

import pytest
import ray
from safetensors.torch import load_file, save_file

from cluster.dispatch import Limits
from cluster.events import Done, Hired, Replace, Run
from cluster.loop import render
from cluster.once import marker_key
from cluster.outcomes import Failure, Outcome


@pytest.fixture(params=["local", "ray"])
def crew(request, one_process):
    """Each kind of crew: on Ray, three gangs of one rank."""
    return one_process if request.param == "local" else request.getfixturevalue("on_ray")(3, 1)


def failure_of(done, task):
    result = done.results[task.key]
    assert isinstance(result, Failure), result
    return result


def test_a_film_renders_down_to_its_signed_version(crew, make_film):
    film = make_film("whole")
    done = crew.render([film])["whole"]
    assert all(isinstance(done.results[key], Outcome) for key in film.tasks), done.results
    (version,) = film.versions
    facts = done.results[version.key].facts
    assert facts["frame_count"] == 17 + 25
    assert facts["duration_s"] == pytest.approx(42 / 8)
    assert (facts["width_px"], facts["height_px"]) == (64, 64)
    assert crew.store.has_artefact(done.results[version.key].files["film"]) == facts["size_bytes"]


def test_a_finished_film_is_reused_without_hiring_a_crew(crew, make_film):
    def hire():
        raise AssertionError("nothing is left to do")

    film = make_film("whole")
    first = crew.render([film])["whole"]
    (again,) = render(iter([film]), hire, crew.store, Limits(), lambda event, state: None)
    for task in film.wanted:
        assert again.results[task.key].reused
        assert again.results[task.key].files == first.results[task.key].files


def test_a_film_whose_model_is_gone_fails_alone_and_says_where(crew, make_film, tmp_path):
    broken = make_film("broken", seed=2, digest="gone", folder=tmp_path / "gone")
    done = crew.render([broken, make_film("sound", seed=2)])
    for task in broken.wanted:
        failure = failure_of(done["broken"], task)
        assert failure.code == "E900_RENDER"
        assert str(tmp_path / "gone") in failure.message
    assert all(isinstance(result, Outcome) for result in done["sound"].results.values())


def test_a_film_whose_weights_are_cut_short_fails_in_the_gang_and_fails_alone(
    crew, make_film, tiny_folder, tmp_path
):
    folder = tmp_path / "cut"
    shutil.copytree(tiny_folder, folder)
    (weights,) = (folder / "transformer").glob("*.safetensors")
    os.truncate(weights, weights.stat().st_size // 2)
    broken = make_film("broken", seed=3, digest="cut", folder=folder)
    done = crew.render([broken, make_film("sound", seed=3)])
    assert isinstance(done["broken"].results[broken.master.segments[0].source.negative.key], Outcome)
    for task in broken.wanted:
        failure = failure_of(done["broken"], task)
        assert failure.code == "E622_WEIGHTS" and "every node" in failure.hint  # another gang had a try too
        assert str(folder) in failure.message and "cut short" in failure.message
    assert all(isinstance(result, Outcome) for result in done["sound"].results.values())


def test_a_film_of_predictions_that_are_no_numbers_fails_by_step_and_window_and_is_not_black(
    crew, make_film, tiny_folder, tmp_path
):
    folder = tmp_path / "nan"
    shutil.copytree(tiny_folder, folder)
    (weights,) = (folder / "transformer").glob("*.safetensors")
    tensors = load_file(weights)
    tensors["proj_out.bias"] = tensors["proj_out.bias"] * float("nan")
    save_file(tensors, weights, metadata={"format": "pt"})
    broken = make_film("broken", seed=8, digest="nan", folder=folder)
    done = crew.render([broken, make_film("sound", seed=8)])
    for task in broken.wanted:
        failure = failure_of(done["broken"], task)
        assert failure.code == "E621_NOT_FINITE" and "float32" in failure.hint
        assert "step 0 of 3" in failure.message and "latent frames 0 to" in failure.message
    assert all(isinstance(result, Outcome) for result in done["sound"].results.values())


def test_a_narration_that_fits_no_shot_fails_its_language_alone(crew, make_film):
    film = make_film("tongues", seed=4, spoken=(("hi-IN", "जल " * 200), ("ta-IN", "மழை.")))
    done = crew.render([film])["tongues"]
    hindi, tamil = film.versions
    failure = failure_of(done, hindi)
    assert "TooLong" in failure.message
    assert isinstance(done.results[tamil.key], Outcome)
    assert isinstance(done.results[film.master.key], Outcome)


def test_two_films_that_share_everything_render_it_once(crew, make_film):
    outcomes = []

    def watch(event, state):
        if isinstance(event, Done):
            outcomes.append(event)

    twins = [make_film(row_id, seed=5, digest="twins") for row_id in ("one", "two")]
    done = crew.render(twins, watch)
    assert sorted(done) == ["one", "two"]
    assert len(outcomes) == len({event.key for event in outcomes}) == len(twins[0].tasks)


def test_where_weights_lie_changes_no_bit_of_a_film(one_process, make_film, bits):
    films = [make_film("memory", 9, offload="memory"), make_film("disk", 9, offload="disk")]
    done = one_process.render([make_film("whole", 9), *films])
    reference = bits(done["whole"])
    assert len(set(reference.values())) == 4
    assert bits(done["memory"]) == bits(done["disk"]) == reference


def test_8_bits_make_another_film_of_the_same_prompts(one_process, make_film, bits):
    whole = make_film("as it is", 19)
    quantised = make_film("8 bits", 19, digest="as it is", quantise="int8")
    done = one_process.render([whole, quantised])
    found = bits(done["8 bits"])
    assert len(set(found.values())) == 4 and not set(found.values()) & set(bits(done["as it is"]).values())
    assert {key for key, task in quantised.tasks.items() if task.kind == "prompt"} <= whole.tasks.keys()


def test_a_film_of_compiled_kernels_fails_alone_where_there_is_no_compiler(
    one_process, make_film, monkeypatch
):
    monkeypatch.setenv("CXX", "no-such-compiler")
    compiled = make_film("compiled", 10, compile=True)
    done = one_process.render([compiled, make_film("sound", 10)])
    for task in compiled.wanted:
        failure = failure_of(done["compiled"], task)
        assert failure.code == "E625_COMPILER" and "no no-such-compiler in PATH" in failure.message
        assert "apt install g++" in failure.hint
    assert all(isinstance(result, Outcome) for result in done["sound"].results.values())


@pytest.mark.parametrize("batch", [1, 3])
def test_any_number_of_gangs_and_one_process_leave_the_same_bits(one_process, on_ray, make_film, bits, batch):
    reference = bits(one_process.render([make_film("alone", 6, f"alone {batch}", batch=batch)])["alone"])
    assert len(set(reference.values())) == 4
    crew = on_ray(3, 1)
    for count in (1, 2, 3):
        used = set()

        def watch(event, state, used=used):
            used.update(state.predicting.values())

        away = frozenset(f"gang-{number}" for number in range(count, 3))
        digest = f"{count} gangs {batch}"  # a key of its own: it is not reused
        film = make_film("spread", seed=6, digest=digest, batch=batch)
        done = crew.render([film], watch, away)["spread"]
        assert bits(done) == reference
        assert used == {f"gang-{number}" for number in range(count)}


def test_a_finished_artefact_that_is_gone_fails_its_film_with_what_to_do(crew, make_film):
    film = make_film("lost", seed=8)
    done = crew.render([film])["lost"]
    hash = done.results[film.master.key].files["master"]
    crew.store._place.remove(f"cas/{hash[:2]}/{hash}")
    again = crew.render([film])["lost"]
    message = failure_of(again, film.master).message
    assert hash in message and marker_key("master", film.master.key) in message
    assert all(isinstance(again.results[task.key], Outcome) for task in film.versions)


def test_a_call_that_reached_only_a_dead_worker_does_not_end_its_successor(on_ray, make_film, living):
    lent = on_ray(3, 1)
    film = make_film("late")
    lent.render([film])
    os.kill(living(lent.crew)["decode-0"], signal.SIGKILL)
    lent.act(Run("decode-0", film.master.segments[0]))
    lent.act(Replace("decode-0"))
    successor = lent.crew.stages["decode-0"].actor
    hired = list[str]()
    while not hired:
        hired = [event.worker for event in lent.wait() if isinstance(event, Hired)]
    assert hired == ["decode-0"]
    assert lent.crew.stages["decode-0"].actor is successor


def test_every_worker_of_a_crew_says_on_which_node_it_lives(on_ray, make_film):
    lent = on_ray(3, 1)
    hosts = dict[str, str]()
    lent.render(
        [make_film("hosts", seed=21)],
        lambda event, state: hosts.update((name, worker.host) for name, worker in state.workers.items()),
    )
    (node,) = {entry["NodeID"] for entry in ray.nodes()}
    assert len(hosts) == 7 and set(hosts.values()) == {node}


def test_closing_a_crew_ends_every_process_that_it_started(on_ray, make_film, living):
    lent = on_ray(3, 1)
    lent.render([make_film("last", seed=9)])
    crew = lent.crew
    before = living(crew)
    assert len(before) == 7
    crew.close()
    deadline = time.monotonic() + 30
    while running(before) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not running(before)
    assert not living(crew)


def running(pids):
    return [name for name, pid in pids.items() if os.path.exists(f"/proc/{pid}")]
