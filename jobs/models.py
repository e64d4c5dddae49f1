"""The `models` verb: the families there are with their published checkpoints, or what a folder's model is.

Decides: what is said of a checkpoint. Does not decide: what is true of it (engine.families.published).
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Any

from cluster.cost import GIB, Shape, weights_bytes
from cluster.decoding import Pixels
from cluster.strand import Strand
from engine.families.denoiser import Denoiser, denoiser_of, read_denoiser
from engine.families.facts import ModelFacts, read_facts
from engine.families.parameters import decoding, denoising, encoding, linear_layers, read_weights
from engine.families.published import Published, published
from engine.families.world import read_world
from engine.parallel.axes import ALONE
from engine.phases import Course
from jobs.columns import aligned
from jobs.folders import find_folder
from jobs.outcome import DONE
from jobs.refusal import Refused
from jobs.stock import given_latents_of

# dtype and model.quantise, which leaves what is no linear layer in the dtype
PRECISIONS = {"int8": ("bfloat16", "int8"), "bfloat16": ("bfloat16", ""), "float32": ("float32", "")}
PUBLISHED_PROFILE = {"model": {"dtype": "bfloat16"}}  # what profiles say for a checkpoint unless told else


def checkpoint_of(name: str) -> Published:
    """A published checkpoint by its name or its place on the hub. Raises Refused that names the nearest."""
    checkpoints = published()
    wanted = {
        key.lower(): checkpoint
        for checkpoint in checkpoints.values()
        for key in (checkpoint.name, checkpoint.hub)
    }
    if name.lower() in wanted:
        return wanted[name.lower()]
    near = get_close_matches(name.lower(), wanted, n=3, cutoff=0.3)
    names = list(dict.fromkeys(wanted[key].name for key in near)) or list(checkpoints)
    raise Refused(f"no checkpoint {name!r} is known: {', '.join(names)} are; `longtake models` lists all")


def models(arguments: argparse.Namespace) -> int:
    """Print all checkpoints, or what is in a folder."""
    if arguments.folder is not None:
        entries = [_folder(arguments.folder)]
    else:
        entries = [_entry(checkpoint) for checkpoint in published().values()]
    if arguments.output == "json":
        print(json.dumps(entries, ensure_ascii=False, indent=1))
    else:
        print("\n".join(_lines(entries, in_full=arguments.folder is not None)))
    return DONE


@dataclass(frozen=True)
class _Window:
    """The trained window: latent frames, and the size in pixels."""

    frames: int
    width_px: int
    height_px: int


def _entry(checkpoint: Published) -> dict[str, Any]:
    """A published checkpoint, as scripts read it."""
    facts, denoiser = checkpoint.facts, denoiser_of(dict(checkpoint.denoiser))
    window = _Window(facts.window_frames, checkpoint.width_px, checkpoint.height_px)
    return {
        "name": checkpoint.name,
        "hub": checkpoint.hub,
        "family": checkpoint.family,
        "does": list(facts.takes.draws_from),
        "parameters_b": {
            "denoiser": checkpoint.denoiser_b,
            "text": checkpoint.text_b,
            "vae": checkpoint.vae_b,
        },
        "trained": {
            "width_px": checkpoint.width_px,
            "height_px": checkpoint.height_px,
            "frames": checkpoint.frames,
            "fps": checkpoint.fps,
            "latent_frames": facts.window_frames,
        },
        "steps": checkpoint.n_steps,
        "guidance_scale": checkpoint.guidance_scale,
        "licence": checkpoint.licence,
        "open_source": checkpoint.is_open_source,
        **_sizes(checkpoint, facts, denoiser, window),
    }


def _sizes(checkpoint: Published, facts: ModelFacts, denoiser: Denoiser, window: _Window) -> dict[str, Any]:
    """GiB of the weights by precision, the least GPU for a trained window, and which axes apply.

    A GPU that has a rank has a decoder beside it, which makes the pixels of a shot of that window.
    """
    scale = facts.spatial_compression
    shape = Shape(
        facts.family, "", denoiser, checkpoint.parameters, "bfloat16", window.frames,
        window.height_px // scale, window.width_px // scale, facts.latent_channels, scale,
        facts.max_text_tokens, guided=True,
    )  # fmt: skip
    held, size_px = checkpoint.decoding.of(window.frames), (window.width_px, window.height_px)
    shot = Strand(shape, Course(((1, 1),)), Pixels(checkpoint.name, held, "bfloat16", size_px))
    return {
        "weights_gib": _weights_gib(checkpoint.parameters, checkpoint.linear, 0, 2),
        "least_gpu_gib": math.ceil(10 * shot.memory(ALONE).gib) / 10,
        "least_gpu_gib_without_decoder": math.ceil(10 * replace(shot, pixels=None).memory(ALONE).gib) / 10,
        "axes": [
            *(["cfg"] if shape.branches == 2 else []),
            *(["ring", "ulysses"] if denoiser.shared else []),
        ],
        "heads": denoiser.heads,
    }


def _weights_gib(parameters: int, linear: int, rows: int, digits: int) -> dict[str, float]:
    """By precision."""
    sizes = {name: weights_bytes(parameters, *kind, linear, rows) for name, kind in PRECISIONS.items()}
    return {name: round(size / GIB, digits) for name, size in sizes.items()}


def _folder(folder: str) -> dict[str, Any]:
    """A folder's model, by its files. Raises Refused that says what is wrong with it, or StoreError."""
    found = None
    try:
        found = find_folder(folder)
        at = found.folder
        facts, denoiser, parts = read_facts(at), read_denoiser(at), read_weights(at)
        taught = given_latents_of(read_world(at), facts)
    except (OSError, ValueError) as error:
        raise Refused(found.told(error) if found else str(error)) from error
    parameters = denoising(parts)
    counts = {"denoiser": parameters, "text": encoding(parts), "vae": decoding(parts)}
    return {
        "name": PurePosixPath(found.name).name if found.outline is None else found.name,
        "family": facts.family,
        "does": list(facts.takes.taught(taught).draws_from),
        "parameters_b": {name: round(count / 1e9, 6) for name, count in counts.items()},
        "latent_frames": facts.window_frames,
        "size_multiple_px": facts.size_multiple_px,
        "heads": denoiser.heads,
        "axes": [*([] if denoiser.told else ["cfg"]), *(["ring", "ulysses"] if denoiser.shared else [])],
        "weights_gib": _weights_gib(parameters, *linear_layers(parts), 6),
        "parts": {
            name: {"parameters": part.parameters, "bytes": part.bytes, "dtype": part.dtype}
            for name, part in parts.items()
        },
        "bytes": sum(part.bytes for part in parts.values()),
    }


# For people.

_HEAD = ("", "from", "B parameters", "GiB bf16", "GPU", "trained on", "fps", "axes", "licence")


def _lines(entries: Sequence[Mapping[str, Any]], *, in_full: bool) -> list[str]:
    return _folder_lines(entries[0]) if in_full else _table(entries)


def _table(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        *aligned([_HEAD, *(_row(entry) for entry in entries)], len(_HEAD)),
        "",
        "from: what shots are drawn from; last: a last picture, clip: one to go on from, v2v: one to redraw.",
        "B parameters: billions of denoiser + text and image encoders + autoencoder. GiB bf16: weights of",
        "the denoiser, twice that in float32, half by model.quantise=int8. GPU: GiB that one alone needs,",
        "for a window of what it was trained on, and for a decoder of that beside it.",
        "axes: those that a gang can have, c cfg, r ring, u ulysses. *: not open source. -o json says more.",
    ]


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    billions, trained = entry["parameters_b"], entry["trained"]
    return (
        entry["name"],
        "+".join(entry["does"]),
        f"{billions['denoiser']:.1f}+{billions['text']:.1f}+{billions['vae']:.1f}",
        f"{entry['weights_gib']['bfloat16']:.1f}",
        str(math.ceil(entry["least_gpu_gib"])),
        f"{trained['width_px']}x{trained['height_px']}x{trained['frames']}",
        str(trained["fps"]),
        "".join(axis[0] for axis in entry["axes"]),
        _brief(entry["licence"]) + ("" if entry["open_source"] else "*"),
    )


def _brief(licence: str) -> str:
    """A licence's name without the words that most of them share."""
    for word in (" licence", " community", " weights"):
        licence = licence.removesuffix(word)
    return licence


def _folder_lines(entry: Mapping[str, Any]) -> list[str]:
    billions, gib = entry["parameters_b"], entry["weights_gib"]
    parts = [
        f"  {name:<16}{part['parameters']:>16,} parameters {part['bytes']:>16,} bytes  {part['dtype']}"
        for name, part in entry["parts"].items()
    ]
    return [
        f"{entry['name']}: {entry['family']}, {entry['heads']} heads, windows of {entry['latent_frames']} "
        f"latent frames, sides of {entry['size_multiple_px']} px",
        *parts,
        f"  a gang loads {billions['denoiser']:.3g} billion parameters: "
        + ", ".join(f"{gib[name]:.2f} GiB in {name}" for name in PRECISIONS),
        f"  draws from {', '.join(entry['does'])}",
        f"  int8 is by model.quantise; axes {', '.join(entry['axes']) or 'none'}",
    ]
