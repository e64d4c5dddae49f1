"""Claims about shots that are given up: what is kept of them runs their last step again, to the same bits."""

import hashlib
import json
import shutil
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from cluster.events import Predict
from cluster.identity import Adapter, Asset, Model, Sampling
from cluster.outcomes import Failure, Scene
from cluster.plain import from_plain, to_plain
from cluster.quarantine import deserves
from cluster.rank import Rank
from cluster.reproduce import task_of
from cluster.shots import GivenTask, ShotTask
from engine.phases import Stitch
from engine.timeline import PromptSpan, Shot
from engine.windows import Layout
from jobs.cli import main
from manifests.store import open_store
from tests.night import film, first, is_predicting, night_of, results_of, shot_task, workers

# Tasks as JSON.

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
MODEL = st.builds(Model, TEXT, st.just("float32"), TEXT, quantise=st.sampled_from(["", "int8"]))
ASSET = st.builds(Asset, st.sampled_from(["first_frame", "extend"]), TEXT, TEXT)
GIVEN = st.builds(
    GivenTask,
    MODEL,
    st.lists(ASSET, max_size=2).map(tuple),
    st.integers(1, 9),
    st.one_of(st.none(), st.fractions(min_value=Fraction(1), max_value=60)),
    st.just(16),
    st.just(16),
)
SHOT = st.builds(
    ShotTask,
    MODEL,
    st.builds(
        Shot,
        TEXT,
        st.integers(17, 40),
        TEXT.map(lambda text: (PromptSpan(text), PromptSpan(text, 9, 2))),
        TEXT,
        st.integers(0, 2**62),
    ),
    st.builds(Sampling, st.integers(1, 9), st.floats(0, 9), guidance_rescale=st.floats(0, 1)),
    st.builds(Layout, st.just(5), st.just(2), st.just(1)),
    st.just(16),
    st.just(16),
    st.just(8),
    st.lists(GIVEN, max_size=2).map(tuple),
    st.builds(Stitch, st.sampled_from(["blend", "skeleton"]), first_step=st.just(0), why=TEXT),
    st.lists(st.builds(Adapter, TEXT, st.floats(-2, 2), TEXT), max_size=2).map(tuple),
    st.integers(1, 3),
)


@settings(deadline=None)
@given(SHOT)
def test_a_shot_survives_the_way_through_json_with_its_key_and_all_its_tasks(task):
    back = from_plain(ShotTask, json.loads(json.dumps(to_plain(task))))
    assert back == task and back.key == task.key and back.needs == task.needs


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": "red"}, "has no colour"),
        ({"height_px": "16"}, "is no int"),
        ({"height_px": True}, "is no int"),
        ({"model": []}, "Model is made of a mapping"),
        ({"shot": {"shot_id": "s"}}, "missing"),
    ],
)
def test_what_is_no_shot_is_refused(change, said):
    with pytest.raises(TypeError, match=said):
        from_plain(ShotTask, to_plain(shot_task("s")) | change)


def test_a_bundle_of_another_release_is_refused():
    task = shot_task("s")
    assert task_of({"task": to_plain(task), "key": task.key}) == task
    with pytest.raises(ValueError, match="another release"):
        task_of({"task": to_plain(task), "key": "another"})


# Where it happened.


def failure_of(night, shot):
    return results_of(night, "1")[shot.key]


def test_a_window_that_kills_its_gangs_is_given_up_with_its_step_its_part_and_the_last_host():
    shot = shot_task("s", 3)
    night = night_of(film("1", shot), max_losses=2)
    for _ in range(2):
        night.run(stop=lambda: first(night, lambda call: is_predicting(shot)(call) and call.window.part == 1))
        night.lose(first(night, lambda call: is_predicting(shot)(call) and call.window.part == 1).gang)
    night.run()
    assert failure_of(night, shot).scene == Scene(0, 1, "denoise-0", "host-0")
    assert deserves(failure_of(night, shot))


def test_a_step_whose_blending_fails_is_given_up_as_a_whole():
    shot = shot_task("s", 2)
    night = night_of(film("1", shot))
    night.run(stop=lambda: any(getattr(call, "step", -1) == 1 for call in night.calls))
    (call,) = [call for call in night.calls if getattr(call, "step", -1) == 1]
    night.raise_at(call, name="DATA", code="E621_NOT_FINITE")
    assert failure_of(night, shot).scene == Scene(1, -1, "conduct-0", "host-0")


def test_a_window_that_raises_for_good_is_given_up_with_its_part():
    shot = shot_task("s", 2)
    night = night_of(film("1", shot), staff=workers(gangs=2))
    night.run(stop=lambda: first(night, lambda call: isinstance(call, Predict) and call.window.part == 1))
    night.raise_at(
        first(night, lambda call: isinstance(call, Predict) and call.window.part == 1), name="DATA"
    )
    scene = failure_of(night, shot).scene
    assert (scene.step, scene.part) == (0, 1) and scene.worker.startswith("denoise-")


def test_only_what_nobody_can_explain_is_kept():
    assert all(deserves(Failure("E", "", "", name)) for name in ("POISON", "GPU_FAULT", "TIMEOUT", "BUG"))
    assert deserves(Failure("E621_NOT_FINITE", "", "", "DATA"))
    assert not any(deserves(Failure("E", "", "", name)) for name in ("DATA", "GPU_OOM", "UPSTREAM", "USER"))


# A real shot.

FILM = """
- row_id: rain
  profile: chalk
  width_px: 64
  height_px: 64
  shots:
    - {shot_id: s1, prompt: rain falls over green hills, duration_frames: 17}
"""


@pytest.fixture
def run(tmp_path, tiny_folder, capsys):
    """Renders the film into a folder by name; the exit code and what was said."""
    path = tmp_path / "film.yaml"
    path.write_text(FILM)

    def render(name, folder=tiny_folder):
        settings = {"model.folder": folder, "sampling.n_steps": 4, "window.size": 4, "window.overlap": 2}
        settings |= {"picture.upscale": 1, "picture.preset": "ultrafast"}
        told = [f"profiles.chalk.{key}={value}" for key, value in settings.items()]
        told += [f"identity={tmp_path / 'identity'}", "cluster.checkpoint_every=2"]
        code = main(["run", str(path), "--out", str(tmp_path / name), "--local", "--job-id", "night", *told])
        return code, capsys.readouterr()

    return render


def reproduced(capsys, out, *words):
    job = ["reproduce", "night", "--out", str(out), "--row", "rain", "--shot", "s1", "--device", "cpu"]
    code = main([*job, *words, "-o", "json"])
    return code, json.loads(capsys.readouterr().out)


def digest(packed):
    return hashlib.blake2b(packed.values.tobytes(), digest_size=16).hexdigest()


def test_the_step_is_run_again_from_the_checkpoint_with_the_very_bits_of_an_undisturbed_night(
    tmp_path, run, capsys, monkeypatch
):
    real, seen = Rank.predict, []

    def noting(self, request):
        fared, packed = real(self, request)
        seen.append((digest(request.latents), digest(packed)))
        return fared, packed

    monkeypatch.setattr(Rank, "predict", noting)
    assert run("calm")[0] == 0 and len(seen) == 8
    (poisoned, right), calm = seen[7], list(seen)  # window 1 of the last step

    def failing(self, request):
        if digest(request.latents) == poisoned:
            raise RuntimeError("an illegal address")
        return real(self, request)

    monkeypatch.setattr(Rank, "predict", failing)
    code, said = run("broken")
    assert code == 5 and "longtake reproduce night" in said.err
    monkeypatch.setattr(Rank, "predict", noting)
    seen.clear()
    code, told = reproduced(capsys, tmp_path / "broken")
    bundle = told["bundle"]
    assert bundle["at"] == {"step": 3, "part": 1, "worker": "denoise", "host": ""}
    assert "/000002-" in bundle["checkpoint"]["key"] and bundle["versions"]["torch"]
    assert (code, [each["digest"] for each in told["tried"]]) == (0, [right])
    assert seen == [*calm[4:6], calm[7]], "from the checkpoint on, and of the step only what is asked"
    left = {str(path) for path in Path(tmp_path, "broken").rglob("*")}
    code, told = reproduced(capsys, tmp_path / "broken", "--step", "1")
    assert code == 0 and [each["digest"] for each in told["tried"]] == [calm[2][1], calm[3][1], ""]
    assert left == {str(path) for path in Path(tmp_path, "broken").rglob("*")}, "nothing is written there"


def test_weights_that_make_no_numbers_make_none_when_the_step_is_run_again(
    tmp_path, run, capsys, tiny_folder
):
    folder = tmp_path / "nan"
    shutil.copytree(tiny_folder, folder)
    (path,) = (folder / "transformer").glob("*.safetensors")
    tensors = load_file(path)
    tensors["proj_out.bias"] = tensors["proj_out.bias"] * float("nan")
    save_file(tensors, path)
    assert run("out", folder)[0] == 5
    code, told = reproduced(capsys, tmp_path / "out")
    assert code == 4 and told["failed"] and told["bundle"]["error"]["code"] == "E621_NOT_FINITE"
    first_window, second, blended = told["tried"]
    assert first_window["not_finite"] == first_window["values"] > 0 and second["not_finite"]
    assert blended["failure"]["code"] == "E621_NOT_FINITE" and blended["part"] == -1
    said = main(["reproduce", "night", "--out", str(tmp_path / "out"), "--row", "rain", "--shot", "s1"])
    assert said == 4 and "it went wrong again" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--row", "snow", "--shot", "s1"], "it has rain s1"),
        (["--row", "rain", "--shot", "s1", "--step", "9"], "no step 9"),
        (["--row", "rain", "--shot", "s1", "--window", "9"], "no window 9"),
    ],
)
def test_what_was_not_given_up_or_is_no_part_of_it_is_refused(tmp_path, capsys, words, said):
    store, task = open_store(str(tmp_path)), shot_task("s1", 2)
    store.put_marker("jobs/night/job.json", {"job_id": "night"})
    error = {"code": "E910_POISON", "message": "3 workers died"}
    body = {"row_id": "rain", "shot_id": "s1", "error": error, "task": to_plain(task), "key": task.key}
    store.put_marker("jobs/night/quarantine/rain/s1/000001.json", body | {"at": {"step": 0, "part": 0}})
    assert main(["reproduce", "night", "--out", store.url, *words]) == 2
    assert said in capsys.readouterr().err
