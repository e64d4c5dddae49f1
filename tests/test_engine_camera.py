"""A camera that a person asks for: one spelling, an error that lists what there is, words for each model."""

import json
from pathlib import Path

import pytest
from PIL import Image

from engine.camera import MOVES, SPEEDS, Camera, Idiom, parse_camera
from engine.chalk.captions import vocabulary
from engine.chalk.world import cameras
from engine.families.card import told_idiom
from engine.families.facts import read_idiom
from engine.families.known import FAMILIES
from engine.families.world import words_of
from jobs.plan import film_tasks
from jobs.refusal import SpecError
from jobs.spec import load_spec
from jobs.stock import stock
from tests.tiny_svd import make_pipeline

SHIPPED = Path(__file__).parent.parent / "engine" / "chalk" / "weights"


@pytest.mark.parametrize("direction", MOVES)
@pytest.mark.parametrize("speed", SPEEDS)
def test_every_move_at_every_speed_is_read_in_any_spelling_and_written_in_one(
    direction: str, speed: str
) -> None:
    if direction == "static" and speed != "normal":
        return
    camera = parse_camera(f" {speed.upper()}  {direction.replace(' ', '-')} ")
    assert camera == Camera(direction, speed) and parse_camera(camera.text) == camera


@pytest.mark.parametrize(
    "text", ["", "dolly", "slow", "pan", "in", "slow slow push in", "push in slow", "fast static"]
)
def test_any_other_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no camera"):
        parse_camera(text)


def test_the_refusal_lists_all_there_is() -> None:
    with pytest.raises(ValueError) as refused:
        parse_camera("dolly")
    assert all(word in str(refused.value) for word in [*MOVES, *SPEEDS])


@pytest.mark.parametrize(
    ("prompt", "camera", "told"),
    [
        ("a river", "slow push in", "a river. The camera slowly pushes in."),
        ("A river. ", "pan left", "A river. The camera pans left."),
        ("नदी।", "fast orbit", "नदी। The camera quickly orbits the subject."),
    ],
)
def test_a_model_without_words_of_its_own_is_told_in_a_sentence(prompt: str, camera: str, told: str) -> None:
    assert Idiom().directed(prompt, parse_camera(camera)) == told


def test_hunyuan_is_told_in_the_labels_of_its_captions() -> None:
    idiom = FAMILIES["HunyuanVideoPipeline"].camera
    assert idiom.directed("a river.", Camera("pan left")) == "a river, pan left"
    assert idiom.directed("a river", Camera("crane up")) == "a river. The camera cranes up."
    assert {parse_camera(text).text for text in idiom.words} == set(idiom.words)


def test_chalk_is_told_in_words_that_it_was_taught() -> None:
    idiom = read_idiom(SHIPPED)
    assert idiom.taught and dict(idiom.words) == cameras()
    assert {word for text in idiom.words.values() for word in words_of(text)} <= set(vocabulary())
    assert idiom.directed("green hills", parse_camera("slow push in")) == "green hills, a slow zoom in"
    assert idiom.directed("green hills", parse_camera("static")) == "green hills"


@pytest.mark.parametrize("told", ["3", '{"pan left": 3}', '{"dolly": "dolly"}', "[]"])
def test_a_folders_broken_words_for_cameras_are_refused(tmp_path: Path, told: str) -> None:
    (tmp_path / "world.json").write_text(f'{{"camera": {told}}}')
    with pytest.raises(ValueError, match="camera"):
        told_idiom(tmp_path, Idiom())


def test_a_camera_is_part_of_every_prompt_of_its_shot_and_so_of_their_keys() -> None:
    def tasks(camera: str | None):
        later = [{"start_s": 2.0, "prompt": "rain falls"}]
        shot = {
            "shot_id": "a",
            "prompt": "green hills",
            "prompts": later,
            "duration_s": 4.0,
            "camera": camera,
        }
        stocked = stock(load_spec())
        (segment,) = film_tasks({"row_id": "r", "profile": "chalk", "shots": [shot]}, stocked).master.segments
        return segment.source

    still, moving, again = tasks(None), tasks("Pan-left"), tasks("normal pan left")
    assert [task.text for task in moving.prompts] == [
        "green hills, the camera pans left",
        "rain falls, the camera pans left",
    ]
    assert moving.key == again.key != still.key
    assert not {task.key for task in moving.prompts} & {task.key for task in still.prompts}


def test_planning_warns_of_a_move_that_the_model_was_never_taught_and_validation_lists_the_moves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs.cli import main

    def films(camera: str) -> str:
        path = tmp_path / "films.yaml"
        path.write_text(
            "- {row_id: r, profile: chalk, shots: "
            f"[{{shot_id: a, prompt: green hills, duration_s: 2, camera: {camera}}}]}}"
        )
        return str(path)

    assert main(["plan", films("pan left"), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []
    assert main(["plan", films("fast orbit"), "-o", "json"]) == 0
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert warning["code"] == "W701_OUTSIDE_WORLD"
    assert warning["examples"][0]["json_path"] == "/shots/0/camera"
    assert warning["examples"][0]["words"] == ["fast orbit"]
    assert main(["validate", films("dolly"), "-o", "json"]) == 3
    (finding,) = json.loads(capsys.readouterr().out)
    assert (finding["code"], finding["json_path"]) == ("E505_CAMERA", "/shots/0/camera")
    assert "push in" in finding["hint"] and "slow" in finding["hint"]


def test_a_move_is_refused_of_a_model_that_reads_no_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs.cli import main

    make_pipeline().save_pretrained(tmp_path / "model", safe_serialization=True)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    shot = {"shot_id": "a", "prompt": "hills", "duration_frames": 4, "first_frame_uri": "a.png"}
    shots = [shot, shot | {"shot_id": "b", "camera": "slow push in"}]
    (tmp_path / "m.jsonl").write_text(json.dumps({"row_id": "r", "profile": "svd", "shots": shots}))
    told = [f"profiles.svd.model.folder={tmp_path / 'model'}", f"roots=[{tmp_path}]"]
    capsys.readouterr()  # what saving printed
    assert main(["validate", str(tmp_path / "m.jsonl"), "-o", "json", *told]) == 3
    (finding,) = json.loads(capsys.readouterr().out)
    assert (finding["code"], finding["json_path"]) == ("E506_CAMERA_UNHEARD", "/shots/1/camera")
    assert "reads no words" in finding["message"]


def test_a_broken_idiom_is_one_message_of_its_profile(tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(SHIPPED, tmp_path / "model")
    told = json.loads((folder / "world.json").read_text(encoding="utf-8"))
    (folder / "world.json").write_text(json.dumps(told | {"camera": 3}))
    with pytest.raises(SpecError, match=r"profiles\.chalk\.model\.folder.*its camera must be"):
        stock(load_spec(None, [f"profiles.chalk.model.folder={folder}"]))
