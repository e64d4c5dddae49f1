"""A job's configuration: what is unknown or out of range is refused by its key, the rest is frozen."""

import json
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobs.refusal import SpecError
from jobs.spec import JobSpec, as_plain, load_spec

REFUSED = [
    ("unknown key", "nope=1", "nope"),
    ("unknown key of a section", "cluster.gpus=1", "cluster.gpus"),
    ("unknown key of a profile", "profiles.chalk.sampling.steps=4", "profiles.chalk.sampling.steps"),
    ("word for a number", "cluster.threads=many", "cluster.threads"),
    ("fraction of a thread", "cluster.threads=1.5", "cluster.threads"),
    ("section without content", "cluster=null", "cluster"),
    ("no steps", "profiles.chalk.sampling.n_steps=-1", "n_steps=-1"),
    ("too many steps", "profiles.chalk.sampling.n_steps=1001", "1 to 1000"),
    ("guidance that is no number", "profiles.chalk.sampling.guidance_scale=nan", "guidance_scale=nan"),
    ("guidance below none", "profiles.chalk.sampling.guidance_scale=-5", "guidance_scale=-5"),
    (
        "a schedule that there is not",
        "profiles.chalk.sampling.guidance_schedule=sine",
        "constant, linear, cosine",
    ),
    ("an interval of no step", "profiles.chalk.sampling.guidance_start=1.0", "the first below the second"),
    ("an interval beyond the steps", "profiles.chalk.sampling.guidance_stop=1.5", "guidance_stop=1.5"),
    ("rescaling by more than all", "profiles.chalk.sampling.guidance_rescale=2", "guidance_rescale=2.0"),
    ("a cache that there is not", "profiles.chalk.sampling.cache=tea", "none, taylorseer"),
    ("a cache at a place in a model", "profiles.chalk.sampling.cache=magcache", "change ranks at every step"),
    ("a cache that counts steps there", "profiles.chalk.sampling.cache=seacache", "sums up changes"),
    ("an interval without a cache", "profiles.chalk.sampling.cache_interval=3", "set it to taylorseer"),
    ("dtype that no kernel has", "profiles.chalk.model.dtype=float8", "'float8'"),
    ("a place where no weights can wait", "profiles.chalk.model.offload=cloud", "'cloud'"),
    ("bits that there are not", "profiles.chalk.model.quantise=int4", "'int4'"),
    ("float8 of float32", "profiles.chalk.model.quantise=float8", "model.dtype=bfloat16, not float32"),
    ("overlap too small for its lead-in", "profiles.chalk.window.lead_in=3", "window.overlap=4"),
    ("no overlap", "profiles.chalk.window.overlap=0", "window.overlap=0"),
    ("mode that there is not", "profiles.chalk.window.mode=fold", "'fold'"),
    ("noise that there is not", "profiles.chalk.window.noise=pink", "'pink'"),
    ("draft under nothing", "profiles.chalk.window.sigma=0", "window.sigma=0"),
    ("draft under noise alone", "profiles.chalk.window.sigma=1", "window.sigma=1"),
    ("windows for less than no gang", "profiles.chalk.window.gangs=-1", "window.gangs=-1"),
    ("window as long as its overlap", "profiles.chalk.window.size=4", "window.size=4"),
    ("upscaling by less than nothing", "profiles.chalk.picture.upscale=-1", "picture.upscale=-1"),
    ("frame rate below nothing", "profiles.chalk.picture.fps_num=-1", "picture.fps_num=-1"),
    ("one side of a size", "profiles.chalk.picture.width_px=64", "give both, or neither"),
    ("quality that x264 lacks", "profiles.chalk.picture.crf=52", "picture.crf=52"),
    ("preset that x264 lacks", "profiles.chalk.picture.preset=quick", "'quick'"),
    ("drift below nothing", "profiles.chalk.quality.max_drift=-1", "quality.max_drift=-1"),
    ("drift without end", "profiles.chalk.quality.max_drift=inf", "quality.max_drift=inf"),
    ("limit that no row can meet", "profiles.chalk.limits.max_shot_s=-1", "max_shot_s=-1"),
    ("limit that bounds nothing", "profiles.chalk.limits.max_film_s=inf", "max_film_s=inf"),
    ("no decoder", "cluster.decoders=0", "cluster.decoders=0"),
    ("gang of none", "cluster.ulysses=-1", "cluster.ulysses=-1"),
    ("guidance of three", "cluster.cfg=3", "two branches"),
    ("negative gangs", "cluster.gangs=-1", "cluster.gangs=-1"),
    ("checkpoint at no step", "cluster.checkpoint_every=0", "cluster.checkpoint_every=0"),
    ("checkpoint at no time", "cluster.checkpoint_s=0", "checkpoint_s=0"),
    ("gang that may not wait", "cluster.group_timeout_s=0", "group_timeout_s=0"),
    ("unknown policy", "on_invalid=ignore", "'ignore'"),
    ("reference to nothing", "identity=${nowhere}", "nowhere"),
    ("YAML without an end", "roots=[a", "parsing a flow sequence"),
]

CACHED = [
    ("cache_interval=1", "cache_interval=1 steps must lie in 2 to 10"),
    ("guidance_stop=0.5", "over the steps at which guidance begins and ends .*guidance_stop=0.5"),
]


@pytest.mark.parametrize(("override", "named"), CACHED)
def test_what_a_step_cache_cannot_go_together_with_is_refused(override: str, named: str) -> None:
    profile = [f"profiles.chalk.sampling.{told}" for told in ("cache=taylorseer", override)]
    with pytest.raises(SpecError, match=named):
        load_spec(None, profile)


@pytest.mark.parametrize(("override", "named"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED])
def test_what_cannot_be_used_is_refused_by_its_key_in_one_line(override: str, named: str) -> None:
    with pytest.raises(SpecError) as error:
        load_spec(None, [override])
    assert named in str(error.value) and "\n" not in str(error.value)


def test_weights_are_shared_out_or_wait_elsewhere_and_not_both() -> None:
    with pytest.raises(SpecError, match="exclude each other"):
        load_spec(None, ["profiles.chalk.model.zero=true", "profiles.chalk.model.offload=disk"])


@pytest.mark.parametrize("chosen", ["quantise=int8", "compile=true"])
@pytest.mark.parametrize("kept", ["zero=true", "offload=memory"])
def test_8_bits_and_compiled_kernels_are_for_weights_that_stay_whole(chosen: str, kept: str) -> None:
    with pytest.raises(SpecError, match=rf"model\.{chosen} and model\.{kept} exclude each other"):
        load_spec(None, [f"profiles.chalk.model.{each}" for each in (chosen, kept)])


def test_int8_is_refused_where_its_sums_would_overflow() -> None:
    told = "profiles.chalk.model.quantise=int8"
    assert load_spec(None, [told, "profiles.chalk.model.dtype=bfloat16"]).profiles["chalk"].model.quantise
    with pytest.raises(SpecError, match=r"set model\.dtype=bfloat16"):
        load_spec(None, [told, "profiles.chalk.model.dtype=float16"])


def test_shuffled_noise_is_refused_where_nothing_is_blended() -> None:
    for mode in ("skeleton", "extend"):
        told = ["profiles.chalk.window.noise=freenoise", f"profiles.chalk.window.mode={mode}"]
        with pytest.raises(SpecError, match=rf"window.noise=freenoise .* window.mode={mode}"):
            load_spec(None, told)


UNREADABLE = [
    ("not YAML", b"cluster: {"),
    ("not text", b"\xff\xfe\x00"),
    ("a list", b"- cluster\n"),
    ("a tag that would run code", b"roots: !!python/object/apply:os.getcwd []"),
    ("a key given twice", b"cluster: {threads: 1, threads: 2}"),
]


@pytest.mark.parametrize("content", [case[1] for case in UNREADABLE], ids=[c[0] for c in UNREADABLE])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, content: bytes) -> None:
    (tmp_path / "job.yaml").write_bytes(content)
    with pytest.raises(SpecError):
        load_spec(tmp_path / "job.yaml")


def test_a_file_that_is_absent_is_refused_by_its_path(tmp_path) -> None:
    with pytest.raises(SpecError, match=r"job\.yaml: No such file"):
        load_spec(tmp_path / "job.yaml")


def test_an_override_wins_over_the_file_and_the_file_over_the_default(tmp_path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("cluster: {threads: 2, decoders: 3}\nprofiles: {chalk: {sampling: {n_steps: 7}}}\n")
    spec = load_spec(path, ["cluster.threads=4"])
    assert (spec.cluster.threads, spec.cluster.decoders, spec.cluster.finishers) == (4, 3, 1)
    assert spec.profiles["chalk"].sampling.n_steps == 7
    assert spec.profiles["chalk"].picture == JobSpec().profiles["chalk"].picture


def test_a_new_profile_stands_beside_the_embedded_one() -> None:
    spec = load_spec(None, ["profiles.big.model.folder=/models/big", "profiles.big.picture.upscale=1"])
    assert sorted(spec.profiles) == ["big", "chalk"]
    assert spec.profiles["big"].model.folder == "/models/big"
    assert spec.profiles["big"].picture.upscale == 1 != spec.profiles["chalk"].picture.upscale


def test_a_spec_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        load_spec().cluster.threads = 2  # type: ignore[misc]


@settings(max_examples=15, deadline=None)  # a merge of all sections takes a twentieth of a second
@given(st.integers(1, 1000), st.integers(1, 9), st.integers(0, 51), st.sampled_from(["reject", "skip"]))
def test_the_plain_form_gives_the_same_spec_again(steps: int, gangs: int, crf: int, policy: str) -> None:
    told = [f"profiles.chalk.sampling.n_steps={steps}", f"cluster.gangs={gangs}", f"on_invalid={policy}"]
    spec = load_spec(None, [*told, f"profiles.chalk.picture.crf={crf}"])
    flat = as_plain(spec)
    assert flat["profiles"]["chalk"]["sampling"]["n_steps"] == steps
    again = [f"cluster.{key}={json.dumps(value)}" for key, value in flat["cluster"].items()]
    assert load_spec(None, again).cluster == spec.cluster


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=40))
@example("[")
def test_any_override_is_taken_or_refused_and_never_an_error_of_the_tool(text: str) -> None:
    try:
        assert isinstance(load_spec(None, [text]), JobSpec)
    except SpecError as error:
        assert str(error)
