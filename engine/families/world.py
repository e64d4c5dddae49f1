"""What a model was taught, by the world.json of its folder: which words of a prompt lie outside. No torch.

Decides: which words a model knows. Does not decide: what is said to people about the others (`jobs.world`).
"""

import re
import string
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.families.reading import fact, read_object

WORLD = "world.json"


@dataclass(frozen=True)
class World:
    """What a model was taught, in its folder's own words: `draws` and `note` are for people.

    `words` are all that its training captions held, `ignored` those that ask for nothing, such as "are".
    `given_latents` is how many first latent frames it was taught to go on from, at most: 1 is of a picture,
    more are of a clip. `changes` are phrases of shots that are meant to change, beside engine.changes' own.
    """

    name: str
    note: str
    words: frozenset[str]
    ignored: frozenset[str]
    draws: tuple[str, ...]
    given_latents: int = 0
    changes: tuple[str, ...] = ()

    def unknown(self, prompt: str) -> tuple[str, ...]:
        """The words of a prompt that the model was not taught, each once, in their order."""
        found = (word for word in words_of(prompt) if word not in self.words and word not in self.ignored)
        return tuple(dict.fromkeys(found))

    def kin(self, word: str) -> str | None:
        """Another form of an English word that the model was taught, as "hills" for "hill"; the shortest."""
        forms = (known for known in self.words if stem(known) == stem(word))
        return min(forms, key=lambda known: (len(known), known), default=None)


def words_of(text: str) -> list[str]:
    """A text's words as tokenizers cut them: NFKC, lower case, apart at white space and punctuation."""
    flat = unicodedata.normalize("NFKC", text).lower()
    return "".join(" " if _is_punctuation(char) else char for char in flat).split()


def _is_punctuation(char: str) -> bool:
    return char in string.punctuation or unicodedata.category(char)[0] == "P"


def stem(word: str) -> str:
    """What forms of an English word share: rise, rises and rising; sets and setting."""
    return re.sub(r"(.)\1$", r"\1", re.sub(r"(?<=\w{3})(?:ing|ed|es|s|e)$", "", word))


def read_world(folder: Path) -> World | None:
    """What a folder's world.json says; None without one. Raises ValueError that names what is wrong in it."""
    path = folder / WORLD
    if not path.exists():
        return None
    try:
        content = read_object(path)
        return World(
            name=fact(content, "name", str),
            note=fact(content, "note", str),
            words=_words(_texts(content, "words")),
            ignored=_words(_texts(content, "ignored") if "ignored" in content else ()),
            draws=tuple(_texts(content, "draws")),
            given_latents=fact(content, "given_latents", int) if "given_latents" in content else 0,
            changes=tuple(_texts(content, "changes") if "changes" in content else ()),
        )
    except ValueError as error:
        raise ValueError(f"{error}; mend {path} or remove it: nothing is rendered from it") from error


def _words(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(word for text in texts for word in words_of(text))


def _texts(config: dict[str, Any], key: str) -> list[str]:
    """A list of texts that is not empty."""
    texts: list[str] = fact(config, key, list)
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(f"its {key} holds {text!r}, which is no text")
    return texts
