"""A farm described in YAML becomes a machine of the cost model: a kind of GPU by name, or its numbers."""

import math
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from cluster.machine import BETWEEN_GB_S, GPUS, LATENCY_S, Machine
from jobs.refusal import SpecError

EXAMPLES = tuple(
    Path(__file__).parent / "examples" / f"farm_{name}.yaml" for name in ("1x24gb", "8x80gb", "4x8x80gb")
)
EFFICIENCY = 0.5  # of a GPU without a name


@dataclass(frozen=True)
class FarmSpec:
    """Equal nodes of equal GPUs. What is 0 is taken from the GPU's kind, which `gpu` names.

    memory_gib is that of a GPU, tflops dense bfloat16 by its data sheet, efficiency the share of it that a
    model reaches. inside_gb_s is the link between GPUs of a node, between_gb_s that between nodes, one way.
    """

    gpu: str = ""
    nodes: int = 1
    gpus: int = 1
    memory_gib: float = 0.0
    tflops: float = 0.0
    efficiency: float = 0.0
    inside_gb_s: float = 0.0
    between_gb_s: float = BETWEEN_GB_S
    latency_us: float = LATENCY_S * 1e6

    def __post_init__(self) -> None:
        for name in ("nodes", "gpus"):
            if getattr(self, name) < 1:
                raise SpecError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("memory_gib", "tflops", "efficiency", "inside_gb_s", "latency_us"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SpecError(f"{name}={getattr(self, name)} must be 0 or more, and finite")
        if not 0 < self.between_gb_s < math.inf:
            raise SpecError(f"between_gb_s={self.between_gb_s} must be above 0, and finite")
        if self.efficiency > 1:
            raise SpecError(f"efficiency={self.efficiency} must be at most 1")

    @property
    def machine(self) -> Machine:
        """The machine, with what its GPU's kind says. Raises SpecError where nothing says a number."""
        kind = GPUS.get(self.gpu)
        known = {"memory_gib": kind.memory_gib, "tflops": kind.tflops} if kind else {}
        if kind:
            known |= {"efficiency": kind.efficiency, "inside_gb_s": kind.link_gb_s}
        numbers = {"efficiency": EFFICIENCY} | known
        for name in ("memory_gib", "tflops", "efficiency", "inside_gb_s"):
            if (given := getattr(self, name)) > 0:
                numbers[name] = given
            elif name not in numbers and not (name == "inside_gb_s" and self.gpus == 1):
                raise SpecError(f"{name} is not given, and gpu={self.gpu!r} is none of {', '.join(GPUS)}")
        return Machine(
            self.nodes,
            self.gpus,
            numbers["memory_gib"],
            numbers["tflops"],
            numbers["efficiency"],
            numbers.get("inside_gb_s", self.between_gb_s),
            self.between_gb_s,
            self.latency_us * 1e-6,
            self.gpu,
        )


def load_farm(path: Path) -> Machine:
    """The machine that a file describes. Raises SpecError that names the file and the key."""
    try:
        spec = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(FarmSpec), OmegaConf.load(path)))
        assert isinstance(spec, FarmSpec)
        return spec.machine
    except OSError as error:
        raise SpecError(f"cannot read the farm {path}: {error.strerror or error}") from error
    except (OmegaConfBaseException, YAMLError, TypeError, ValueError, SpecError) as error:
        raise SpecError(f"{path}: {' '.join(str(error).split())}") from error
