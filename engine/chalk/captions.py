"""What a scene is called, in English, Hindi and Tamil, each in several phrasings.

Decides how words are joined: a caption names everything in the scene that moves or that another prompt could
have asked for otherwise. Does not decide the words (`words`) or what is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from engine.chalk import words
from engine.chalk.scenes import FORMS, Figure, Landscape, Scene

LANGUAGES = ("en", "hi", "ta")


def caption(scene: Scene, language: str, rng: np.random.Generator, *, whole: bool = False) -> str:
    """One phrasing of the scene in "en", "hi" or "ta"; its words are all in vocabulary().

    A whole one names every colour, where others sometimes leave that of a plant's flower open.
    """
    if isinstance(scene, Figure):
        return _figure(scene, language, rng, whole).replace("a orange", "an orange")
    return _landscape(scene, language, rng)


def seeded_caption(scene: Scene, language: str, seed: int, *, whole: bool = False) -> str:
    """The phrasing that this seed gives in this language."""
    return caption(scene, language, np.random.default_rng((seed, LANGUAGES.index(language))), whole=whole)


def vocabulary() -> list[str]:
    """Every word that a caption may hold, sorted."""
    tables = (value for name, value in vars(words).items() if name.isupper())
    phrases = (phrase for table in tables for phrase in _leaves(table))
    spoken = {word.strip(",") for text in phrases for word in text.replace("{}", " ").split()}
    return sorted((spoken | {"an"}) - {""})


def _leaves(table: Any) -> Iterator[str]:
    """The phrases of a table, however deep it is."""
    if isinstance(table, str):
        yield table
    elif isinstance(table, dict):
        for value in table.values():
            yield from _leaves(value)
    elif isinstance(table, Iterable):
        for value in table:
            yield from _leaves(value)


def _figure(figure: Figure, language: str, rng: np.random.Generator, whole: bool) -> str:
    """What a figure does, and sometimes whether by day; night is always said, save in space."""
    if figure.kind == "moon":
        text = _pick(rng, words.MOON[figure.motion][language])
    elif figure.kind == "plant" and rng.random() < 0.15 and not whole:
        text = _pick(rng, words.ANY_PLANT[language])
    else:
        gender = words.GENDER.get(figure.kind, words.MASCULINE)
        colour = words.COLOUR[figure.colour][language][gender]
        if figure.kind in FORMS:
            thing = f"{colour} {words.FORM[figure.kind][language]}"
            text = _pick(rng, words.FORM_MOTION[figure.motion][language]).format(thing)
        else:
            text = _pick(rng, words.FIGURE[figure.kind][language]).format(colour)
    if figure.night and figure.kind not in ("planet", "moon"):
        return _pick(rng, words.NIGHT[language]).format(text)
    return _pick(rng, words.DAY[language]).format(text) if not figure.night and rng.random() < 0.2 else text


def _landscape(scene: Landscape, language: str, rng: np.random.Generator) -> str:
    clauses = _clauses(scene, language, rng)
    joined = clauses[0]
    for clause in clauses[1:]:
        joined += _pick(rng, words.AND[language]) + clause
    if not _names_land(scene, language, joined):
        over = _pick(rng, words.OVER[scene.land][language])
        joined = f"{joined} {over}" if language == "en" else f"{over} {joined}"
    if scene.camera:
        return f"{joined}, {_pick(rng, words.CAMERA[scene.camera][language])}"
    if language == "en" and rng.random() < 0.08:
        return f"{joined}, {_pick(rng, words.FILLERS)}"
    return joined


def _clauses(scene: Landscape, language: str, rng: np.random.Generator) -> list[str]:
    """What happens in the scene, in any order; the land alone if nothing does."""
    clauses = []
    if scene.light:
        clauses.append(_pick(rng, words.LIGHT[scene.light][language]))
    if scene.cloud:
        table = words.RAIN if scene.weather == "rain" else words.CLOUD
        colour = _pick(rng, words.CLOUD_COLOUR[scene.cloud][language])
        clauses.append(_pick(rng, table[scene.cloud_motion][language]).format(colour))
    if scene.weather == "vapour":
        clauses.append(_pick(rng, words.VAPOUR[scene.land][language]))
    if not clauses or rng.random() < 0.15:
        clauses.append(_pick(rng, words.LAND[scene.land][language]))
    return [clauses[i] for i in rng.permutation(len(clauses))]


def _names_land(scene: Landscape, language: str, text: str) -> bool:
    return scene.weather == "vapour" or any(phrase in text for phrase in words.LAND[scene.land][language])


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]
