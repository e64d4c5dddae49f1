"""The parts of a model folder that one stage needs, loaded by its family's class."""

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from engine.families.facts import FAMILIES, read_facts

# What each stage leaves on disk: a text encoder may be larger than all the rest.
LEFT_OUT = {
    "text": ("transformer", "vae"),
    "transformer": ("tokenizer", "text_encoder", "vae"),
    "vae": ("tokenizer", "text_encoder", "transformer"),
}


def load_part(folder: Path, part: str, dtype: str, device: str = "cpu") -> Any:
    """A family object that holds one of the parts text, transformer and vae, in torch's dtype of that name.

    Raises ValueError for a folder of no known family, a part or a dtype that does not exist.
    """
    if part not in LEFT_OUT:
        raise ValueError(f"no part {part!r}: there are {', '.join(LEFT_OUT)}")
    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype):
        raise ValueError(f"{dtype!r} is no dtype of torch; use float32 or bfloat16")
    diffusers_logging.disable_progress_bar()  # bars of a tenth of a second, in every worker's log
    transformers_logging.disable_progress_bar()
    module, _, name = FAMILIES[read_facts(folder).family].partition(":")
    family: Any = getattr(import_module(module), name)
    return family.load(folder, dtype=kind, device=device, leave_out=LEFT_OUT[part])
