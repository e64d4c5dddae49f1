"""Claims about `plan --explain`: farms that are read, what is told of them, and what ranks measured."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from immutables import Map

from cluster.calibration import FOLDER, KINDS, MET, SAMPLES, Stopwatch, keep, measured
from cluster.choose import NoFit
from cluster.crew import Setup
from cluster.dispatch import Canvas, State
from cluster.events import Fared, Predicted, Window
from cluster.topology import TooSmall, fit
from engine.families.denoiser import read_denoiser
from engine.parallel.axes import ALONE, Axes
from jobs.axes import with_axes
from jobs.cli import main
from jobs.farm import EXAMPLES, load_farm
from jobs.job import prepare
from jobs.refusal import SpecError, code_of
from jobs.settle import with_open_axes
from jobs.spec import load_spec
from manifests.store import open_store

WAN_PIXELS = 4.2 * 1280 * 720 / (832 * 480)  # GiB of a decoder, from what an H100 showed at 832 x 480
NIGHTLY = str(Path(__file__).parent.parent / "jobs" / "examples" / "nightly.yaml")
FILM = """
- row_id: {row}
  profile: chalk
  width_px: 128
  height_px: 128
  shots:
    - {{shot_id: s1, prompt: rain falls over green hills, duration_frames: 100}}
"""


def explained(words, capsys):
    assert main(["plan", *words, "--explain", "-o", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_example_farms_are_what_their_names_say():
    shapes = [(m.nodes, m.gpus, round(m.memory_gib)) for m in map(load_farm, EXAMPLES)]
    assert shapes == [(1, 1, 24), (1, 8, 80), (4, 8, 80)]
    assert load_farm(EXAMPLES[2]).between_gb_s == 12.5  # 100 Gb/s


def test_a_gpu_without_a_name_is_described_by_its_numbers(tmp_path):
    path = tmp_path / "farm.yaml"
    path.write_text("{gpus: 2, memory_gib: 16, tflops: 50, inside_gb_s: 6, latency_us: 30}")
    farm = load_farm(path)
    assert (farm.memory_gib, farm.tflops, farm.inside_gb_s, farm.gpu) == (16.0, 50.0, 6.0, "")
    assert farm.latency_s == pytest.approx(30e-6) and 0 < farm.efficiency < 1
    path.write_text("{gpu: H100, memory_gib: 94}")
    assert (load_farm(path).memory_gib, load_farm(path).tflops) == (94.0, 989.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{gpu: H100, gpus: many}", "gpus"),
        ("{gpu: H100, nodes: 0}", "nodes=0 must be at least 1"),
        ("{gpu: H100, gpu_count: 8}", "Key 'gpu_count' not in 'FarmSpec'"),
        ("{gpu: T4}", "memory_gib is not given, and gpu='T4' is none of A10G"),
        ("{gpus: 2, memory_gib: 16, tflops: 50}", "inside_gb_s is not given"),
        ("{gpu: H100, efficiency: 1.5}", "efficiency=1.5 must be at most 1"),
        ("{gpu: H100, tflops: -1}", "tflops=-1.0 must be 0 or more"),
        ("{gpu: H100, between_gb_s: 0}", "between_gb_s=0.0 must be above 0"),
        ("[1, 2]", "farm.yaml"),
        ("gpu: [", "farm.yaml"),
    ],
)
def test_a_bad_farm_is_refused_with_its_file_and_field(tmp_path, text, said, capsys):
    path = tmp_path / "farm.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=re.escape(said)):
        load_farm(path)
    assert main(["plan", NIGHTLY, "--explain", "--farm", str(path)]) == 2
    error = capsys.readouterr().err
    assert str(path) in error and error.count("\n") == 1


def test_a_farm_that_is_not_there_is_refused(tmp_path, capsys):
    assert main(["plan", NIGHTLY, "--explain", "--farm", str(tmp_path / "no.yaml")]) == 2
    assert "cannot read the farm" in capsys.readouterr().err


def test_what_only_an_explanation_needs_is_refused_without_one(capsys):
    assert main(["plan", NIGHTLY, "--farm", str(EXAMPLES[0])]) == 2
    assert "--explain" in capsys.readouterr().err


def test_a_published_checkpoint_is_planned_at_its_own_size_without_its_weights(tmp_path, capsys):
    manifest = tmp_path / "film.yaml"
    manifest.write_text("- {row_id: a, profile: chalk, shots: [{shot_id: s, prompt: rain, duration_s: 5}]}")
    words = [str(manifest), "--model", "wan2.1-14b", "--farm", str(EXAMPLES[1])]
    plan = explained(words, capsys)
    (shape,) = plan["shapes"].items()
    assert shape[0] == "Wan2.1-14B in bfloat16 at 1280x720 px"
    assert shape[1] == {"latent_frames": 21, "tokens": 75600, "branches": 2, "weights_gib": 26.617}
    (farm,) = plan["farms"]
    assert farm["best"]["axes"] == {"cfg": 2, "ring": 1, "ulysses": 4} and farm["refusal"] == ""
    assert farm["settings"] == ["cluster.cfg=2", "cluster.ring=1", "cluster.ulysses=4"]
    assert farm["configured"]["axes"] == {"cfg": 1, "ring": 1, "ulysses": 1}
    best = farm["best"]
    denoised_s, decoded_s = 50 * best["window_step_s"][shape[0]], best["decoding_gpu_s"]
    assert decoded_s == pytest.approx(81 * 0.03 * 1280 * 720 / (832 * 480), rel=0.1)  # as an H100 showed
    assert best["seconds"] == best["longest_film_s"] == pytest.approx(denoised_s + decoded_s, rel=1e-3)
    assert best["gpu_s"] == pytest.approx(8 * denoised_s + decoded_s, rel=1e-3)
    assert best["films_an_hour"] == pytest.approx(3600 / best["seconds"], rel=1e-3)
    int8 = explained([*words, "profiles.chalk.model.quantise=int8"], capsys)
    assert int8["shapes"]["Wan2.1-14B in bfloat16 int8 at 1280x720 px"]["weights_gib"] == 13.309
    assert int8["farms"][0]["best"]["gib"] == pytest.approx(best["gib"] - 13.309, abs=0.01)
    smaller = explained(
        [*words, "profiles.chalk.picture.width_px=832", "profiles.chalk.picture.height_px=480"], capsys
    )
    assert "Wan2.1-14B in bfloat16 at 832x480 px" in smaller["shapes"]


def test_an_explanation_for_people_has_the_gangs_aligned_the_settings_and_the_reason(capsys):
    assert main(["plan", NIGHTLY, "--explain", "--model", "Wan2.1-14B"]) == 0
    text = capsys.readouterr().out
    small, box, farm = re.split(r"^farm_\w+\.yaml: ", text, flags=re.M)[1:]
    assert "cannot be rendered there: Wan2.1-14B in bfloat16 at 1280x720 px needs 44.0 GiB" in small
    assert "the GPU has 24.0 GiB" in " ".join(small.split())
    for each in (box, farm):
        table = [line for line in each.splitlines() if re.match(r"  (gang|cfg|ring|ulysses|one model)", line)]
        assert len({len(line) for line in table[:4]}) == 1 and "s/window step" in table[0]
    assert "cluster.cfg=2 cluster.ring=1 cluster.ulysses=1" in box and "as configured, one model a GPU" in box
    assert (
        "times as fast as one model a GPU" in " ".join(farm.split())
        and max(map(len, text.splitlines())) <= 110
    )


def test_more_shots_under_way_are_advised_where_they_would_fill_idle_gpus(tmp_path, capsys):
    manifest = tmp_path / "films.yaml"
    shots = "[{shot_id: s, prompt: rain, duration_s: 3}]"
    manifest.write_text("".join(f"- {{row_id: a{n}, profile: chalk, shots: {shots}}}\n" for n in range(64)))
    words = [str(manifest), "--model", "CogVideoX-2B", "--farm", str(EXAMPLES[2])]
    (farm,) = explained(words, capsys)["farms"]
    settings = "cluster.max_canvases=32 cluster.max_films=32 cluster.conductors=4 cluster.decoders=8 "
    assert farm["advice"].startswith(settings)  # one decoder would take longer than all ranks
    better = [*words, *farm["advice"].split(" would")[0].split()]
    (after,) = explained(better, capsys)["farms"]
    assert after["best"]["seconds"] < farm["best"]["seconds"] and after["advice"] == ""
    assert after["best"]["axes"] == {"cfg": 1, "ring": 1, "ulysses": 1}


def test_pixels_are_part_of_what_a_film_takes_and_are_said(tmp_path, capsys):
    manifest = tmp_path / "film.yaml"
    manifest.write_text("- {row_id: a, profile: chalk, shots: [{shot_id: s, prompt: rain, duration_s: 5}]}")
    words = [str(manifest), "--model", "CogVideoX-2B", "--farm", str(EXAMPLES[1])]
    (beside,), (elsewhere,) = (
        explained([*words, *more], capsys)["farms"] for more in ([], ["cluster.stage_gpus=0"])
    )
    assert elsewhere["best"]["decoding_gpu_s"] == 0 < beside["best"]["decoding_gpu_s"]
    assert main(["plan", *words, "--explain"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"GPU seconds, {beside['best']['decoding_gpu_s']:.3g} of them to decode" in told
    assert " s of denoising and decoding, " in told
    assert main(["plan", *words, "--explain", "cluster.stage_gpus=0"]) == 0
    assert " s of denoising, " in " ".join(capsys.readouterr().out.split())


def test_steps_without_guidance_cost_one_branch_in_a_plan(tmp_path, capsys):
    manifest = tmp_path / "films.yaml"
    shots = "[{shot_id: s, prompt: rain, duration_s: 5}]"
    manifest.write_text("".join(f"- {{row_id: a{n}, profile: chalk, shots: {shots}}}\n" for n in range(40)))
    words = [str(manifest), "--model", "Wan2.1-1.3B", "--farm", str(EXAMPLES[0])]
    whole, some, none = (
        explained([*words, *(f"profiles.chalk.sampling.{one}" for one in more)], capsys)
        for more in ([], ["guidance_stop=0.3"], ["guidance_scale=1"])
    )
    denoised = [
        best["gpu_s"] - best["decoding_gpu_s"]
        for best in (each["farms"][0]["best"] for each in (whole, some, none))
    ]
    assert denoised[1] == pytest.approx(0.3 * denoised[0] + 0.7 * denoised[2], rel=1e-3)
    assert denoised[2] == pytest.approx(denoised[0] / 2, rel=1e-3)
    assert [shape["branches"] for shape in some["shapes"].values()] == [2, 1]


def test_an_unknown_checkpoint_is_refused_with_those_that_are_near(capsys):
    assert main(["plan", NIGHTLY, "--model", "wan-14b"]) == 2
    error = capsys.readouterr().err
    assert "no checkpoint 'wan-14b' is known" in error and "Wan2.1-14B" in error


# What ranks measured.


def predicted(film, seconds, axes=ALONE, device="NVIDIA H100 80GB HBM3"):
    """A prediction of the film's first shot, and the state that follows from it."""
    task = film.master.segments[0].source
    state = State(canvases=Map({task.key: Canvas(task, "conduct-0", 1)}))
    return Predicted("gang-0", Window(task.key, 1, 0, 0), Fared(seconds, device, axes)), state


def test_the_median_of_what_was_measured_is_kept_in_the_store_and_read_again(tmp_path, make_film):
    store, watch = open_store(str(tmp_path)), Stopwatch()
    for seconds in (90.0, 2.0, 2.2, 2.1, 2.0):  # the first has loaded the weights
        watch.watch(*predicted(make_film("a"), seconds))
    watch.watch(*predicted(make_film("a"), 1.0, Axes(2, cfg=2)))  # once only: it has loaded the weights
    keep(store, watch.table())
    ((key, seconds),) = measured(store).items()
    assert seconds == 2.05 and key == "a float32 4x64x64 guided cfg1 ring1 ulysses1 H100"


def test_what_is_kept_is_bounded_and_the_latest_wins(tmp_path):
    store = open_store(str(tmp_path))
    for job in range(5):
        keep(store, {f"window {job} {n}": {"seconds": 1.0 + job, "n": 9} for n in range(KINDS // 2)})
    keep(store, {"window 4 0": {"seconds": 7.0, "n": 9}})
    known = measured(store)
    assert len(known) == KINDS and known["window 4 0"] == 7.0 and known["window 3 1"] == 4.0
    assert not any(key.startswith("window 0") for key in known)
    assert len(store.list_keys(FOLDER)) <= 2


def test_a_stopwatch_takes_constant_memory(make_film):
    watch = Stopwatch()
    for number in range(KINDS + 10):
        for _ in range(2):  # the first of a gang has loaded the weights
            watch.watch(*predicted(make_film("a", digest=f"model {number}"), 1.0))
    for _ in range(SAMPLES + 10):
        watch.watch(*predicted(make_film("a"), 1.0))
    assert len(watch.seconds) == KINDS and max(map(len, watch.seconds.values())) == SAMPLES
    assert len(watch.met) <= MET


@pytest.mark.parametrize("data", [b"no json", b"{}", b'{"windows": [["a", {"seconds": -1}], ["b"], 3]}'])
def test_a_damaged_measurement_is_as_good_as_none(tmp_path, data):
    store = open_store(str(tmp_path))
    store.put_new(f"{FOLDER}/000001.json", data)
    assert measured(store) == {}
    keep(store, {"a": {"seconds": 2.0, "n": 3}})
    assert measured(store) == {"a": 2.0}


def test_a_job_measures_and_the_next_plan_of_its_store_counts_with_that(tmp_path, tiny_folder, capsys):
    (tmp_path / "one.yaml").write_text(FILM.format(row="one"))
    (tmp_path / "two.yaml").write_text(FILM.format(row="two"))
    (tmp_path / "farm.yaml").write_text("{gpu: cpu, memory_gib: 8, tflops: 1}")
    settings = [f"profiles.chalk.model.folder={tiny_folder}", "profiles.chalk.sampling.n_steps=4"]
    out, farm = ["--out", str(tmp_path / "out")], ["--farm", str(tmp_path / "farm.yaml")]
    run = ["run", str(tmp_path / "one.yaml"), *out, "--local", f"identity={tmp_path / 'identity'}", *settings]
    assert main(run) == 0
    capsys.readouterr()
    (after,) = explained([str(tmp_path / "two.yaml"), *out, *farm, *settings], capsys)["farms"]
    assert after["best"]["measured"]
    ((_, seconds),) = measured(open_store(out[1])).items()
    assert list(after["best"]["window_step_s"].values()) == [seconds]
    (before,) = explained([str(tmp_path / "two.yaml"), *farm, *settings], capsys)["farms"]
    assert not before["best"]["measured"]
    assert main(["plan", str(tmp_path / "two.yaml"), "--explain", *out, *farm, *settings]) == 0
    assert "measured" in capsys.readouterr().out
    (none,) = explained([str(tmp_path / "one.yaml"), *out, *farm, *settings], capsys)["farms"]
    assert none["best"]["seconds"] == 0


def test_windows_too_small_for_a_gpu_are_told_how_many_a_forward_pay(tmp_path, tiny_folder, capsys):
    (tmp_path / "m.yaml").write_text(FILM.format(row="one").replace("100", "400"))
    words = [str(tmp_path / "m.yaml"), "--farm", str(EXAMPLES[0])]
    words += [f"profiles.chalk.model.folder={tiny_folder}", "profiles.chalk.window.mode=blend"]
    (farm,) = explained(words, capsys)["farms"]
    assert farm["batch"] > 1
    assert main(["plan", *words, "--explain"]) == 0
    assert f"cluster.batch={farm['batch']}, {farm['batching']}" in " ".join(capsys.readouterr().out.split())


# Axes that are left open.


def many_films(tmp_path, n):
    path = tmp_path / f"{n}.yaml"
    path.write_text("".join(FILM.format(row=f"film-{number}") for number in range(n)))
    return str(path)


@pytest.fixture
def branches_apart(monkeypatch):
    """A model's branches of guidance are forwards of their own, as most families' are."""
    monkeypatch.setattr(
        "cluster.sketch.read_denoiser", lambda folder: replace(read_denoiser(folder), one_batch=False)
    )


def test_one_window_in_two_branches_is_shared_by_them(tmp_path, tiny_folder, branches_apart):
    spec = load_spec(None, [f"profiles.chalk.model.folder={tiny_folder}", "cluster.cfg=0"])
    chosen, _ = with_axes(
        prepare(many_films(tmp_path, 1), spec), load_farm(EXAMPLES[1]), open_store(str(tmp_path / "out"))
    )
    assert chosen.spec.cluster.cfg == 2


@pytest.mark.parametrize(
    ("words", "n_films", "axes"),
    [
        ([], 1, (1, 1, 1)),  # both branches are one forward, no longer than its kernels take to start
        (["cluster.cfg=1"], 1, (1, 1, 1)),  # so small that sharing its tokens only sends them about
        (["cluster.cfg=1", "cluster.ulysses=2"], 1, (1, 1, 2)),
        (["cluster.max_canvases=8"], 16, (1, 1, 1)),
    ],
)
def test_axes_that_are_left_open_are_chosen_for_the_job_and_the_others_kept(
    tmp_path, tiny_folder, words, n_films, axes
):
    open_axes = [f"cluster.{name}=0" for name in ("cfg", "ring", "ulysses")]
    spec = load_spec(None, [f"profiles.chalk.model.folder={tiny_folder}", *open_axes, *words])
    job = prepare(many_films(tmp_path, n_films), spec)
    chosen, reason = with_axes(job, load_farm(EXAMPLES[1]), open_store(str(tmp_path / "out")))
    cluster = chosen.spec.cluster
    assert (cluster.cfg, cluster.ring, cluster.ulysses) == axes and reason
    assert (chosen.job_id, chosen.spec.profiles) == (job.job_id, job.spec.profiles)


def test_a_driver_chooses_for_the_gpus_that_ray_tells_of_and_says_why(
    tmp_path, tiny_folder, monkeypatch, branches_apart, capsys
):
    node = {"CPU": 16.0, "GPU": 8.0, "accelerator_type:H100": 1.0}
    monkeypatch.setattr("cluster.nodes.living_nodes", lambda: [node])
    folder = f"profiles.chalk.model.folder={tiny_folder}"
    job = prepare(many_films(tmp_path, 1), load_spec(None, [folder, "cluster.cfg=0"]))
    assert with_open_axes(job, str(tmp_path / "out"), None).spec.cluster.cfg == 2
    assert re.match(r"gangs  cfg 2: the job is \d\.\d\d times as fast", capsys.readouterr().out)
    settled = prepare(many_films(tmp_path, 1), load_spec(None, [folder]))
    assert with_open_axes(settled, str(tmp_path / "out"), None) is settled


@pytest.mark.parametrize(("objective", "cfg"), [("throughput", 1), ("latency", 2)])
def test_a_run_has_its_gangs_chosen_for_what_it_is_asked(
    tmp_path, tiny_folder, monkeypatch, branches_apart, capsys, objective, cfg
):
    node = {"CPU": 16.0, "GPU": 8.0, "accelerator_type:H100": 1.0}
    monkeypatch.setattr("cluster.nodes.living_nodes", lambda: [node])
    told = [f"profiles.chalk.model.folder={tiny_folder}", "cluster.cfg=0", "cluster.max_canvases=16"]
    told += ["cluster.max_films=16", "cluster.conductors=2", f"cluster.objective={objective}"]
    manifest = many_films(tmp_path, 16)
    job = prepare(manifest, load_spec(None, told))
    assert with_open_axes(job, str(tmp_path / "out"), None).spec.cluster.cfg == cfg
    capsys.readouterr()
    (farm,) = explained([manifest, *told, "--farm", str(EXAMPLES[1])], capsys)["farms"]
    assert farm["best"]["axes"]["cfg"] == cfg
    with pytest.raises(SpecError, match=r"cluster\.objective='fast' must be one of throughput, latency"):
        load_spec(None, ["cluster.objective=fast"])


def test_idle_gangs_are_advised_to_widen_overlaps_where_that_takes_no_longer(tmp_path, tiny_folder, capsys):
    (tmp_path / "farm.yaml").write_text("{gpu: H100, gpus: 2}")
    words = ["--farm", str(tmp_path / "farm.yaml"), f"profiles.chalk.model.folder={tiny_folder}"]
    words += ["profiles.chalk.window.mode=blend", "profiles.chalk.window.size=13"]

    def told(n_films, *more):
        path = tmp_path / "wide.yaml"
        path.write_text("".join(FILM.format(row=f"film-{n}") for n in range(n_films)).replace("100", "117"))
        (farm,) = explained([str(path), *words, *more], capsys)["farms"]
        return farm

    one = told(1)  # three windows on two gangs
    assert one["best"]["gangs"] == 2 and one["best"]["idle"] > 0.2
    assert one["wider"].startswith(
        "profiles.chalk.window.gangs=2 would widen overlaps on GPUs that are idle: "
    )
    assert re.search(r"80 window steps instead of 60 .+ with 100% .+ instead of 75%", one["wider"]), one[
        "wider"
    ]
    wide = told(1, "profiles.chalk.window.gangs=2")
    assert wide["best"]["seconds"] == pytest.approx(one["best"]["seconds"]) and wide["best"]["idle"] < 0.01
    assert not wide["wider"]
    assert not told(16)["wider"], "windows of other films fill the gangs"
    assert main(["plan", str(tmp_path / "wide.yaml"), "--explain", *words]) == 0
    assert "widen overlaps" not in capsys.readouterr().out


SLOW = "{gpu: cpu, gpus: 2, memory_gib: 8, tflops: 3e-5, inside_gb_s: 1}"  # so that pixels take long


def test_wider_overlaps_are_foretold_with_all_decoders_that_there_are(tmp_path, tiny_folder, capsys):
    (tmp_path / "farm.yaml").write_text(SLOW.replace("}", ", latency_us: 1e6}"))  # no gang of two pays
    shot = "    - {shot_id: s2, prompt: snow falls, duration_frames: 117}\n"
    (tmp_path / "m.yaml").write_text(FILM.format(row="one").replace("100", "117") + shot)
    words = [str(tmp_path / "m.yaml"), "--farm", str(tmp_path / "farm.yaml"), "cluster.objective=latency"]
    words += [f"profiles.chalk.model.folder={tiny_folder}", "profiles.chalk.window.mode=blend"]
    words += ["profiles.chalk.window.size=13", "profiles.chalk.sampling.n_steps=20"]
    words += ["cluster.max_canvases=1", "cluster.decoders=2"]
    (two,) = explained(words, capsys)["farms"]
    (one,) = explained([*words, "cluster.decoders=1"], capsys)["farms"]
    assert one["best"]["seconds"] > 1.02 * two["best"]["seconds"], "one decoder would be waited for"
    assert two["wider"].startswith("profiles.chalk.window.gangs=2 would widen overlaps")


@pytest.mark.parametrize(("share", "advised"), [(0.1, 2), (0.2, 2), (0.3, 1), (0.4, 1)])
def test_no_more_decoders_are_advised_than_a_run_lets_stand_beside_its_ranks(
    share, advised, tmp_path, tiny_folder, capsys
):
    (tmp_path / "farm.yaml").write_text(SLOW)
    words = [many_films(tmp_path, 16), "--farm", str(tmp_path / "farm.yaml"), f"cluster.stage_gpus={share}"]
    words += [f"profiles.chalk.model.folder={tiny_folder}", "profiles.chalk.sampling.n_steps=1"]
    (farm,) = explained(words, capsys)["farms"]
    found = re.search(r"cluster.decoders=(\d+)", farm["advice"])
    assert int(found[1] if found else 1) == advised
    two = Setup("/store", "/identity", device="cuda", stage_gpus=share, decoders=2)
    for decoders in range(1, advised + 1):
        assert fit(replace(two, decoders=decoders), [{"GPU": 2.0}])
    if advised < 2:  # though they would have paid
        with pytest.raises(TooSmall):
            fit(two, [{"GPU": 2.0}])


def test_a_run_says_of_its_gangs_what_the_plan_said_with_as_many_decoders(tmp_path, tiny_folder, capsys):
    (tmp_path / "farm.yaml").write_text(SLOW)
    told = [f"profiles.chalk.model.folder={tiny_folder}", "profiles.chalk.sampling.n_steps=20"]
    told += [f"cluster.{axis}=0" for axis in ("cfg", "ring", "ulysses")]
    manifest, farm, said = many_films(tmp_path, 4), str(tmp_path / "farm.yaml"), set()
    for decoders in (1, 4):
        job = prepare(manifest, load_spec(None, words := [*told, f"cluster.decoders={decoders}"]))
        (planned,) = explained([manifest, *words, "--farm", farm], capsys)["farms"]
        _, reason = with_axes(job, load_farm(Path(farm)), open_store(str(tmp_path / "out")))
        assert reason == planned["reason"]
        said.add(reason)
    assert len(said) == 2, "the share of GPUs at work hangs on decoders"


def test_without_gpus_axes_that_are_left_open_are_one_rank(tmp_path, tiny_folder, capsys):
    spec = load_spec(None, [f"profiles.chalk.model.folder={tiny_folder}", "cluster.ulysses=0"])
    chosen, _ = with_axes(prepare(many_films(tmp_path, 1), spec), None, open_store(str(tmp_path / "out")))
    assert chosen.spec.cluster.ulysses == 1
    words = [
        f"profiles.chalk.model.folder={tiny_folder}",
        "profiles.chalk.sampling.n_steps=2",
        "cluster.cfg=0",
    ]
    words += ["--out", str(tmp_path / "out"), f"identity={tmp_path / 'identity'}"]
    assert main(["run", many_films(tmp_path, 1), "--local", *words]) == 0


def test_films_that_no_gang_holds_do_not_keep_the_others_from_having_one(tmp_path, tiny_folder):
    path = tmp_path / "films.yaml"
    large = FILM.format(row="large").replace("128", "1600")
    path.write_text(FILM.format(row="small") + large)
    spec = load_spec(None, [f"profiles.chalk.model.folder={tiny_folder}", "cluster.ulysses=0"])
    machine = replace(load_farm(EXAMPLES[0]), memory_gib=1.6)
    chosen, reason = with_axes(prepare(str(path), spec), machine, open_store(str(tmp_path / "out")))
    assert chosen.spec.cluster.ulysses == 1 and reason


def test_weights_that_wait_in_memory_are_planned_so(tmp_path, capsys):
    manifest = tmp_path / "film.yaml"
    manifest.write_text("- {row_id: a, profile: chalk, shots: [{shot_id: s, prompt: rain, duration_s: 5}]}")
    words = [str(manifest), "--model", "wan2.1-14b", "--farm", str(EXAMPLES[1])]
    (whole,) = explained(words, capsys)["farms"]
    (waits,) = explained([*words, "profiles.chalk.model.offload=memory"], capsys)["farms"]
    alone = [
        next(each["gib"] for each in farm["candidates"] if not any(n > 1 for n in each["axes"].values()))
        for farm in (whole, waits)
    ]
    assert alone[0] == pytest.approx(44.0 + WAN_PIXELS, abs=0.1)
    assert 17 < alone[1] - WAN_PIXELS < 19
    (elsewhere,) = explained([*words, "cluster.stage_gpus=0"], capsys)["farms"]
    assert {each["pixels_gib"] for each in elsewhere["candidates"]} == {0.0}


def test_pixels_of_a_decoder_beside_a_rank_are_said_and_may_decide(tmp_path, capsys):
    manifest, farm = tmp_path / "film.yaml", tmp_path / "farm.yaml"
    manifest.write_text("- {row_id: a, profile: chalk, shots: [{shot_id: s, prompt: rain, duration_s: 5}]}")
    words = ["plan", str(manifest), "--explain", "--model", "wan2.1-14b", "--farm", str(farm)]
    farm.write_text("{gpu: H100, memory_gib: 48}")  # 44.0 of a rank and 9.7 of a decoder
    assert main(words) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "cannot be rendered there: decoding Wan2.1-14B in bfloat16 at 1280x720 px needs 9.7 GiB" in told
    assert "beside a rank has 4.0 GiB: 5.7 GiB short: use cluster.stage_gpus=0 or a picture of" in told
    assert main([*words, "cluster.stage_gpus=0"]) == 0
    assert "cannot be rendered" not in capsys.readouterr().out
    farm.write_text("{gpu: H100}")
    assert main(words) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "of GiB/GPU 9.7 are for the pixels of a decoder beside a rank; cluster.stage_gpus=0" in told


def test_a_job_that_no_gpu_of_the_cluster_holds_ends_before_it_begins(tmp_path, tiny_folder):
    spec = load_spec(None, [f"profiles.chalk.model.folder={tiny_folder}", "cluster.ulysses=0"])
    job, small = prepare(many_films(tmp_path, 1), spec), replace(load_farm(EXAMPLES[0]), memory_gib=1.0)
    with pytest.raises(NoFit, match=r"the GPU has 1\.0 GiB") as error:
        with_axes(job, small, open_store(str(tmp_path / "out")))
    assert code_of(error.value) == 5
