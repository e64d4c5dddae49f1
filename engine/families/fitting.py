"""Whether a folder's parts could be loaded and fit one another, told before anybody is hired to load them.

Models are made on torch's meta device, which has no memory: the shapes of their tensors are held against the
headers of the folder's weights, and a few latents are decoded by shapes alone. What is small, tokenizers and
processors of pictures, is loaded. No tensor is read, so a folder of any size takes about as long.
Decides: what of a folder could not be loaded, or would draw nonsense. Does not decide: whether files are
whole (weights), which numbers must agree (joints), or what is said of a folder damaged after this (gaps).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from accelerate import init_empty_weights

from engine.families.facts import ModelFacts, family_name, read_facts
from engine.families.gaps import misshapen, refuse_missing
from engine.families.joints import JOINTS
from engine.families.known import FAMILIES
from engine.families.loading import check_scheduler, family_of
from engine.families.reading import read_index
from engine.families.weights import read_tensors

LIBRARIES = ("diffusers", "transformers")  # that an index may name classes of
_ELSEWHERE = ("scheduler", "audio_scheduler", "guider")  # parts that are looked at by others
_PROBE = (3, 4, 6)  # latent frames, rows and columns that are decoded; CogVideoX has odd numbers of frames
_AGAIN = "copy the model's folder again"


def check_fit(folder: Path) -> None:
    """Raise ValueError, or OSError as weights do, where a worker could not load a folder, or in vain.

    Says which part, which file or tensor with both its shapes, and what to do. Weights have been looked at
    before (weights.check_weights).
    """
    check_scheduler(folder)
    kinds = classes_of(folder)
    with _in_silence():
        small = {part: _loaded(kind, folder / part) for part, kind in kinds.items() if not _is_model(kind)}
        models = {part: _made(kind, folder / part) for part, kind in kinds.items() if _is_model(kind)}
        _check_joints(folder, {part: model.config for part, model in models.items()})
        _check_vocabularies(folder, small, models)
        _check_decoder(folder, models["vae"])


def classes_of(folder: Path) -> dict[str, Any]:
    """The classes of a folder's parts, but for schedulers: as its index names them, or its family.

    Raises ValueError for one that is not to be had.
    """
    named = {
        part: value
        for part, value in read_index(folder).items()
        if isinstance(value, list) and len(value) == 2 and all(value) and part not in _ELSEWHERE
    }
    told = {part: _class(folder, part, str(library), str(name)) for part, (library, name) in named.items()}
    told |= family_of(folder).parts
    if lost := sorted({"vae", FAMILIES[family_name(folder)].denoiser} - told.keys()):
        raise ValueError(f"{folder}: its index names no {lost[0]}: {_AGAIN}")
    return told


def _class(folder: Path, part: str, library: str, name: str) -> Any:
    found = getattr(import_module(library), name, None) if library in LIBRARIES else None
    if found is None:
        raise ValueError(
            f"{folder}: its index says that {part} is a {name} of {library}, and there is none: {_AGAIN}, as "
            "it was published for diffusers"
        )
    return found


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, torch.nn.Module)


def _loaded(kind: Any, part: Path) -> Any:
    """A tokenizer, or a processor of pictures, from its files."""
    held = sorted(path.name for path in part.iterdir()) if part.is_dir() else []
    needed = sorted(set(getattr(kind, "vocab_files_names", {}).values()))
    if not held:
        raise ValueError(f"{part} is missing, or has no file: {_AGAIN}")
    if needed and not set(needed) & set(held):
        raise ValueError(
            f"{part} has none of {', '.join(needed)}, which a {kind.__name__} is read from: {_AGAIN}"
        )
    try:
        return kind.from_pretrained(str(part), local_files_only=True)
    except ImportError as error:
        raise _lacking(kind, part, error) from error
    except Exception as error:  # tokenizers raises this very class
        found = f"{', '.join(held)} ({_first_line(error)})"
        raise ValueError(f"{part}: no {kind.__name__} can be made of {found}: {_AGAIN}") from error


def _made(kind: Any, part: Path) -> Any:
    """A model without memory, all of whose tensors are in its weights, as large as it needs them."""
    shapes = {name: tuple(told["shape"]) for name, told in read_tensors(part).items()}
    try:
        if issubclass(kind, transformers.PreTrainedModel):
            model, told = _of_transformers(kind, part, shapes)
        else:
            model, told = _of_diffusers(kind, part, shapes)
    except ImportError as error:
        raise _lacking(kind, part, error) from error
    except Exception as error:  # as a value is odd, libraries raise whatever that leads to
        raise ValueError(
            f"{part / 'config.json'}: no {kind.__name__} can be made of it ({_first_line(error)}): {_AGAIN}"
        ) from error
    for name, found, needed in sorted(told["mismatched_keys"]):
        raise misshapen(part, name, found, needed)
    refuse_missing(part, sorted(told["missing_keys"]))
    return model


def _lacking(kind: Any, part: Path, error: ImportError) -> ValueError:
    """What is wrong is this installation, and not the folder."""
    return ValueError(
        f"{part}: a {kind.__name__} needs a package that is not here ({_first_line(error)}): install it"
    )


def _of_transformers(kind: Any, part: Path, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Any, Any]:
    """Loaded from tensors without memory, as the library renames and ties them; and what it says of them."""
    weights = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    return kind.from_pretrained(  # type: ignore[no-any-return]
        None,
        config=kind.config_class.from_pretrained(str(part), local_files_only=True),
        state_dict=weights,
        device_map={"": "meta"},
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # told of by its caller
    )


def _of_diffusers(kind: Any, part: Path, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Any, Any]:
    """Made as diffusers makes it before it reads weights; a buffer that these lack keeps its own values."""
    with init_empty_weights():
        model = kind.from_config(kind.load_config(str(part), local_files_only=True))
    found = dict(shapes)
    model._fix_state_dict_keys_on_load(found)  # names that older weights have
    needed = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return model, {
        "mismatched_keys": [(k, found[k], needed[k]) for k in found.keys() & needed if found[k] != needed[k]],
        "missing_keys": dict(model.named_parameters()).keys() - found.keys(),
    }


def _check_joints(folder: Path, configs: Mapping[str, Any]) -> None:
    """Raise ValueError where two parts are not of one model."""
    for joint in JOINTS[family_name(folder)]:
        (one, key), (other, wanted) = joint.one.split("."), joint.other.split(".")
        for part in (name for name in configs if name.removesuffix("_2") == one.removesuffix("_2")):
            has, needs = _number(configs[part], key), _number(configs.get(other), wanted)
            if has is not None and needs is not None and has not in joint.allowed(needs):
                raise ValueError(
                    f"{folder}: {part} has {key}={has}, which {other} with {wanted}={needs} does not fit "
                    f"(it needs {' or '.join(map(str, joint.allowed(needs)))}): the parts are of different "
                    f"models; {_AGAIN}"
                )


def _number(config: Any, key: str) -> int | None:
    """A number of a part's configuration, or of what reads its text, where it is one."""
    if isinstance(config, transformers.PretrainedConfig):
        found = getattr(config.get_text_config(), key, getattr(config, key, None))
    else:
        found = config.get(key) if config is not None else None
    return found if isinstance(found, int) else None


def _check_vocabularies(folder: Path, small: Mapping[str, Any], models: Mapping[str, Any]) -> None:
    """Raise ValueError for a tokenizer whose tokens its encoder does not know."""
    for part, tokenizer in small.items():
        if not part.startswith("tokenizer"):
            continue
        encoder = part.replace("tokenizer", "text_encoder")
        known = _number(models[encoder].config, "vocab_size") if encoder in models else None
        if not len(tokenizer) or (known is not None and len(tokenizer) > known):
            raise ValueError(
                f"{folder / part} has {len(tokenizer):,} tokens, of which {encoder} knows {known or 0:,}: "
                f"they are of different models, or a file is damaged; {_AGAIN}"
            )


def _check_decoder(folder: Path, vae: Any) -> None:
    """Raise ValueError where latents do not become as many pixels as the folder says."""
    facts, config = read_facts(folder), folder / "vae" / "config.json"
    if facts.period:  # of which the family reads one layout alone
        return
    in_time, in_space = facts.temporal_compression, facts.spatial_compression
    frames, rows, columns = _PROBE
    told = (frames - 1) * in_time + 1, rows * in_space, columns * in_space
    try:
        found = _decoded(vae.to("meta"), facts)
    except Exception as error:  # whatever odd sizes lead to
        why = _first_line(error)
        raise ValueError(f"{config}: what it makes decodes no latents ({why}): {_AGAIN}") from error
    if found != told:
        raise ValueError(
            f"{config}: its decoder makes {_sides(found)} pixels of {_sides(_PROBE)} latents, frames first; "
            f"compressed by {in_time} in time and {in_space} in space, as it says, they would make "
            f"{_sides(told)}: {_AGAIN}"
        )


@torch.no_grad()
def _decoded(vae: Any, facts: ModelFacts) -> tuple[int, ...]:
    """Frames, rows and columns of the pixels of a few latents."""
    takes, channels = inspect.signature(vae.decode).parameters, facts.latent_channels
    if "num_frames" in takes:  # frames for a batch
        z_TCHW = torch.empty(_PROBE[0], channels, *_PROBE[1:], device="meta")
        frames, _, height, width = vae.decode(z_TCHW, num_frames=len(z_TCHW)).sample.shape
        return frames, height, width
    z_BCTHW = torch.empty(1, channels, *_PROBE, device="meta")
    told = {"temb": torch.empty(1, device="meta")} if vae.config.get("timestep_conditioning") else {}
    sides = vae.decode(z_BCTHW, **told).sample.shape[2:]
    return tuple(sides)


def _sides(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides))


def _first_line(error: BaseException) -> str:
    """What a library says, as far as it is short."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]


@contextmanager
def _in_silence() -> Iterator[None]:
    """Without what libraries log of loading: what is wrong is raised."""
    loggers = diffusers.utils.logging, transformers.utils.logging
    before = [each.get_verbosity() for each in loggers]
    for each in loggers:
        each.set_verbosity_error()
        each.disable_progress_bar()
    try:
        yield
    finally:
        for each, level in zip(loggers, before, strict=True):
            each.set_verbosity(level)
