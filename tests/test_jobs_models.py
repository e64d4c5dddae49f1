"""Claims about `longtake models`: what is listed, and what is said of a folder."""

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine.families.known import FAMILIES
from engine.families.loading import load_part
from engine.families.published import MOCHI, TABLE, published
from engine.takes import FIRST, LAST, Takes
from jobs.cli import main
from jobs.refusal import SpecError
from jobs.spec import load_spec
from jobs.stock import stock

ROOT = Path(__file__).parent.parent


def listed(words, capsys):
    assert main(["models", *words, "-o", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_only_checkpoints_of_known_families_are_listed_each_with_all_that_is_known(capsys):
    entries = {entry["name"]: entry for entry in listed([], capsys)}
    assert entries.keys() == published().keys()
    assert {entry["family"] for entry in entries.values()} <= FAMILIES.keys()
    wan = entries["Wan2.1-14B"]
    assert wan["hub"] == "Wan-AI/Wan2.1-T2V-14B-Diffusers" and wan["does"] == ["text", "v2v"]
    assert wan["parameters_b"] == {"denoiser": 14.29, "text": 5.68, "vae": 0.127}
    assert wan["weights_gib"] == {"int8": 13.31, "bfloat16": 26.62, "float32": 53.23}
    unet = entries["SVD"]["weights_gib"]  # about half of it is convolutions, which stay as they are
    assert 0.7 < unet["int8"] / unet["bfloat16"] < 0.75
    assert wan["trained"]["frames"] == 81 and wan["axes"] == ["cfg", "ring", "ulysses"]
    assert entries["HunyuanVideo"]["axes"] == ["ring", "ulysses"]
    assert not entries["HunyuanVideo"]["open_source"] and wan["open_source"]


def test_what_shots_are_drawn_from_is_what_planning_lets_them_be_given(capsys, monkeypatch):
    words = {"first_frame": "image", "last_frame": "last", "extend": "clip", "source_video": "v2v"}
    for entry in listed([], capsys):
        takes = published()[entry["name"]].facts.takes
        assert {word for role, word in words.items() if role in takes.may} == {*entry["does"]} - {"text"}
        assert ("text" in entry["does"]) == (not takes.must)
    changed = replace(
        FAMILIES[MOCHI], takes=lambda parts: Takes(frozenset({FIRST, LAST}), frozenset({FIRST}))
    )
    monkeypatch.setitem(FAMILIES, MOCHI, changed)
    (entry,) = (entry for entry in listed([], capsys) if entry["family"] == MOCHI)
    assert entry["does"] == ["image", "last"]
    assert main(["models"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("Mochi-1 "))
    assert " image+last " in line


def test_what_a_folders_weights_were_taught_is_told_with_what_its_family_does(tiny_folder, tmp_path, capsys):
    assert listed([str(tiny_folder)], capsys)[0]["does"] == ["text", "image", "clip", "v2v"]
    shutil.copytree(tiny_folder, tmp_path / "model", ignore=shutil.ignore_patterns("world.json"))
    assert listed([str(tmp_path / "model")], capsys)[0]["does"] == ["text", "v2v"]


def test_names_and_places_on_the_hub_are_of_one_checkpoint_each():
    assert (
        len({checkpoint.name for checkpoint in TABLE})
        == len({checkpoint.hub for checkpoint in TABLE})
        == len(TABLE)
    )


def test_the_list_for_people_is_aligned_and_fits_a_terminal(capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 110
    rows = lines[: len(published()) + 1]
    for heading in ("GiB bf16", "trained on", "licence"):
        place = rows[0].index(heading)
        assert all(row[place - 1] == " " and row[place] != " " for row in rows)
    assert any("*" in row for row in rows) and "not open source" in "\n".join(lines)


@pytest.mark.parametrize("name", ["CogVideoX-2B", "Wan2.2-5B", "HunyuanVideo-1.5", "LTX-Video-2B"])
def test_the_gpu_that_is_listed_is_the_least_that_a_plan_accepts(name, tmp_path, capsys):
    (entry,) = (entry for entry in listed([], capsys) if entry["name"] == name)
    frames, least = entry["trained"]["frames"], entry["least_gpu_gib"]
    manifest, farm = tmp_path / "film.yaml", tmp_path / "farm.yaml"
    shot = f"{{shot_id: s, prompt: rain, duration_frames: {frames}}}"
    manifest.write_text(f"- {{row_id: a, profile: chalk, shots: [{shot}]}}")
    words = ["plan", str(manifest), "--explain", "--model", name, "--farm", str(farm), "-o", "json"]
    for gib, accepted, more in (
        (least, True, []),
        (least - 0.1, False, []),
        (entry["least_gpu_gib_without_decoder"], True, ["cluster.stage_gpus=0"]),
        (entry["least_gpu_gib_without_decoder"] - 0.1, False, ["cluster.stage_gpus=0"]),
    ):
        farm.write_text(f"{{gpu: H100, memory_gib: {gib}}}")
        assert main([*words, *more]) == 0
        (told,) = json.loads(capsys.readouterr().out)["farms"]
        assert (told["refusal"] == "") is accepted, (gib, more, told["refusal"])
    assert main(["models"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{name} "))
    assert f" {math.ceil(least)} " in line


def test_a_folder_is_told_by_its_own_files(tiny_folder, capsys):
    (entry,) = listed([str(tiny_folder)], capsys)
    sizes = {
        part.name: sum(path.stat().st_size for path in part.glob("*.safetensors"))
        for part in tiny_folder.iterdir()
        if part.is_dir()
    }
    assert {name: part["bytes"] for name, part in entry["parts"].items()} == {
        n: s for n, s in sizes.items() if s
    }
    assert entry["family"] == "CogVideoXPipeline" and entry["parts"]["transformer"]["dtype"] == "float32"
    assert main(["models", str(tiny_folder)]) == 0
    text = capsys.readouterr().out
    assert f"{entry['parts']['vae']['parameters']:,} parameters" in text
    assert max(map(len, text.splitlines())) <= 110


def test_parameters_of_a_folder_are_those_that_are_loaded(tiny_folder, capsys):
    (entry,) = listed([str(tiny_folder)], capsys)
    for part, name in (("transformer", "transformer"), ("vae", "vae")):
        module = getattr(load_part(tiny_folder, part, "float32").pipeline, name)
        assert entry["parts"][name]["parameters"] == sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("breakage", ["absent", "empty", "weights"])
def test_a_folder_that_is_no_model_is_one_message(tmp_path, tiny_folder, breakage, capsys):
    folder = tmp_path / "model"
    if breakage == "empty":
        folder.mkdir()
    if breakage == "weights":
        shutil.copytree(tiny_folder, folder)
        next((folder / "vae").glob("*.safetensors")).write_bytes(b"\xff" * 32)
    assert main(["models", str(folder)]) == 2
    error = capsys.readouterr().err
    assert str(folder) in error and error.count("\n") == 1


def test_variants_beside_the_weights_are_not_counted_twice(tmp_path, tiny_folder, capsys):
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    (weights,) = (folder / "transformer").glob("*.safetensors")
    shutil.copy(weights, weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    (one,), (two,) = listed([str(tiny_folder)], capsys), listed([str(folder)], capsys)
    assert one["parts"] == two["parts"]


@pytest.mark.parametrize("modules", ["jobs.models", "jobs.explain, jobs.farm, cluster.choose", "jobs.sketch"])
def test_the_arithmetic_of_planning_loads_no_torch(modules):
    program = f"import sys, {modules}\nassert not {{'torch', 'ray', 'diffusers'}} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


# What a gang of two branches is refused for.


def test_two_ranks_for_one_branch_of_guidance_are_refused_where_guidance_is_off():
    chalk = "profiles.chalk.sampling.guidance_scale"
    with pytest.raises(SpecError, match=r"guidance_scale=1 turns guidance off .* set cluster\.cfg=1"):
        stock(load_spec(None, ["cluster.cfg=2", f"{chalk}=1.0"]))
    stock(load_spec(None, ["cluster.cfg=2", f"{chalk}=1.5"]))
    stock(load_spec(None, ["cluster.cfg=1", f"{chalk}=1.0"]))


def test_two_ranks_for_one_branch_of_guidance_are_refused_where_the_model_is_distilled(tmp_path):
    folder = tmp_path / "hunyuan"
    checkpoint = published()["HunyuanVideo"]
    for part, config in checkpoint.parts.items():
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(config))
    (folder / "model_index.json").write_text('{"_class_name": "HunyuanVideoPipeline"}')
    words = [f"profiles.chalk.model.folder={folder}", "cluster.cfg=2"]
    with pytest.raises(SpecError, match=r"the model of profiles\.chalk is distilled .* set cluster\.cfg=1"):
        stock(load_spec(None, words))
    stock(load_spec(None, [words[0], "cluster.cfg=1", "cluster.ulysses=8"]))
