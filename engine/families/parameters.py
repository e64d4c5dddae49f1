"""How large a model folder's weights are, from the headers of its safetensors files. No torch.

Decides: which part has how many parameters, in how many bytes, of which dtype. Does not decide: what of it a
worker loads (loading.LEFT_OUT).
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_LENGTH_BYTES = 8  # little-endian, of the header that follows
_LARGEST_HEADER = 100_000_000  # that the format allows
_DTYPES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_VARIANTS = (".fp16.", ".bf16.", ".non_ema.")  # of files that may lie beside those that are loaded
_DENOISERS, _TEXT = ("transformer", "unet"), ("text_encoder", "image_encoder")


@dataclass(frozen=True)
class Weights:
    """Of one part: its parameters, their bytes on disk, and the dtype that most of them are kept in.

    `linear` of the parameters are matrices of linear layers, of so many `rows` in all.
    """

    parameters: int
    bytes: int
    dtype: str
    linear: int = 0
    rows: int = 0


def read_weights(folder: Path) -> dict[str, Weights]:
    """The weights of every part of a diffusers folder that has some. Raises ValueError for a broken file."""
    parts = {path.name: _part(path) for path in sorted(folder.iterdir()) if path.is_dir()}
    return {name: weights for name, weights in parts.items() if weights is not None}


def denoising(parts: Mapping[str, Weights]) -> int:
    """Parameters of all that predicts: one transformer, or the two experts."""
    return _of(parts, _DENOISERS)


def linear_layers(parts: Mapping[str, Weights]) -> tuple[int, int]:
    """Of all that predicts: parameters in matrices of linear layers, and the rows of these."""
    found = [weights for name, weights in parts.items() if name.startswith(_DENOISERS)]
    return sum(each.linear for each in found), sum(each.rows for each in found)


def encoding(parts: Mapping[str, Weights]) -> int:
    """Parameters of all encoders of texts and of pictures for the text."""
    return _of(parts, _TEXT)


def decoding(parts: Mapping[str, Weights]) -> int:
    """Parameters of the autoencoder."""
    return _of(parts, ("vae",))


def _of(parts: Mapping[str, Weights], stems: tuple[str, ...]) -> int:
    return sum(weights.parameters for name, weights in parts.items() if name.startswith(stems))


def _part(folder: Path) -> Weights | None:
    files = sorted(folder.glob("*.safetensors"))
    files = [path for path in files if not any(name in path.name for name in _VARIANTS)] or files
    if not files:
        return None
    tensors = [tensor for path in files for tensor in _header(path)]
    counts: Counter[str] = Counter()
    for _, dtype, shape in tensors:
        counts[dtype] += math.prod(shape)
    most = counts.most_common(1)[0][0] if counts else ""
    total = sum(path.stat().st_size for path in files)
    # Of a transformer: norms have one side, convolutions more than two, and tables of vectors other names.
    matrices = [shape for name, _, shape in tensors if len(shape) == 2 and name.endswith(".weight")]
    linear, rows = sum(map(math.prod, matrices)), sum(shape[0] for shape in matrices)
    return Weights(sum(counts.values()), total, _DTYPES.get(most, most), linear, rows)


def _header(path: Path) -> list[tuple[str, str, list[int]]]:
    """Name, dtype and shape of each tensor. Raises ValueError that names the file."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if not 0 < length <= _LARGEST_HEADER:
                raise ValueError(f"its header would have {length} bytes")
            entries = json.loads(file.read(length))
        tensors = [
            (name, str(entry["dtype"]), [int(side) for side in entry["shape"]])
            for name, entry in entries.items()
            if name != "__metadata__"
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no readable safetensors file: {error}") from error
    return tensors
