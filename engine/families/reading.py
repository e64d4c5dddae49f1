"""JSON objects of a model folder and single values of them, with errors that say what is wrong. No torch."""

import json
from pathlib import Path
from typing import Any

_INDEXES = ("model_index.json", "modular_model_index.json")  # of pipelines, and of those built from blocks

Config = dict[str, Any]  # of one part, as its JSON says


def read_object(path: Path) -> Config:
    """One JSON object of the folder. Raises ValueError with its path where it is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__} instead of an object")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no readable part of a diffusers folder: {_why(error)}") from error
    return content


def _why(error: OSError | ValueError) -> str:
    """What is wrong with a file, in other words than the system's or the parser's."""
    if isinstance(error, json.JSONDecodeError):
        place = f"line {error.lineno}, column {error.colno}"
        return f"it is no JSON from {place} on; copy the model's folder again"
    if isinstance(error, UnicodeDecodeError):
        return f"its byte {error.start + 1:,} is no UTF-8; copy the model's folder again"
    if isinstance(error, FileNotFoundError):
        return "it is missing; give a whole folder, as diffusers saves one"
    return str((isinstance(error, OSError) and error.strerror) or error)


def read_index(folder: Path) -> Config:
    """What the folder says of its pipeline as a whole."""
    found = (folder / name for name in _INDEXES if (folder / name).exists())
    return read_object(next(found, folder / _INDEXES[0]))


def fact(config: Config, key: str, kind: Any) -> Any:
    """A value of a part's configuration, of this type, not zero or empty; else ValueError names the key."""
    value = config.get(key)
    if not isinstance(value, kind) or not value:
        raise ValueError(f"its configuration says {key}={value!r}")
    return value
