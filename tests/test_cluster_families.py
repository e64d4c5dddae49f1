"""A crew in one process renders whole films with families that ask for more than a text and a canvas."""

import numpy as np
from diffusers import SkyReelsV2DiffusionForcingPipeline
from PIL import Image

from cluster.identity import Asset, Model
from cluster.once import found_file
from cluster.outcomes import Outcome
from cluster.shots import GivenTask, ShotTask
from cluster.tasks import VISUAL_ONLY, FilmTasks, MasterTask, SegmentTask, VersionTask
from engine.phases import BLEND, Stitch
from engine.takes import FIRST
from engine.tensors import from_bytes
from engine.timeline import PromptSpan, Shot
from engine.windows import Layout
from tests import tiny_h3, tiny_skyreels, tiny_svd
from tests.conftest import PICTURE, SAMPLING

SIZE_PX = 32


def film_of(folder, layout, n_frames, given=(), stitch=BLEND):
    model = Model(str(folder), "float32", folder.name)
    shot = Shot("s0", n_frames, (PromptSpan("rain falls"),), "", 1)
    task = ShotTask(model, shot, SAMPLING, layout, SIZE_PX, SIZE_PX, 32, given, stitch)
    segments = (SegmentTask(task, PICTURE),)
    return FilmTasks(folder.name, MasterTask(segments), (VersionTask(segments, VISUAL_ONLY, "", ()),))


def rendered(crew, film):
    """The latents of its shot, and how many frames are shown."""
    done = crew.render([film])[film.row_id]
    source, segment = film.master.segments[0].source, film.master.segments[0]
    found = [done.results[task.key] for task in (source, segment)]
    assert all(isinstance(each, Outcome) for each in found), found
    latents = from_bytes(crew.store.read_artefact(found[0].files["latents"]))["latents"]
    return latents, found[1].facts["frame_count"]


def test_a_film_of_several_windows_of_pictures_and_sound(one_process, tmp_path):
    tiny_h3.save_folder(tmp_path)
    layout = Layout(22, 7, 1, temporal_compression=4, period=5, unit=15)
    film = film_of(tmp_path, layout, 75)
    assert [part.window.start for part in film.master.segments[0].source.phases[0].parts] == [0, 15]
    latents, shown = rendered(one_process, film)
    assert latents.shape[1:3] == (37, tiny_h3.CHANNELS) and shown == 75


def test_films_of_several_windows_that_start_from_pictures_and_differ_by_them(one_process, tmp_path):
    folder = tmp_path / "model"
    tiny_svd.make_pipeline().save_pretrained(folder, safe_serialization=True)
    model, drawn = Model(str(folder), "float32", folder.name), []
    for lightness in (0, 255):
        picture = tmp_path / f"{lightness}.png"
        Image.fromarray(np.full((SIZE_PX, SIZE_PX, 3), lightness, np.uint8)).save(picture)
        asset = Asset(FIRST, one_process.store.put_file(picture), str(picture))
        given = GivenTask(model, (asset,), 1, None, SIZE_PX, SIZE_PX)
        latents, shown = rendered(one_process, film_of(folder, Layout(6, 3, 1, 1), 10, (given,)))
        assert latents.shape == (1, 10, 4, 4, 4) and shown == 10
        drawn.append(latents)
    assert (drawn[0] - drawn[1]).abs().max() > 1e-2


def test_films_of_a_model_that_was_taught_to_go_on_are_extended_and_begin_as_their_pictures_do(
    one_process, tmp_path
):
    folder, picture = tmp_path / "skyreels", tmp_path / "grey.png"
    pipeline = tiny_skyreels.make_pipeline(SkyReelsV2DiffusionForcingPipeline)
    pipeline.save_pretrained(folder, safe_serialization=True)
    Image.fromarray(np.full((SIZE_PX, SIZE_PX, 3), 128, np.uint8)).save(picture)
    model = Model(str(folder), "float32", folder.name)
    asset = Asset(FIRST, one_process.store.put_file(picture), str(picture))
    given = GivenTask(model, (asset,), 1, None, SIZE_PX, SIZE_PX)
    film = film_of(folder, Layout(5, 2, 0), 29, (given,), Stitch("extend"))
    source = film.master.segments[0].source
    assert [(phase.frames[0], phase.held) for phase in source.phases] == [(0, 0), (3, 2), (6, 2)]
    latents, shown = rendered(one_process, film)
    assert latents.shape == (1, 9, 16, 4, 4) and shown == 29 and latents.isfinite().all()
    file = found_file(one_process.store, given.kind, given.key, "canvas")
    first = from_bytes(one_process.store.read_artefact(file))["beginning"]
    assert latents[:, :1].equal(first)


def test_a_film_of_a_model_that_starts_from_pictures_fails_alone_without_one(one_process, tmp_path):
    tiny_svd.make_pipeline().save_pretrained(tmp_path, safe_serialization=True)
    film = film_of(tmp_path, Layout(6, 3, 1, 1), 6)
    done = one_process.render([film])[film.row_id]
    failure = done.results[film.master.segments[0].source.key]
    assert "give the shot a first_frame" in failure.message
