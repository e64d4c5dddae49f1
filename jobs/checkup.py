"""What a night needs, tried one by one: each try says what it found, or raises what is wrong.

A library is imported by the try that needs it, so that one which cannot be loaded is a line of the answer.
Decides: what is tried, and what to do where an error does not say so itself. Does not decide: how it is told,
or the exit code (jobs.doctor); what a store must do (manifests.probe).
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.outcome import FAILED, UNREACHABLE, USAGE
from jobs.places import opened
from jobs.preview import spec_of

if TYPE_CHECKING:
    from jobs.spec import JobSpec
    from jobs.stock import Stock

MOST_SKEW_S = 60.0  # S3 refuses requests that are 15 minutes off; signatures and logs should not be near it
FRAMES, SIDE_PX, FPS, LANG = 8, 64, Fraction(8), "hi"


@dataclass(frozen=True)
class Try:
    """One thing to try; `todo` is for an error that names no way out, `code` for one that has no code."""

    name: str
    do: Callable[[], str]
    code: int
    todo: str


def tries(arguments: argparse.Namespace) -> Iterator[Try]:
    """What is to be tried for these arguments, in the order in which a run would need it.

    What cannot be tried without an earlier one is not reached if that raises.
    """
    spec = spec_of(arguments)
    yield Try("model", partial(_models, spec), USAGE, "name a diffusers folder: profiles.NAME.model.folder=…")
    yield Try(
        "gpus", partial(_gpus, spec), FAILED, "mend the driver, or compute on the CPU: cluster.device=cpu"
    )
    if address := arguments.address or os.environ.get("RAY_ADDRESS"):
        todo = "start the cluster, or correct --address"
        yield Try("ray", partial(_ray, address, arguments.out), UNREACHABLE, todo)
    if arguments.out:
        todo = "check the place and its service"
        yield Try("store", partial(_store, arguments.out), UNREACHABLE, todo)
    yield Try("room", _room, FAILED, "make room, or have TMPDIR name a folder on a larger disk")
    reinstall = "install longtake and its libraries again, as `make setup` does"
    yield Try("fonts", _fonts, FAILED, reinstall)
    yield Try("voice", _voice, FAILED, reinstall)
    yield Try("film", partial(_film, spec), FAILED, reinstall)


def _models(spec: "JobSpec") -> str:
    """Every profile's model is read, and its weights are whole."""
    from jobs.soundness import check_models
    from jobs.stock import stock

    stocked = stock(spec)
    check_models(stocked, spec.cluster.cache)
    return ", ".join(_model(name, one) for name, one in stocked.items())


def _model(name: str, one: "Stock") -> str:
    return f"{name}: {one.facts.family} from {one.profile.model.folder}"


def _gpus(spec: "JobSpec") -> str:
    """Every GPU computes; on this machine, whatever a cluster's nodes have."""
    from engine.memory import free_here
    from engine.numerics import gpus

    if spec.cluster.device == "cpu":
        return "cluster.device=cpu: none is asked for"
    found = gpus()
    if found:
        return f"{len(found)}: {', '.join(sorted(set(found)))}"
    if spec.cluster.device == "cuda":
        raise RuntimeError("cluster.device=cuda, and this machine has no GPU that torch can use")
    free = free_here()
    return f"none here, so this machine computes on {os.cpu_count()} processors with {free.gib:.1f} GiB free"


def _ray(address: str, out: str | None) -> str:
    """The cluster answers, and each of its nodes reaches the store and has the right time."""
    from cluster.connect import connect
    from cluster.reach import look_around

    with connect(address):
        nodes = look_around(out)
    _expect_clocks({node.name: node.ahead_s for node in nodes})
    if wrong := [f"{node.name}: {node.wrong}" for node in nodes if node.wrong]:
        raise ConnectionError(
            f"{len(wrong)} of {len(nodes)} nodes cannot use {out}: {'; '.join(wrong)[:500]}"
        )
    n_gpus = sum(node.gpus for node in nodes)
    reached = f", and reach {out}" if out else ""
    return f"{address}: {len(nodes)} nodes with {n_gpus:g} GPUs have the time of this machine{reached}"


def _store(out: str) -> str:
    """The store does what is asked of it, and its clock is ours. Raises StoreError, Lying if it lies."""
    store = opened(out)
    ahead_s = store.probe(_least_room())
    _expect_clocks({out: ahead_s})
    return f"{out}: put once, also by several at once, read, listed, copied and removed; its clock is right"


def _expect_clocks(ahead_s: dict[str, float]) -> None:
    """Clocks are close to this machine's. Raises RuntimeError that names those which are not."""
    wrong = {name: seconds for name, seconds in ahead_s.items() if abs(seconds) > MOST_SKEW_S}
    if wrong:
        told = ", ".join(
            f"{name} is {abs(s):.0f} s {'ahead' if s > 0 else 'behind'}" for name, s in wrong.items()
        )
        raise RuntimeError(f"clocks differ: {told}: set the clocks of all machines by one time server")


def _least_room() -> int:
    from jobs.run import LEAST_ROOM

    return LEAST_ROOM


def _room() -> str:
    """Films are made in a folder of this machine before they are stored."""
    from manifests.places import shown_size

    folder, least = tempfile.gettempdir(), _least_room()
    free = shutil.disk_usage(folder).free
    if free < least:
        raise RuntimeError(
            f"{shown_size(free)} are free in {folder}, at least {shown_size(least)} are needed"
        )
    return f"{shown_size(free)} are free in {folder}"


def _fonts() -> str:
    """Every language's own name can be drawn."""
    from engine.film.languages import NATIVE_NAMES
    from engine.film.shaping import check_text
    from engine.film.titles import draw_title

    for lang, name in NATIVE_NAMES.items():
        report = check_text(name, lang)
        if not report.ok or not draw_title(name, lang, 320, 96).any():
            raise RuntimeError(f"{name} ({lang}) cannot be drawn: {report}")
    return f"titles in {len(NATIVE_NAMES)} languages"


def _voice() -> str:
    """Every language's own name can be spoken."""
    from engine.film.languages import NATIVE_NAMES
    from engine.film.voice import LANGUAGES, speak

    for lang in LANGUAGES:
        if not speak(NATIVE_NAMES[lang], lang).samples.any():
            raise RuntimeError(f"the voice says nothing in {lang}")
    return f"narrations in {len(LANGUAGES)} languages"


def _film(spec: "JobSpec") -> str:
    """A very short film is encoded, joined with sound, signed and read back."""
    from engine.film.provenance import verify
    from jobs.spec import JobSpec

    assert isinstance(spec, JobSpec)
    with tempfile.TemporaryDirectory(prefix="longtake-doctor-") as folder:
        film, identity = _make_film(Path(folder), Path(spec.identity).expanduser())
        found = verify(film, identity.root.read_text(encoding="ascii"))
        n_frames = _frames_of(film)
    if found.state != "Trusted" or n_frames != FRAMES:
        raise RuntimeError(f"a film of {FRAMES} frames came back with {n_frames}, and as {found}")
    return f"H.264, sound and Content Credentials, signed by {identity.chain.parent}"


def _make_film(folder: Path, home: Path) -> tuple[Path, Any]:
    import numpy as np

    from engine.film.encode import encode_segment
    from engine.film.mux import mux_film
    from engine.film.provenance import Claim, make_development_identity, sign

    pictures = (np.full((SIDE_PX, SIDE_PX, 3), 24 * n, np.uint8) for n in range(FRAMES))
    encode_segment(pictures, folder / "video.mp4", FPS, preset="ultrafast")
    tone = np.sin(np.arange(16_000) / 10).astype(np.float32) / 4
    tracks: dict[str, Any] = {"audio": (tone, 22_050), "cues": (), "fps": FPS}
    mux_film(folder / "video.mp4", folder / "film.mp4", lang=LANG, title="doctor", **tracks)
    claim = Claim(title="doctor", model="none", seed=0, prompt_hashes=(), manifest_row_hash="0" * 64)
    identity = make_development_identity(home)
    sign(folder / "film.mp4", folder / "signed.mp4", claim, identity)
    return folder / "signed.mp4", identity


def _frames_of(path: Path) -> int:
    import av

    with av.open(path) as film:
        return sum(1 for _ in film.decode(video=0))
