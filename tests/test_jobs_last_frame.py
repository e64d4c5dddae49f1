"""A shot that ends with a picture, from a manifest to a film: what draws it, and what is refused."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from engine.families.adapter_files import ENDING_FILE, weights_of
from engine.families.files import folder_digest
from engine.tensors import from_bytes
from engine.timeline import latent_frames
from jobs.cli import main
from jobs.plan import film_tasks
from jobs.refusal import SpecError
from jobs.spec import load_spec
from jobs.stitching import unending
from jobs.stock import stock
from manifests.source import read_source
from manifests.store import open_store

MODULE = "transformer_blocks.0.attn1.to_q"
SETTINGS = {
    "sampling.n_steps": 2,
    "window.size": 6,
    "window.overlap": 2,
    "picture.width_px": 64,
    "picture.height_px": 64,
    "picture.upscale": 1,
    "picture.preset": "ultrafast",
}


def write_adapter(folder: Path, rank_of: str = MODULE, seed: int = 0) -> None:
    n_out, n_in = weights_of(folder)[MODULE]
    generator = torch.Generator().manual_seed(seed)
    state = {
        f"transformer.{rank_of}.lora_A.weight": torch.randn((2, n_in), generator=generator),
        f"transformer.{rank_of}.lora_B.weight": torch.randn((n_out, 2), generator=generator),
    }
    save_file(state, folder / ENDING_FILE)


@pytest.fixture
def home(tiny_folder: Path, tmp_path: Path) -> Path:
    """Pictures, and a model that was taught last frames, if badly."""
    shutil.copytree(tiny_folder, tmp_path / "model")
    write_adapter(tmp_path / "model")
    for name, grey in (("a", 30), ("b", 200)):
        Image.new("RGB", (90, 60), (grey, grey, grey)).save(tmp_path / f"{name}.png")
    return tmp_path


def told(home: Path, **changes: Any) -> list[str]:
    chosen = [f"profiles.chalk.{key}={value}" for key, value in (SETTINGS | changes).items()]
    model = f"profiles.chalk.model.folder={home / 'model'}"
    return [*chosen, model, f"roots=[{home}]", f"identity={home / 'identity'}"]


def manifest(home: Path, *shots: dict[str, Any]) -> str:
    path = home / "m.jsonl"
    each = [
        {"shot_id": f"s{number}", "prompt": "green hills", "duration_frames": 12} | changes
        for number, changes in enumerate(shots)
    ]
    path.write_text(json.dumps({"row_id": "one", "profile": "chalk", "seed": 1, "shots": each}))
    return str(path)


def run(home: Path, *shots: dict[str, Any], told: list[str]) -> int:
    return main(["run", manifest(home, *shots), "--out", str(home / "out"), "--local", *told])


def left_by(home: Path, kind: str, file: str) -> list[dict[str, torch.Tensor]]:
    store = open_store(str(home / "out"))
    markers = sorted((home / "out" / "done" / kind).rglob("*.json"))
    return [from_bytes(store.read_artefact(json.loads(one.read_text())["files"][file])) for one in markers]


def test_shots_end_with_their_picture_whatever_they_begin_with_and_others_are_as_without_an_adapter(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ending = {"last_frame_uri": "b.png"}
    shots: list[dict[str, Any]] = [{}, ending, ending | {"first_frame_uri": "a.png"}]
    assert run(home, *shots, told=told(home)) == 0, capsys.readouterr().out
    given = {name: z for made in left_by(home, "given", "canvas") for name, z in made.items()}
    assert set(given) == {"beginning", "ending"}
    found = [made["latents"] for made in left_by(home, "shot", "latents")]
    assert {z.shape[1] for z in found} == {5}, (
        "of 17 frames 12 are shown, and the last of these is of the fourth"
    )
    ended = [torch.equal(z[:, -2:], given["ending"].repeat(1, 2, 1, 1, 1)) for z in found]
    begun = [torch.equal(z[:, :1], given["beginning"]) for z in found]
    assert sorted(zip(begun, ended, strict=True)) == [(False, False), (False, True), (True, True)]
    plain = found[ended.index(False)]
    (home / "model" / ENDING_FILE).unlink()
    shutil.rmtree(home / "out")
    assert run(home, {}, told=told(home)) == 0, capsys.readouterr().out
    assert torch.equal(left_by(home, "shot", "latents")[0]["latents"], plain)


def test_the_adapter_is_part_of_what_it_draws_and_of_nothing_else(home: Path) -> None:
    def keys() -> list[str]:
        stocked = stock(load_spec(None, told(home)))
        (row,) = read_source(manifest(home, {}, {"last_frame_uri": "b.png"})).rows()
        return [segment.source.key for segment in film_tasks(row, stocked).master.segments]

    digest, before = folder_digest(home / "model"), keys()
    write_adapter(home / "model", seed=1)
    assert folder_digest(home / "model") == digest
    after = keys()
    assert after[0] == before[0] and after[1] != before[1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"duration_frames": 22}, "one window, here of at most 17 frames"),
        ({"duration_frames": 1}, "nothing is left to draw below 2 frames"),
        ({"duration_frames": 5, "first_frame_uri": "a.png"}, "nothing is left to draw below 6 frames"),
    ],
)
def test_lengths_that_cannot_end_with_a_picture_are_found_before_anything_is_rendered(
    home: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    assert run(home, {"last_frame_uri": "b.png"} | changes, told=told(home)) == 3
    captured = capsys.readouterr()
    assert "E409_LAST_FRAME" in captured.out + captured.err and said in captured.out + captured.err
    assert not (home / "out").exists()


def test_every_length_that_is_not_refused_leaves_latents_to_draw_in_one_window(home: Path) -> None:
    one = stock(load_spec(None, told(home)))["chalk"]
    taught = one.given_latents
    for role, before, hidden in (("", 0, 0), ("first_frame", 1, 0), ("extend", taught, 4 * taught - 3)):
        for n_frames in range(1, 40):
            last = math.ceil((hidden + n_frames - 1) / 4)  # the latent frame of the last pixel frame
            fits = last > before and latent_frames(hidden + n_frames) <= 6
            assert bool(unending(one, ["last_frame", role], n_frames)) != fits, (role, n_frames)
    assert not unending(one, ["first_frame"], 400)


@pytest.mark.parametrize("kept", [{"model.offload": "memory"}, {"model.quantise": "int8"}, None])
def test_a_model_without_the_adapter_or_to_whose_weights_none_is_added_takes_no_last_frame(
    home: Path, capsys: pytest.CaptureFixture[str], kept: dict[str, str] | None
) -> None:
    if kept is None:
        (home / "model" / ENDING_FILE).unlink()
    assert run(home, {"last_frame_uri": "b.png"}, told=told(home, **(kept or {}))) == 3
    captured = capsys.readouterr()
    assert "E313_NOT_TAKEN" in captured.out + captured.err


def test_an_adapter_of_another_model_is_refused_by_name(home: Path) -> None:
    write_adapter(home / "model", rank_of="transformer_blocks.9.attn1.to_q")
    with pytest.raises(SpecError, match=rf"model.folder=.*{ENDING_FILE}: it is of another model"):
        stock(load_spec(None, told(home)))


def test_a_profile_that_names_the_models_own_adapter_has_it_once_at_its_own_scale(home: Path) -> None:
    own = f"profiles.chalk.adapters.own={{path: model/{ENDING_FILE}, scale: 0.5}}"
    stocked = stock(load_spec(None, [*told(home), own]))
    asked = {"last_frame_uri": "b.png", "adapters": [{"name": "own"}]}
    (row,) = read_source(manifest(home, asked, {"last_frame_uri": "b.png"})).rows()
    named, plain = (each.source.adapters for each in film_tasks(row, stocked).master.segments)
    assert [each.scale for each in named] == [0.5] and [each.scale for each in plain] == [1.0]
