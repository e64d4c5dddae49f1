"""Stages: weights are kept while they are asked for, and a shot that drifts is held to its beginning."""

import time
import weakref
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from cluster.conductor import Conductor
from cluster.finisher import Finisher
from cluster.identity import Model, Picture, Sampling
from cluster.loaded import LoadedPart
from cluster.once import claim
from cluster.outcomes import Outcome
from cluster.shots import ShotTask
from cluster.stages import Decoder
from cluster.tasks import MasterTask, SegmentTask
from engine.chalk.scenes import Landscape
from engine.chalk.teacher import FPS
from engine.changes import LEFT, Hold
from engine.quality.video import open_video, pictures_of
from engine.tensors import to_bytes
from engine.timeline import PromptSpan, Shot
from engine.windows import Layout
from manifests.store import open_store
from tests.drifts import drawn, drift_of, drifting
from tests.night import shot_task


def test_weights_leave_when_nobody_asks_for_a_while_and_come_back_with_the_same_bits(tiny_folder: Path):
    model, part = Model(str(tiny_folder), "float32", "digest"), LoadedPart("text", "cpu", 1, idle_s=0.5)
    first = part.of(model).embed("rain", 16)["tokens"]
    encoder = weakref.ref(part.of(model).pipeline.text_encoder)
    assert encoder() is not None
    deadline = time.monotonic() + 30
    while encoder() is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert encoder() is None and part.family is None
    assert torch.equal(part.of(model).embed("rain", 16)["tokens"], first)


def test_weights_that_are_asked_for_again_and_again_are_loaded_once(tiny_folder: Path):
    model, part = Model(str(tiny_folder), "float32", "digest"), LoadedPart("text", "cpu", 1, idle_s=5.0)
    family = part.of(model)
    for _ in range(7):
        time.sleep(1.0)
        assert part.of(model) is family


def test_where_a_transformers_weights_lie_reloads_no_text_encoder(tiny_folder: Path):
    part = LoadedPart("text", "cpu", 1)
    family = part.of(Model(str(tiny_folder), "float32", "digest"))
    assert part.of(Model(str(tiny_folder), "float32", "digest", offload="disk")) is family
    assert part.of(Model(str(tiny_folder), "float32", "another")) is not family


SPAN = PromptSpan("green hills")


class Painted:
    """In a VAE's place: shows the same clip whatever the latents are."""

    def __init__(self, f_THWC):
        self.f_THWC, self.shown, self.check_memory = f_THWC, 0, False

    def of(self, model):
        return self

    def tile_pixels(self, tiles):
        assert not tiles

    def frames(self, latents):
        self.shown += 1
        return iter(self.f_THWC)


def segment_of(n_frames: int, hold: Hold) -> SegmentTask:
    """A shot of several windows."""
    model, shot = Model("/models/chalk", "float32", "digest"), Shot("hills", n_frames, (SPAN,), "", 7)
    source = ShotTask(model, shot, Sampling(2, 1.0), Layout(13, 4, 1), 64, 96, 32)
    return SegmentTask(source, Picture(96, 64, Fraction(FPS), 12, "ultrafast"), hold)


def shown(tmp_path: Path, f_THWC: np.ndarray, hold: Hold) -> tuple[Outcome, Path, int]:
    """A clip as the segment that a Decoder makes of it, and how often that had to be decoded."""
    decoder = Decoder(str(tmp_path))
    decoder.vae = Painted(f_THWC)
    task = segment_of(len(f_THWC), hold)
    source = task.source
    latents = decoder.store.put_artefact(to_bytes({"latents": torch.zeros(1)}))
    claim(decoder.store, source, Outcome(source.key, source.kind, {"latents": latents}))
    outcome, path = decoder.run(task), tmp_path / "segment.mp4"
    decoder.store.fetch_artefact(outcome.files["segment"], path)
    return outcome, path, decoder.vae.shown


def test_a_shot_that_drifts_is_held_and_one_that_does_not_keeps_its_bytes(tmp_path: Path):
    clip = drawn(Landscape("mountains", "shining"))
    left, _, _ = shown(tmp_path, clip, LEFT)
    steady, _, times = shown(tmp_path, clip, Hold(3.0))
    assert steady.key != left.key and steady.files == left.files and times == 1
    assert steady.facts["drift_de_per_min"] < 3 and "held_de_per_min" not in steady.facts

    bent = drifting(clip, 12.0)
    outcome, path, times = shown(tmp_path / "bent", bent, Hold(3.0))
    assert times == 2 and outcome.facts["frame_count"] == len(clip)
    assert outcome.facts["drift_de_per_min"] > 9 and outcome.facts["held_de_per_min"] < 3
    assert drift_of(list(pictures_of(open_video(path)))) < 3
    again, _, _ = shown(tmp_path / "again", bent, Hold(3.0))
    assert again.files == outcome.files  # to the byte
    unheld, _, times = shown(tmp_path / "unheld", bent, LEFT)
    assert times == 1 and unheld.files != outcome.files and "held_de_per_min" not in unheld.facts


def test_a_shot_that_holding_does_not_help_stays_as_it_was_drawn(tmp_path: Path):
    clip = drawn(Landscape("mountains", "shining"))
    fading = clip.copy()
    height = clip.shape[1] * 2 // 5
    for t in range(len(clip)):  # a little less than half of the picture grows dark: no drift of the rest
        fading[t, :height] = (fading[t, :height] * (1 - 0.6 * t / len(clip))).astype(np.uint8)
    outcome, _, times = shown(tmp_path, fading, Hold(3.0))
    unheld, _, _ = shown(tmp_path / "unheld", fading, LEFT)
    assert times == 2 and outcome.facts["drift_de_per_min"] > 3
    now = outcome.facts.get("held_de_per_min", outcome.facts["drift_de_per_min"])
    assert now > 0.8 * outcome.facts["drift_de_per_min"]  # what grew dark stays dark
    if "held_de_per_min" not in outcome.facts:
        assert outcome.files == unheld.files


def test_a_master_tells_which_of_its_shots_were_held(tmp_path: Path):
    bent = drifting(drawn(Landscape("mountains", "shining"), seconds=8), 30.0)
    shown(tmp_path, bent, Hold(3.0))
    segment = segment_of(len(bent), Hold(3.0))
    (told,) = Finisher(str(tmp_path), str(tmp_path / "id")).run(MasterTask((segment,))).facts["held"]
    assert told["shot_id"] == "hills" and told["drift_de_per_min"] > 20 > told["held_de_per_min"]


def test_a_shot_that_is_found_done_leaves_none_of_its_checkpoints(tmp_path: Path):
    store, task = open_store(str(tmp_path)), shot_task("s")
    outcome = claim(store, task, Outcome(task.key, task.kind, {"latents": store.put_artefact(b"latents")}))
    store.put_new(f"checkpoints/{task.key}/000001.safetensors", b"what a lost worker had no time to remove")
    turn, *_ = Conductor(store.url, 1).open(task, 1)
    assert turn.outcome.files == outcome.files and not store.list_keys("checkpoints")
