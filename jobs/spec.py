"""What a job is told: typed defaults, then a YAML file, then `key.sub=value`. Alone in knowing OmegaConf.

The result is frozen. What a profile says is in jobs.profile and jobs.denoising; here are the workers,
and the job as a whole.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from cluster.choose import OBJECTIVES
from engine.parallel.axes import DEEPSPEED, EXCHANGES
from jobs.moment import moment
from jobs.profile import Profile
from jobs.refusal import SpecError

_BUDGETS = ("budget_gpu_s", "soft_gpu_s", "budget_money", "soft_money", "price_per_gpu_hour")
# What changes no pixel, and only says how far a run may go, how many work at it, how long errors and workers
# are waited for, and how it is told. Settings that may change low bits (device, threads, batch, axes) name
# the job, and so does whoever signs its films.
BOUNDS = (
    "log",
    "deadline",
    *(
        f"cluster.{name}"
        for name in (*_BUDGETS, "currency", "breaker_films", "breaker_share", "canary_films")
    ),
    *(f"cluster.{name}" for name in ("gangs", "conductors", "decoders", "finishers", "share", "cache")),
    *(f"cluster.{name}" for name in ("max_canvases", "max_films", "checkpoint_every", "checkpoint_s")),
    "cluster.check_memory",
    *(f"cluster.{name}" for name in ("patience", "group_timeout_s", "step_timeout_s", "task_timeout_s")),
)
_EARLY_ENDS = ("breaker_films", "breaker_share", "canary_films", *_BUDGETS)


@dataclass(frozen=True)
class ClusterSpec:
    """The workers. gangs=0 takes as many as the cluster has room for, on nodes that come later too.

    A gang has cfg × ring × ulysses ranks, which predict one window together: cfg=2 gives each branch of
    guidance its own, ulysses shares out the sequence and attention heads, ring the sequence alone. Where one
    of them is 0 the cost model chooses it when the job begins, by the cluster's GPUs and the job's windows;
    calibrate=true has its two cheapest gangs tried before, where that saves more than it takes. objective is
    what they and an open batch are chosen for: throughput, films an hour, or latency, the longest film soon.
    exchange is how ulysses ranks trade tokens for heads: deepspeed, or fused for queries, keys and values at
    once, which took 0.86 of the time over gloo; the bits are the same.
    A job ends early where breaker_films films have failed and are breaker_share of those that ended, or where
    its gangs took budget_gpu_s GPU-seconds; 0 is never. The first canary_films films end before others begin.
    After soft_gpu_s GPU-seconds no film is begun, and those under way are finished. Where a GPU's hour has a
    price, price_per_gpu_hour in any currency, budget_money and soft_money say either in that.
    batch windows of one step of a shot are predicted in one forward, 0 for as many as pay (cluster.batch): it
    may change low bits, and a job that goes on keeps the batch that was chosen when it began.
    device=auto computes on GPUs where there are any; stage_gpus is the share of one that the encoder and
    each decoder take beside a rank, at most 0.4, and 0 has them on the CPU. cache is where each node keeps
    copies of models that lie elsewhere, auto for longtake below $XDG_CACHE_HOME or ~/.cache.
    A worker that is silent for longer than a bound counts as hung, and another does its work: group_timeout_s
    is for ranks of one gang that wait for each other, step_timeout_s for a window's prediction, with the
    loading of its weights, and for a conductor, task_timeout_s for the whole task of an encoder, a decoder or
    a finisher. share is the job's weight where several render on one cluster (cluster.shares).
    A shot under way is saved between two steps as soon as checkpoint_every steps, or checkpoint_s, whichever
    is first, have passed since it was: so much of it a crash may cost, or one step where that takes longer.
    check_memory=false begins also what would not fit by arithmetic, and finds out.
    How long errors are waited out (cluster.classes) is multiplied by patience; with 0 each try comes at once.
    price_per_gpu_hour is what an hour of one GPU costs, 0 where it is not known, in currency, any word.
    """

    gangs: int = 0
    cfg: int = 1
    ring: int = 1
    ulysses: int = 1
    calibrate: bool = True
    objective: str = "throughput"
    exchange: str = DEEPSPEED
    batch: int = 1
    conductors: int = 1
    decoders: int = 1
    finishers: int = 1
    device: str = "auto"
    stage_gpus: float = 0.2
    threads: int = 1
    checkpoint_every: int = 5
    checkpoint_s: float = 300.0
    max_canvases: int = 4
    max_films: int = 8
    group_timeout_s: float = 60.0
    step_timeout_s: float = 1800.0
    task_timeout_s: float = 7200.0
    check_memory: bool = True
    breaker_films: int = 20
    breaker_share: float = 0.1
    canary_films: int = 0
    budget_gpu_s: float = 0.0
    patience: float = 1.0
    soft_gpu_s: float = 0.0
    budget_money: float = 0.0
    soft_money: float = 0.0
    price_per_gpu_hour: float = 0.0
    cache: str = "auto"
    currency: str = ""
    share: float = 1.0

    def __post_init__(self) -> None:
        counts = ("conductors", "decoders", "finishers", "threads")
        for name in (*counts, "checkpoint_every", "max_canvases", "max_films"):
            if getattr(self, name) < 1:
                raise SpecError(f"cluster.{name}={getattr(self, name)} must be at least 1")
        if self.cfg > 2:
            raise SpecError(
                f"cluster.cfg={self.cfg} must be 1 or 2, or 0 to be chosen: guidance has two branches"
            )
        for name in ("gangs", "cfg", "ring", "ulysses", "batch", "stage_gpus", "patience", *_EARLY_ENDS):
            if not 0 <= getattr(self, name) < math.inf:
                raise SpecError(f"cluster.{name}={getattr(self, name)} must not be negative, and finite")
        if self.stage_gpus > 0.4:
            raise SpecError(
                f"cluster.stage_gpus={self.stage_gpus} must be at most 0.4: a rank takes the rest of its GPU"
            )
        if (self.budget_money or self.soft_money) and not self.price_per_gpu_hour:
            raise SpecError("a budget in money needs a price: set cluster.price_per_gpu_hour")
        if not 0 < self.share < math.inf:
            raise SpecError(f"cluster.share={self.share} must be above 0, and finite")
        if self.breaker_share > 1:
            raise SpecError(f"cluster.breaker_share={self.breaker_share} must lie in 0 to 1")
        if self.exchange not in EXCHANGES:
            raise SpecError(f"cluster.exchange={self.exchange!r} must be one of {', '.join(EXCHANGES)}")
        if self.objective not in OBJECTIVES:
            raise SpecError(f"cluster.objective={self.objective!r} must be one of {', '.join(OBJECTIVES)}")
        if self.cache != "auto" and not self.cache.startswith(("/", "~")):
            raise SpecError(f"cluster.cache={self.cache!r} must begin with / or ~, as a folder on every node")
        if self.device not in ("auto", "cpu", "cuda"):
            raise SpecError(f"cluster.device={self.device!r} must be auto, cpu or cuda")
        for name in ("checkpoint_s", "group_timeout_s", "step_timeout_s", "task_timeout_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise SpecError(f"cluster.{name}={getattr(self, name)} s must be above 0 s and finite")


@dataclass(frozen=True)
class JobSpec:
    """Everything but the manifest. `roots` are the folders that given files and adapters may come from.

    `deadline` is when all films are to be done, such as "06:00 Asia/Kolkata" (jobs.moment); empty is never.
    log is text for people, or json for a line of JSON for every event of the driver and its workers.
    """

    profiles: dict[str, Profile] = field(default_factory=lambda: {"chalk": Profile()})
    cluster: ClusterSpec = field(default_factory=ClusterSpec)
    on_invalid: str = "reject"
    roots: tuple[str, ...] = ()
    identity: str = "~/.local/share/longtake"
    deadline: str = ""
    log: str = "text"

    def __post_init__(self) -> None:
        try:
            self.done_by(datetime.now(UTC))
        except ValueError as error:
            raise SpecError(str(error)) from error
        if self.on_invalid not in ("reject", "skip"):
            raise SpecError(f"on_invalid={self.on_invalid!r} must be reject or skip")
        if self.log not in ("text", "json"):
            raise SpecError(f"log={self.log!r} must be text or json")

    def done_by(self, now: datetime) -> datetime | None:
        """The moment of the deadline, in UTC; None without one."""
        return moment(self.deadline, now) if self.deadline else None


def load_spec(
    path: Path | None = None, overrides: Sequence[str] = (), profile: Mapping[str, Any] | None = None
) -> JobSpec:
    """The job's configuration. Raises SpecError that names the key, for anything unknown or out of range.

    `profile` is what every profile says unless the file or an override does.
    """
    try:
        base = OmegaConf.structured(JobSpec)
        layers: list[Any] = [OmegaConf.load(path)] if path is not None else []
        layers.append(OmegaConf.from_dotlist(list(overrides)))
        if profile is not None:
            names = OmegaConf.merge(base, *layers).profiles
            layers.insert(0, {"profiles": {name: dict(profile) for name in names}})
        spec = OmegaConf.to_object(OmegaConf.merge(base, *layers))
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror or error}") from error
    except (OmegaConfBaseException, YAMLError, IndexError, TypeError, ValueError) as error:  # IndexError: "["
        raise SpecError(_plainly(error)) from error
    assert isinstance(spec, JobSpec)
    return spec


def _plainly(error: Exception) -> str:
    """A configuration's error with the whole key before it, and without the library's own words behind it."""
    told, _, more = " ".join(str(error).split()).partition(" full_key: ")
    key = more.partition(" ")[0]
    if isinstance(error, IndexError):
        return "an override is no setting: give key.sub=value"
    if not key:
        return told
    if told.startswith("Key "):
        meant = told.partition("Did you mean: ")[2]
        return f"there is no setting {key}" + (f"; did you mean {meant}" if meant else "")
    if told.startswith("Incompatible value 'None'"):
        return f"{key} has no value: give it one, or leave it out"
    return f"{key}: {told[0].lower()}{told[1:]}"


def as_plain(spec: JobSpec) -> Any:
    """The spec as plain JSON values, for the record."""
    return OmegaConf.to_container(OmegaConf.structured(spec))


def as_asked(spec: JobSpec) -> Any:
    """What is asked for, which names the job: all but BOUNDS, so that a job that goes on may have others."""
    plain = as_plain(spec)
    for name in BOUNDS:
        *above, last = name.split(".")
        del (plain[above[0]] if above else plain)[last]
    return plain
