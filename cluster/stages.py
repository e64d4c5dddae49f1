"""The stages around denoising, as plain classes: each does whole tasks, one at a time.

A stage loads what it needs at its first task, inside its own process, so weights never cross the wire.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from threading import RLock, Timer
from typing import Any

from cluster.copies import whole
from cluster.decoding import decode_shortage, encode_shortage
from cluster.logs import reporting
from cluster.once import Made, done_once, found_file, found_task
from cluster.shortage import Shortage, part_shortage, place_on
from cluster.tasks import (
    Asset,
    GivenTask,
    MasterTask,
    Model,
    Outcome,
    PromptTask,
    SegmentTask,
    ShotTask,
    VersionTask,
)
from engine.families.compiled import compile_blocks, need_compiler
from engine.families.facts import family_name, read_decoding, read_encoding
from engine.families.known import FAMILIES
from engine.families.loading import LEFT_OUT, give_memory_back, load_part
from engine.families.offload import offload
from engine.families.parameters import read_weights
from engine.families.quantise import need_float8, quantise
from engine.film.encode import Picture, encode_segment
from engine.film.finish import Line, Version, make_version
from engine.film.join import count_frames, join_segments
from engine.film.provenance import Claim, make_development_identity
from engine.film.scale import scaled
from engine.film.sheet import contact_sheet
from engine.given import read_clip, read_picture
from engine.numerics import set_threads
from engine.quality.steady import Swatches, held
from engine.takes import CANVAS, CLIP, SOURCE
from engine.tensors import from_bytes, to_bytes
from engine.timeline import first_pixel
from manifests.store import open_store

Facts = dict[str, Any]
IDLE_S = 60.0  # after which an encoder's weights go: a text encoder may be larger than all the rest


class LoadedPart:
    """One part of one model, kept until another model is asked for, or nobody asks for `idle_s` seconds."""

    def __init__(
        self,
        part: str,
        device: str,
        threads: int,
        idle_s: float | None = None,
        check_memory: bool = True,
        cache: str = "auto",
    ) -> None:
        set_threads(threads)
        self.check_memory, self.cache = check_memory, cache
        self.part, self.device, self.idle_s = part, device, idle_s
        self.lock, self.timer = RLock(), Timer(0.0, self.forget)
        self.model: Model | None = None
        self.family: Any = None

    def of(self, model: Model, check: Callable[[Model], None] | None = None) -> Any:
        """The family that holds this part of `model`; `check` may refuse to have it loaded."""
        if self.part != "transformer":
            # of transformers alone: reload nothing for them
            model = replace(model, zero=False, offload="", quantise="", compile=False)
        with self.lock:
            self.timer.cancel()
            if model != self.model:
                self._load(model, check)
            if self.idle_s is not None:
                self.timer = Timer(self.idle_s, self.forget)
                self.timer.daemon = True
                self.timer.start()
            return self.family

    def _load(self, model: Model, check: Callable[[Model], None] | None) -> None:
        self.forget()  # let the old weights go before the new ones come, if they do
        if model.compile:
            need_compiler()
        if model.quantise == "float8":
            need_float8(self.device)
        if self.check_memory:
            (check or self._check)(model)
        # from where they are shared out, or made smaller
        device = "cpu" if model.zero or model.offload or model.quantise else self.device
        self.family = load_part(whole(model, self.cache), self.part, model.dtype, device)
        if model.offload:
            offload(self.family, model.offload, self.device)
        if model.quantise:
            quantise(self.family, model.quantise, self.device)
        if model.compile:
            compile_blocks(self.family)
        self.model = model

    def _check(self, model: Model) -> None:
        """Raise Shortage where there is no memory for the weights. That a folder is broken, loading tells."""
        try:
            parts = read_weights(whole(model, self.cache))
        except (OSError, ValueError):
            return
        own = {
            name: part for name, part in parts.items() if name.removesuffix("_2") not in LEFT_OUT[self.part]
        }
        what = f"{' and '.join(own)} of {Path(model.folder).name}"
        parameters = sum(part.parameters for part in own.values())
        if failure := part_shortage(what, parameters, model.dtype, place_on(self.device)):
            raise Shortage(failure)

    def forget(self) -> None:
        """Let the weights go, until they are asked for again. Who computes with them keeps them."""
        with self.lock:
            self.model = self.family = None
            give_memory_back()


class Encoder:
    """Turns texts into embeddings, and what shots are given into what their canvases begin with."""

    def __init__(
        self,
        store_url: str,
        device: str = "cpu",
        threads: int = 1,
        check_memory: bool = True,
        cache: str = "auto",
    ) -> None:
        self.store = open_store(store_url)
        self.text = LoadedPart("text", device, threads, IDLE_S, check_memory, cache)
        self.given = LoadedPart("given", device, threads, IDLE_S, check_memory, cache)

    @reporting
    def run(self, task: PromptTask | GivenTask) -> Outcome:
        """Encode one text, or one thing that is given."""
        if isinstance(task, GivenTask):
            return done_once(self.store, task, lambda folder: self._give(task, folder))
        return done_once(self.store, task, lambda folder: self._embed(task, folder))

    def _give(self, task: GivenTask, folder: Path) -> Made:
        frames = {asset.role: self._frames(task, asset, folder) for asset in task.assets}
        family = self.given.of(task.model)
        self._check(task)
        made = family.give(frames, task.n_frames)
        kept = {name: tensor.cpu() for name, tensor in made.items()}
        files = {"canvas": folder / "canvas.safetensors", "embedding": folder / "embedding.safetensors"}
        files["canvas"].write_bytes(to_bytes({name: kept[name] for name in kept if name in CANVAS}))
        files["embedding"].write_bytes(to_bytes({name: kept[name] for name in kept if name not in CANVAS}))
        return files, {}

    def _check(self, task: GivenTask) -> None:
        """Raise Shortage where there is no memory to encode in, now that the weights are here."""
        if not self.given.check_memory:
            return
        model, size_px = task.model, (task.width_px, task.height_px)
        held = read_encoding(whole(model, self.given.cache)).of(task.n_frames)
        name, place = Path(model.folder).name, place_on(self.given.device)
        if failure := encode_shortage(name, held, model.dtype, size_px, place, task.n_frames):
            raise Shortage(failure)

    def _frames(self, task: GivenTask, asset: Asset, folder: Path) -> Any:
        """The frames f_THWC of a picture or a clip."""
        path, size = folder / asset.role, (task.width_px, task.height_px)
        self.store.fetch_artefact(asset.artefact, path)
        if asset.role not in (CLIP, SOURCE) or task.fps is None:
            return read_picture(path.read_bytes(), *size)[None]
        return read_clip(path, *size, task.fps, task.n_frames, from_end=asset.role == CLIP)

    def _embed(self, task: PromptTask, folder: Path) -> Made:
        embedding = self.text.of(task.model).embed(task.text, task.max_text_tokens)
        path = folder / "embedding.safetensors"
        path.write_bytes(to_bytes(dict(embedding)))
        return {"embedding": path}, {}


class Decoder:
    """Turns latents into pictures, and pictures into a segment, one chunk in memory at a time."""

    def __init__(
        self,
        store_url: str,
        device: str = "cpu",
        threads: int = 1,
        check_memory: bool = True,
        cache: str = "auto",
    ) -> None:
        self.store = open_store(store_url)
        self.vae = LoadedPart("vae", device, threads, check_memory=check_memory, cache=cache)

    @reporting
    def run(self, task: SegmentTask) -> Outcome:
        """Decode and encode one shot."""
        try:
            return done_once(self.store, task, lambda folder: self._segment(task, folder))
        finally:
            give_memory_back()  # of a GPU, to the rank beside: torch would keep what pixels took

    def _segment(self, task: SegmentTask, folder: Path) -> Made:
        shot = found_task(self.store, "shot", task.source.key)
        latents = from_bytes(self.store.read_artefact(shot.files["latents"]))["latents"]
        path, swatches = folder / "segment.mp4", _swatches(task)
        count = _encode(task, swatches.passing(self._frames(task, latents)), path)
        facts = {"frame_count": count, "drift_de_per_min": swatches.de_per_min} | _taken(shot)
        if task.hold.max_drift and (swatches.de_per_min or 0.0) > task.hold.max_drift:
            path, more = self._held(task, latents, swatches, path)
            facts |= more
        return {"segment": path}, facts

    def _held(self, task: SegmentTask, latents: Any, drawn: Swatches, path: Path) -> tuple[Path, Facts]:
        """The shot with its colours held to its beginning, and its drift then; as drawn if that is no less.

        It is decoded once more: its frames are never all in memory, and what was encoded has lost.
        """
        correction, again = held(drawn, _window_s(task)), _swatches(task)
        held_path = path.with_stem("held")
        _encode(task, again.passing(correction.over(self._frames(task, latents))), held_path)
        before, after = drawn.de_per_min, again.de_per_min
        if before is None or after is None or after >= before:
            return path, {}
        return held_path, {"held_de_per_min": after}

    def _frames(self, task: SegmentTask, latents: Any) -> Iterator[Picture]:
        """The frames that are shown, as the model drew them."""
        hidden, family = task.source.hidden_frames, self.vae.of(task.source.model)
        family.tile_pixels(task.tiles)
        if not task.tiles:
            self._check(task.source)
        return islice(family.frames(latents), hidden, hidden + task.source.shot.n_frames)

    def _check(self, shot: ShotTask) -> None:
        """Raise Shortage where there is no memory to decode in, now that the weights are here."""
        if not self.vae.check_memory:
            return
        model, size_px = shot.model, (shot.width_px, shot.height_px)
        held = read_decoding(whole(model, self.vae.cache)).of(shot.n_latent)
        name = Path(model.folder).name
        place, tiles = place_on(self.vae.device), FAMILIES[family_name(whole(model, self.vae.cache))].tiles
        if failure := decode_shortage(name, held, model.dtype, size_px, place, tiles):
            raise Shortage(failure)


def _swatches(task: SegmentTask) -> Swatches:
    return Swatches(task.source.shot.n_frames, float(task.picture.fps))


def _window_s(task: SegmentTask) -> float:
    """How long one window is shown."""
    layout = task.source.layout
    return float(first_pixel(layout.size, *layout.clock) / task.picture.fps)


def _encode(task: SegmentTask, frames: Iterable[Picture], path: Path) -> int:
    """Encode frames at the film's size; returns how many there were."""
    picture = task.picture
    sized = scaled(frames, picture.width_px, picture.height_px)
    return encode_segment(sized, path, picture.fps, crf=picture.crf, preset=picture.preset)


class Finisher:
    """Joins segments, and makes a film's language versions."""

    def __init__(self, store_url: str, identity_folder: str, threads: int = 1) -> None:
        set_threads(threads)
        self.store, self.identity_folder = open_store(store_url), Path(identity_folder)

    @reporting
    def run(self, task: MasterTask | VersionTask) -> Outcome:
        """Do a master or a version."""
        if isinstance(task, MasterTask):
            return done_once(self.store, task, lambda folder: self._master(task, folder))
        return done_once(self.store, task, lambda folder: self._version(task, folder))

    def _master(self, task: MasterTask, folder: Path) -> Made:
        path = folder / "master.mp4"
        segments = self._segments(task.segments, folder)
        count = join_segments(segments, path)
        sheet = folder / "sheet.jpg"
        contact_sheet(segments, [segment.source.shot.shot_id for segment in task.segments], sheet)
        made = [(each, found_task(self.store, "segment", each.key)) for each in task.segments]
        facts = {"frame_count": count, "held": _held(made)}
        shots = {each.source.key: outcome for each, outcome in made}
        return {"master": path, "sheet": sheet}, facts | _taken(*shots.values())

    def _version(self, task: VersionTask, folder: Path) -> Made:
        segments = self._segments(task.segments, folder)
        picture = task.segments[0].picture
        version = Version(
            lang=task.lang,
            title=task.title,
            lines=_lines(task, [count_frames(path) for path in segments]),
            claim=_claim(task),
            fps=picture.fps,
            crf=picture.crf,
            preset=picture.preset,
        )
        film, identity = folder / "film.mp4", make_development_identity(self.identity_folder)
        facts = make_version(segments, film, version, identity, folder)
        files = {"film": film} | ({"captions": facts.captions} if facts.captions else {})
        sha256 = hashlib.file_digest(film.open("rb"), "sha256").hexdigest()
        return files, {
            "frame_count": facts.frame_count,
            "duration_s": facts.duration_s,
            "width_px": facts.width_px,
            "height_px": facts.height_px,
            "size_bytes": facts.size_bytes,
            "sha256": sha256,
        }

    def _segments(self, tasks: Iterable[SegmentTask], folder: Path) -> list[Path]:
        """Local copies of the segments, in order."""
        paths = []
        for index, task in enumerate(tasks):
            path = folder / f"{index:04}.mp4"
            self.store.fetch_artefact(found_file(self.store, "segment", task.key, "segment"), path)
            paths.append(path)
        return paths


def _held(made: Sequence[tuple[SegmentTask, Outcome]]) -> list[Facts]:
    """Which shots had their colours held to their beginning, from which drift to which."""
    told = []
    for task, outcome in made:
        if "held_de_per_min" in outcome.facts:
            drifts = {name: outcome.facts[name] for name in ("drift_de_per_min", "held_de_per_min")}
            told.append({"shot_id": task.source.shot.shot_id, **drifts})
    return told


def _taken(*sources: Outcome) -> Facts:
    """GPU-seconds of the shots that an artefact is made of, where their markers tell."""
    gpu_s = sum(source.facts.get("gpu_s") or 0.0 for source in sources)
    return {"gpu_s": round(gpu_s, 6)} if gpu_s else {}


def _lines(task: VersionTask, counts: list[int]) -> tuple[Line, ...]:
    """The narrations, each from the start of its shot and no longer than it."""
    spoken = {narration.shot_id: narration.text for narration in task.narrations}
    lines, start = [], 0
    fps = task.segments[0].picture.fps
    for segment, count in zip(task.segments, counts, strict=True):
        text = spoken.get(segment.source.shot.shot_id)
        if text:
            lines.append(Line(text, float(start / fps), float(count / fps)))
        start += count
    return tuple(lines)


def _claim(task: VersionTask) -> Claim:
    """What the film says of its making: hashes of its texts, never the texts."""
    source = task.segments[0].source
    prompts = [span.prompt for segment in task.segments for span in segment.source.shot.prompts]
    inputs = json.dumps(task.identity, ensure_ascii=False, sort_keys=True, default=str)
    return Claim(
        title=task.title,
        manifest_row_hash=_sha256(inputs),
        model=source.model.digest,
        seed=source.shot.seed,
        prompt_hashes=tuple(_sha256(prompt) for prompt in prompts),
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
