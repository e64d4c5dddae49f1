"""The stages on either side of denoising, as plain classes: each does whole tasks, one at a time.

A stage loads what it needs at its first task, inside its own process, so weights never cross the wire.
Decides: what texts, given files and latents become, and which facts are told of it. Does not decide: when
weights come and go (loaded), how a film is finished (finisher), or who does which task (dispatch).
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from cluster.copies import whole
from cluster.decoding import decode_shortage, encode_shortage
from cluster.identity import Asset
from cluster.loaded import LoadedPart
from cluster.logs import reporting
from cluster.once import Made, done_once, found_task
from cluster.outcomes import Facts, Outcome, taken
from cluster.shortage import Shortage, place_on
from cluster.shots import GivenTask, PromptTask, ShotTask
from cluster.tasks import SegmentTask
from engine.blending import NotFinite
from engine.families.facts import family_name, read_decoding, read_encoding
from engine.families.known import FAMILIES
from engine.families.loading import give_memory_back
from engine.film.encode import Picture, encode_segment
from engine.film.scale import scaled
from engine.given import read_clip, read_picture
from engine.quality.steady import Swatches, held
from engine.takes import CANVAS, CLIP, SOURCE
from engine.tensors import from_bytes, to_bytes
from engine.timeline import first_pixel
from manifests.store import open_store

IDLE_S = 60.0  # after which an encoder's weights go: a text encoder may be larger than all the rest


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
        facts = {"frame_count": count, "drift_de_per_min": swatches.de_per_min} | taken(shot)
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
        return islice(_finite(family.frames(latents)), hidden, hidden + task.source.shot.n_frames)

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


def _finite(frames: Iterable[Picture]) -> Iterator[Picture]:
    """The frames; NotFinite says from which on there are none."""
    shown = 0
    try:
        for shown, frame in enumerate(frames, 1):  # noqa: B007
            yield frame
    except NotFinite as error:
        raise NotFinite(f"from frame {shown} on, {error}") from error


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
