"""A camera and an adapter from a manifest to a film, and every way in which an adapter cannot be had."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cluster.identity import Adapter
from engine.camera import Camera
from engine.families.adapter_files import weights_of
from jobs.adapters import shot_adapters
from jobs.cli import main

SETTINGS = {
    "sampling.n_steps": 2,
    "window.size": 4,
    "window.overlap": 2,
    "picture.upscale": 1,
    "picture.preset": "ultrafast",
}


@pytest.fixture
def home(tiny_folder: Path, tmp_path: Path) -> Path:
    """A folder of adapters for the tiny model."""
    weights = weights_of(tiny_folder)
    module = "transformer_blocks.0.attn1.to_q"
    n_out, n_in = weights[module]
    for number, name in enumerate(("ink", "push")):
        generator = torch.Generator().manual_seed(number)
        state = {
            f"transformer.{module}.lora_A.weight": torch.randn((2, n_in), generator=generator),
            f"transformer.{module}.lora_B.weight": torch.randn((n_out, 2), generator=generator),
        }
        save_file(state, tmp_path / f"{name}.safetensors")
    return tmp_path


@pytest.fixture
def told(tiny_folder: Path, home: Path) -> list[str]:
    """What follows a command's manifest: a profile with two adapters, one named for a camera's move."""
    chosen = [f"profiles.chalk.{key}={value}" for key, value in SETTINGS.items()]
    return [
        *chosen,
        "profiles.chalk.picture={width_px: 64, height_px: 64}",
        f"profiles.chalk.model.folder={tiny_folder}",
        "profiles.chalk.adapters.ink={path: ink.safetensors, scale: 0.5}",
        "profiles.chalk.adapters.push-in={path: push.safetensors}",
        f"roots=[{home}]",
        f"identity={home / 'identity'}",
    ]


def film(home: Path, row_id: str, shot: dict[str, Any] | None = None, **changes: Any) -> str:
    path = home / f"{row_id}.jsonl"
    one = {"shot_id": "a", "prompt": "green hills", "duration_frames": 21} | (shot or {})
    path.write_text(json.dumps({"row_id": row_id, "profile": "chalk", "seed": 1, "shots": [one]} | changes))
    return str(path)


def latents(out: Path) -> set[str]:
    """The artefacts of all shots' latents."""
    return {
        json.loads(path.read_text())["files"]["latents"] for path in (out / "done" / "shot").rglob("*.json")
    }


def test_films_with_and_without_a_camera_and_adapters_differ_and_each_is_the_same_wherever_it_comes(
    told: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = film(home, "plain")
    moving = film(home, "moving", {"camera": "slow push in", "adapters": [{"name": "ink"}]})
    guided = [
        "profiles.chalk.sampling.guidance_rescale=0.7",
        "profiles.chalk.sampling.guidance_schedule=linear",
    ]
    found = []
    for order in ((plain, moving, plain), (moving, plain)):
        out = home / f"out-{len(found)}"
        for path in order:
            assert main(["run", path, "--out", str(out), "--local", *told]) == 0, capsys.readouterr().out
        found.append(latents(out))
    assert found[0] == found[1] and len(found[0]) == 2
    assert main(["run", plain, "--out", str(home / "out-1"), "--local", *told, *guided]) == 0
    assert len(latents(home / "out-1")) == 3
    assert len(list((home / "out-0" / "films").glob("*.mp4"))) == 2


def test_a_film_with_an_adapter_at_scale_0_has_the_bits_of_one_without(told: list[str], home: Path) -> None:
    for row_id, adapters in (("with", [{"name": "ink", "scale": 0.0}]), ("without", None)):
        path = film(home, row_id, adapters=adapters)
        assert main(["run", path, "--out", str(home / "out"), "--local", *told]) == 0
    assert (
        len(list((home / "out" / "done" / "shot").rglob("*.json"))) == 2 and len(latents(home / "out")) == 1
    )


INK, PUSH = Adapter("i" * 64, 0.5, "/ink"), Adapter("p" * 64, 1.0, "/push")
ALLOWED = {"ink": INK, "push_in": PUSH}


def test_a_shots_adapters_take_the_place_of_its_rows_and_its_cameras_comes_behind_them() -> None:
    of_row = {"adapters": [{"name": "ink", "scale": None}]}
    assert shot_adapters(of_row, {}, ALLOWED, None) == (INK,)
    assert shot_adapters(of_row, {"adapters": []}, ALLOWED, None) == ()
    assert shot_adapters(of_row, {}, ALLOWED, Camera("push in", "slow")) == (INK, PUSH)
    assert shot_adapters(of_row, {}, ALLOWED, Camera("pan left")) == (INK,)
    own = {"adapters": [{"name": "push_in", "scale": 0.1}]}
    assert shot_adapters(of_row, own, ALLOWED, Camera("push in")) == (Adapter(PUSH.artefact, 0.1, "/push"),)


BAD_ROWS = [
    ("an unknown name", [{"name": "oil"}], "E207_UNKNOWN_ADAPTER", "/name", "use one of ink, push-in"),
    ("no name", [{"scale": 1.0}], "E207_UNKNOWN_ADAPTER", "/name", "use one of"),
    (
        "a scale that is no number",
        [{"name": "ink", "scale": float("nan")}],
        "E209_ADAPTER_SCALE",
        "/scale",
        "number",
    ),
]


@pytest.mark.parametrize("case", BAD_ROWS, ids=[case[0] for case in BAD_ROWS])
@pytest.mark.parametrize("of_row", [True, False])
def test_a_row_that_cannot_have_its_adapter_is_a_finding(
    told: list[str], home: Path, capsys: pytest.CaptureFixture[str], case: Any, of_row: bool
) -> None:
    _, adapters, code, field, hint = case
    path = film(home, "bad", **({"adapters": adapters} if of_row else {"shot": {"adapters": adapters}}))
    assert main(["validate", path, "-o", "json", *told]) == 3
    (finding,) = json.loads(capsys.readouterr().out)
    where = "" if of_row else "/shots/0"
    assert (finding["code"], finding["json_path"]) == (code, f"{where}/adapters/0{field}")
    assert hint in finding["hint"]


def test_an_adapter_named_twice_is_a_finding_and_two_shots_may_each_name_it(
    told: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = [{"name": "ink"}, {"name": "ink", "scale": 1.0}]
    assert main(["validate", film(home, "bad", adapters=twice), "-o", "json", *told]) == 3
    (finding,) = json.loads(capsys.readouterr().out)
    assert (finding["code"], finding["json_path"]) == ("E208_DUPLICATE_ADAPTER", "/adapters/1/name")
    shots = [
        {"shot_id": name, "prompt": "hills", "duration_frames": 9, "adapters": twice[:1]}
        for name in ("a", "b")
    ]
    assert main(["validate", film(home, "good", shots=shots), *told]) == 0


def test_csv_refuses_what_it_cannot_hold(
    home: Path, told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    source = film(home, "ink", adapters=[{"name": "ink"}])
    assert main(["manifest", "convert", source, str(home / "m.csv")]) != 0
    assert "CSV cannot hold adapters" in capsys.readouterr().err
    assert main(["manifest", "convert", source, str(home / "m.parquet")]) == 0
    assert main(["validate", str(home / "m.parquet"), *told]) == 0


@pytest.mark.parametrize("kept", ["offload=memory", "zero=true", "quantise=int8", "compile=true"])
def test_adapters_are_refused_for_weights_that_no_rank_holds_whole_and_as_they_are(
    told: list[str], home: Path, capsys: pytest.CaptureFixture[str], kept: str
) -> None:
    words = [*told, f"profiles.chalk.model.{kept}", "cluster.ulysses=2"]
    assert main(["validate", film(home, "plain"), *words]) == 2
    assert "leave model.zero, model.offload, model.quantise and" in capsys.readouterr().err


def test_a_profile_whose_adapter_cannot_be_had_is_refused_before_any_row(
    told: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = load_file(home / "ink.safetensors")
    save_file({key.replace("attn1", "attn9"): x for key, x in state.items()}, home / "foreign.safetensors")
    (home / "pickled.bin").write_bytes(pickle.dumps({}))
    (home / "torn.safetensors").write_bytes((home / "ink.safetensors").read_bytes()[:40])
    manifest = film(home, "plain")
    for path, named in (
        ("absent.safetensors", "no such file"),
        ("/etc/hostname", "outside the allowed roots"),
        ("https://host/a.safetensors", "only local paths"),
        ("pickled.bin", "pickled weights are refused"),
        ("torn.safetensors", "cannot be read"),
        (
            "foreign.safetensors",
            "another model: 2 of its 2 keys fit no weight: transformer.transformer_blocks.0.attn9",
        ),
    ):
        assert (
            main(
                [
                    "run",
                    manifest,
                    "--out",
                    str(home / "out"),
                    *told,
                    f"profiles.chalk.adapters.ink.path={path}",
                ]
            )
            == 2
        )
        said = capsys.readouterr().err
        assert "profiles.chalk.adapters.ink" in said and named in said, said
    assert not (home / "out").exists()
