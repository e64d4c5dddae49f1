"""Open-Sora 2's published weights, by the names of its own code, as weights of our OpenSoraTransformer.

Queries, keys and values come fused in one matrix or apart (v2.0: apart, its option fused_qkv), and a head's K
numbers are turned in pairs (0, 1), (2, 3), ... or in halves (0, K/2), (1, K/2 + 1), ... (v2.0: in halves, its
option use_liger_rope). Ours are apart and in pairs: where queries and keys are reordered alike, attention is
the same.
Decides: which of our weights each published one becomes; refuses what does not fit exactly. Does not decide:
what they compute (opensora_model).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from engine.families.opensora_model import OpenSoraTransformer

_OUTSIDE = {
    "img_in": "x_embedder",
    "cond_in": "cond_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
    "final_layer.linear": "proj_out",
}
_DOUBLE = {
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
_SINGLE = {"modulation.lin": "norm.linear", "linear2": "proj_out"}
_DOUBLE_NORMS = {
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
}
_SINGLE_NORMS = {"norm.query_norm": "attn.norm_q", "norm.key_norm": "attn.norm_k"}
# Those that are several of ours, one below the other: the values of several names, parted by spaces.
_FUSED = {
    "img_attn.qkv": "attn.to_q attn.to_k attn.to_v",
    "txt_attn.qkv": "attn.add_q_proj attn.add_k_proj attn.add_v_proj",
}
_APART = {
    f"{stream}_attn.{letter}_proj": name.format(letter)
    for stream, name in (("img", "attn.to_{}"), ("txt", "attn.add_{}_proj"))
    for letter in "qkv"
}
_SINGLE_FUSED = {"linear1": "attn.to_q attn.to_k attn.to_v proj_mlp"}
_SINGLE_APART = {"q_proj": "attn.to_q", "k_proj": "attn.to_k", "v_mlp": "attn.to_v proj_mlp"}
_TURNED = ("to_q", "to_k", "add_q_proj", "add_k_proj", "norm_q", "norm_k", "norm_added_q", "norm_added_k")
_NAMED = 8  # names of one kind that a refusal lists


def convert_file(source: Path, folder: Path, *, halves: bool = True, **config: Any) -> None:
    """Write a published safetensors file as a folder that OpenSoraTransformer.from_pretrained reads.

    config says how it differs from the published 11B. Raises ValueError for weights of another shape or name.
    """
    published = load_file(source)
    weights = convert(published, config, halves=halves)
    with torch.device("meta"):
        model = OpenSoraTransformer(**config)
    model.load_state_dict(weights, strict=True, assign=True)
    model.save_pretrained(folder, safe_serialization=True)


def convert(published: Mapping[str, Tensor], config: Mapping[str, Any], *, halves: bool) -> dict[str, Tensor]:
    """Weights of an OpenSoraTransformer of that configuration; halves says how a head's numbers are turned.

    Raises ValueError with the names of what is unknown, missing or of a wrong shape.
    """
    with torch.device("meta"):
        model = OpenSoraTransformer(**config)
    shapes = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    fused = any(".qkv." in name or ".linear1." in name for name in published)
    names = _names(shapes, model.config.num_layers, model.config.num_single_layers, fused)
    _check(published, {key: _below(shapes[name] for name in ours) for key, ours in names.items()})
    size, weights = model.config.attention_head_dim, {}
    for key, ours in names.items():
        parts = torch.split_with_sizes(published[key], [shapes[name][0] for name in ours])
        for name, part in zip(ours, parts, strict=True):
            weights[name] = _reordered(name, part, size if halves else 0).clone()
    return weights


def _names(
    shapes: Mapping[str, Any], n_double: int, n_single: int, fused: bool
) -> dict[str, tuple[str, ...]]:
    """Published names, each with those of ours that it holds, without what this model does not have."""
    double, single = (_FUSED, _SINGLE_FUSED) if fused else (_APART, _SINGLE_APART)
    layers = _within(_OUTSIDE, "", "")
    norms: dict[str, str] = {}
    for n in range(n_double):
        at = f"double_blocks.{n}.", f"transformer_blocks.{n}."
        layers |= _within(_DOUBLE | double, *at)
        norms |= _within(_DOUBLE_NORMS, *at)
    for n in range(n_single):
        at = f"single_blocks.{n}.", f"single_transformer_blocks.{n}."
        layers |= _within(_SINGLE | single, *at)
        norms |= _within(_SINGLE_NORMS, *at)
    names: dict[str, tuple[str, ...]] = {f"{key}.scale": (f"{ours}.weight",) for key, ours in norms.items()}
    for kind in ("weight", "bias"):
        names |= {f"{key}.{kind}": tuple(f"{x}.{kind}" for x in ours.split()) for key, ours in layers.items()}
    return {key: ours for key, ours in names.items() if all(name in shapes for name in ours)}


def _within(names: Mapping[str, str], theirs: str, ours: str) -> dict[str, str]:
    """The names of a block's parts as names of the whole."""
    return {theirs + key: " ".join(ours + name for name in names[key].split()) for key in names}


def _below(shapes: Any) -> tuple[int, ...]:
    """The shape of matrices or vectors one below the other."""
    all_of_them = list(shapes)
    return (sum(shape[0] for shape in all_of_them), *all_of_them[0][1:])


def _reordered(name: str, x: Tensor, size: int) -> Tensor:
    """A weight in our order: shift and scale changed places; of a head of this size, halves become pairs."""
    if name.startswith("norm_out."):
        return torch.cat(x.chunk(2)[::-1])
    if size and name.split(".")[-2] in _TURNED:
        return x.reshape(-1, 2, size // 2, *x.shape[1:]).transpose(1, 2).reshape(x.shape)
    return x


def _check(published: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse anything but exactly these names and shapes."""
    given = {key: tuple(x.shape) for key, x in published.items()}
    wrong = {
        "unknown": [key for key in given if key not in shapes],
        "missing": [key for key in shapes if key not in given],
        "of a wrong shape": [
            f"{key} {given[key]}, not {shape}"
            for key, shape in shapes.items()
            if given.get(key, shape) != shape
        ],
    }
    if any(wrong.values()):
        said = (f"{kind}: {_listed(names)}" for kind, names in wrong.items() if names)
        raise ValueError(f"these are no weights of this Open-Sora 2; {'; '.join(said)}")


def _listed(names: list[str]) -> str:
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest
