"""Files of LoRA adapters, by their headers: whether one is of a model. No torch.

A model's folder may hold an adapter of its own, ENDING_FILE: shots that end with a picture are drawn with it.

Decides: which weights of which shapes an adapter needs. Does not decide: how it is set (`adapters`).
"""

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

Shapes = Mapping[str, tuple[int, ...]]
_PART = re.compile(r"^transformer\.(?P<module>.+)\.lora_(?P<side>[AB])\.(?:weight|bias)$")
SHOWN = 3  # keys in a message
ENDING_FILE = "last_frame.safetensors"


def shapes_of(path: Path) -> Shapes:
    """The shapes in a safetensors file, by key. Raises ValueError for anything else."""
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} is no .safetensors file: pickled weights are refused")
    try:
        with safe_open(path, "numpy") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ValueError(
            f"{path} cannot be read: it is no safetensors file, or only a part of one: copy it again"
        ) from error


def weights_of(folder: Path) -> Shapes:
    """The shapes of a transformer's weights, by the names of its modules."""
    files = sorted((folder / "transformer").glob("*.safetensors"))
    shapes = {key: shape for path in files for key, shape in shapes_of(path).items()}
    return {key.removesuffix(".weight"): shape for key, shape in shapes.items() if key.endswith(".weight")}


def is_converted(adapter: Shapes) -> bool:
    """Whether its keys are diffusers' own; other trainers' are known once diffusers has turned them."""
    return any(_PART.match(key) for key in adapter)


def check_fit(adapter: Shapes, weights: Shapes) -> None:
    """Raise ValueError that names keys of another model, or of none."""
    odd = [key for key in adapter if not _fits(key, adapter[key], weights)]
    if odd or not adapter:
        keys = f"{', '.join(odd[:SHOWN])}{' …' if odd[SHOWN:] else ''}" if odd else "no keys"
        raise ValueError(
            f"it is of another model: {len(odd)} of its {len(adapter)} keys fit no weight: {keys}"
        )


def _fits(key: str, shape: tuple[int, ...], weights: Shapes) -> bool:
    """Whether a key's module is there, with as many inputs or outputs as the key has."""
    found = _PART.match(key)
    if found is None or found["module"] not in weights:
        return False
    weight = weights[found["module"]]
    return shape[1:2] == weight[1:2] if found["side"] == "A" else shape[:1] == weight[:1]
