"""What the tests of the cluster share: a tiny model, small films, one Ray a session, one crew at a time."""

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # Ray reads these when it is imported
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # as `cluster.connect` has it
os.environ.setdefault("RAY_worker_niceness", "0")  # else the other half of the tests starves Ray's workers

from cluster.crew import Crew, Setup
from cluster.dispatch import Limits, State
from cluster.events import Action, Event, FilmDone, Hired, Lost
from cluster.identity import Model, Picture, Sampling
from cluster.loop import render
from cluster.outcomes import Outcome
from cluster.shots import ShotTask
from cluster.tasks import VISUAL_ONLY, FilmTasks, MasterTask, Narration, SegmentTask, VersionTask
from engine.parallel.axes import Axes
from engine.phases import BLEND, Stitch
from engine.timeline import PromptSpan, Shot
from engine.windows import Layout
from manifests.store import open_store
from tests.s3_server import Proxy, moto_process, s3_through_proxy

# Three windows in the longer shot, one of them under two prompts.
LAYOUT = Layout(size=4, overlap=2, lead_in=1)
SAMPLING = Sampling(n_steps=3, guidance_scale=4.0)
PICTURE = Picture(width_px=64, height_px=64, fps=Fraction(8), crf=20, preset="ultrafast")
IN_SILENCE = ((VISUAL_ONLY, ""),)


@pytest.fixture(scope="module", autouse=True)
def few_objects_to_search() -> None:
    """What is imported stays: a search for garbage need not look through all of torch again, 0.4 s each."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained chalk of under 300 kB."""
    from engine.chalk.model import build_pipeline, save

    folder = tmp_path_factory.mktemp("tiny")
    save(folder, build_pipeline(0, tiny=True))
    return folder


@pytest.fixture(scope="session")
def make_film(tiny_folder: Path) -> Callable[..., FilmTasks]:
    """Films of two shots, of 2.1 and 3.1 s. The digest, or the row, is part of every key and of no bit.

    `kept` says where the transformer's weights are.
    """

    def make(
        row_id: str,
        seed: int = 1,
        digest: str = "",
        folder: Path = tiny_folder,
        spoken: tuple[tuple[str, str], ...] = IN_SILENCE,
        stitch: Stitch = BLEND,
        batch: int = 1,
        **kept: Any,
    ) -> FilmTasks:
        rain, sun = (PromptSpan(f"rain {seed}"), PromptSpan(f"sun {seed}", start=16, blend=4))
        shots = (Shot("s0", 17, (rain,), "", seed), Shot("s1", 25, (rain, sun), "", seed))
        model = Model(str(folder), "float32", digest or row_id, **kept)
        more: dict[str, Any] = {"stitch": stitch, "batch": batch}
        sources = (ShotTask(model, shot, SAMPLING, LAYOUT, 64, 64, 32, **more) for shot in shots)
        segments = tuple(SegmentTask(source, PICTURE) for source in sources)
        versions = (
            VersionTask(segments, lang, "", (Narration("s0", text),) if text else ()) for lang, text in spoken
        )
        return FilmTasks(row_id, MasterTask(segments), tuple(versions))

    return make


class Lent:
    """A crew for several renders, one after another: those who stand ready are announced to each of them."""

    def __init__(self, crew: Crew, store_url: str) -> None:
        self.crew, self.store = crew, open_store(store_url)
        self.standing: dict[str, Hired] = {}
        self.news: list[Event] = []
        self.away: frozenset[str] = frozenset()  # workers of whom this render is not told

    def act(self, action: Action) -> None:
        self.crew.act(action)

    def wait(self, most_s: float = 1.0) -> list[Event]:
        news, self.news = self.news, []
        for event in [] if news else self.crew.wait(most_s):
            if isinstance(event, Hired):
                self.standing[event.worker] = event
            if isinstance(event, Lost):
                del self.standing[event.worker]
            news.append(event)
        return [event for event in news if not (isinstance(event, Hired) and event.worker in self.away)]

    def close(self) -> None:
        """Others come after this render."""

    def render(
        self,
        films: list[FilmTasks],
        watch: Callable[[Event, State], None] = lambda event, state: None,
        away: frozenset[str] = frozenset(),
        max_losses: int = 4,
    ) -> dict[str, FilmDone]:
        """The films by row, as one render left them."""
        self.news, self.away = list(self.standing.values()), away
        done = render(iter(films), lambda: self, self.store, Limits(max_losses=max_losses), watch)
        return {film.film.row_id: film for film in done}


@pytest.fixture(scope="session")
def bits() -> Callable[[FilmDone], dict[str, str]]:
    """The hashes of a film's latents and segments by shot; a failure shows instead of them."""

    def hashes(done: FilmDone) -> dict[str, str]:
        found = {}
        for segment in done.film.master.segments:
            for name, task in (("latents", segment.source), ("segment", segment)):
                result = done.results[task.key]
                shown = result.files[name] if isinstance(result, Outcome) else str(result)
                found[f"{name} of {segment.source.shot.shot_id}"] = shown
        return found

    return hashes


@pytest.fixture(scope="session")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Lent:
    """A crew in this process, with a store of its own."""
    from cluster.local import LocalCrew

    folder = tmp_path_factory.mktemp("local")
    setup = Setup(str(folder / "store"), str(folder / "identity"), device="cpu", checkpoint_every=2)
    return Lent(LocalCrew(setup), setup.store_url)


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """A Ray of this session's own."""
    import ray

    folder = tempfile.mkdtemp(prefix="lt-", dir="/tmp")  # short: its sockets' paths hold about 100 characters
    ray.init(
        address="local",
        include_dashboard=False,
        num_cpus=4,
        object_store_memory=10**8,
        log_to_driver=False,
        _temp_dir=folder,
        _node_ip_address="127.0.0.2",  # as `cluster.connect` starts it
    )
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def on_ray(ray_here: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Lent]]:
    """The crew of so many gangs of ring × ulysses; asking for another ends it, as this machine is small."""
    from cluster.remote import RayCrew

    folder = tmp_path_factory.mktemp("ray")
    now: dict[tuple[int, Axes, float], Lent] = {}

    def close() -> None:
        for lent in now.values():
            lent.crew.close()
        now.clear()

    def crew(gangs: int, ulysses: int, ring: int = 1, timeout_s: float = 5.0) -> Lent:
        axes = Axes.of_gang(1, ring, ulysses)
        shape = (gangs, axes, timeout_s)
        if shape not in now:
            close()
            setup = Setup(
                str(folder / "store"),
                str(folder / "identity"),
                device="cpu",
                gangs=gangs,
                axes=axes,
                checkpoint_every=2,
                group_timeout_s=timeout_s,
            )
            now[shape] = Lent(RayCrew(setup), setup.store_url)
        return now[shape]

    yield crew
    close()


@pytest.fixture(scope="session")
def living() -> Callable[[Crew], dict[str, int]]:
    """The processes of a crew on Ray by worker; a gang's ranks as gang-0/0, gang-0/1."""
    from ray._private.state import actors  # who runs where, as Ray's control store has it

    def pids(crew: Crew) -> dict[str, int]:
        handles = {name: stage.actor for name, stage in crew.stages.items()}
        for name, gang in crew.gangs.items():
            handles |= {f"{name}/{number}": rank.actor for number, rank in enumerate(gang.ranks)}
        known = {name: actors(actor._actor_id.hex()) for name, actor in handles.items()}
        return {name: entry["Pid"] for name, entry in known.items() if entry.get("State") == "ALIVE"}

    return pids


@pytest.fixture(scope="session")
def moto() -> Iterator[int]:
    """The port of a moto server process."""
    with moto_process() as port:
        yield port


@pytest.fixture
def proxy(moto: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """S3 as the environment names it, emptied, with the bucket `films`."""
    with s3_through_proxy(moto, monkeypatch.setenv) as server:
        yield server
