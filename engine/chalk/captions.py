"""What a scene is called, in English, Hindi and Tamil, each in several phrasings.

Decides the words. Does not decide what is drawn: a caption names everything in the scene that moves or that
another prompt could have asked for otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from engine.chalk.scenes import Scene

LANGUAGES = ("en", "hi", "ta")
_Phrases = dict[str, tuple[str, ...]]  # language to phrasings

_LIGHT: dict[str, _Phrases] = {
    "shining": {
        "en": ("the sun shines", "a bright sun shines", "the sun is shining", "a warm yellow sun in the sky"),
        "hi": ("सूरज चमकता है", "तेज सूरज चमक रहा है"),
        "ta": ("சூரியன் பிரகாசிக்கிறது", "சூரியன் ஒளிர்கிறது"),
    },
    "rising": {
        "en": ("the sun rises", "the morning sun rises", "sunrise", "the sun is rising"),
        "hi": ("सूरज उगता है", "सुबह का सूरज उग रहा है"),
        "ta": ("சூரியன் உதிக்கிறது", "காலையில் சூரியன் எழுகிறது"),
    },
    "setting": {
        "en": ("the sun sets", "the evening sun goes down", "sunset", "the sun is setting"),
        "hi": ("सूरज डूबता है", "शाम का सूरज डूब रहा है"),
        "ta": ("சூரியன் மறைகிறது", "மாலையில் சூரியன் அஸ்தமிக்கிறது"),
    },
    "moon": {
        "en": ("the moon and stars shine at night", "a night sky with moon and stars", "a moon at night"),
        "hi": ("रात में चाँद और तारे चमकते हैं", "रात का आकाश"),
        "ta": ("இரவில் நிலவும் நட்சத்திரங்களும் ஒளிர்கின்றன", "இரவு வானம்"),
    },
}
_CLOUD_COLOUR: dict[str, _Phrases] = {
    "white": {"en": ("white", "fluffy white", "light"), "hi": ("सफेद",), "ta": ("வெள்ளை",)},
    "grey": {"en": ("grey", "dark grey", "gray", "dark"), "hi": ("काले",), "ta": ("கரு",)},
}
_CLOUD: dict[str, _Phrases] = {
    "left": {
        "en": ("{} clouds drift left", "{} clouds move to the left", "{} clouds float left"),
        "hi": ("{} बादल बाईं ओर चलते हैं",),
        "ta": ("{} மேகங்கள் இடப்புறம் நகர்கின்றன",),
    },
    "right": {
        "en": ("{} clouds drift right", "{} clouds move to the right", "{} clouds float right"),
        "hi": ("{} बादल दाईं ओर चलते हैं",),
        "ta": ("{} மேகங்கள் வலப்புறம் நகர்கின்றன",),
    },
    "appear": {
        "en": (
            "{} clouds form",
            "{} clouds appear",
            "{} clouds gather",
            "water vapour condenses into {} clouds",
        ),
        "hi": ("{} बादल बनते हैं",),
        "ta": ("{} மேகங்கள் உருவாகின்றன",),
    },
    "still": {
        "en": ("{} clouds in the sky", "{} clouds hang in the sky"),
        "hi": ("आकाश में {} बादल हैं",),
        "ta": ("வானில் {} மேகங்கள் உள்ளன",),
    },
}
_RAIN: dict[str, _Phrases] = {
    "left": {
        "en": ("rain falls from {} clouds drifting left",),
        "hi": ("बाईं ओर चलते {} बादलों से बारिश होती है",),
        "ta": ("இடப்புறம் நகரும் {} மேகங்களிலிருந்து மழை பெய்கிறது",),
    },
    "right": {
        "en": ("rain falls from {} clouds drifting right",),
        "hi": ("दाईं ओर चलते {} बादलों से बारिश होती है",),
        "ta": ("வலப்புறம் நகரும் {} மேகங்களிலிருந்து மழை பெய்கிறது",),
    },
    "still": {
        "en": (
            "rain falls from {} clouds",
            "rain falls from a {} cloud",
            "rain falls",
            "it rains",
            "raindrops fall",
        ),
        "hi": ("{} बादलों से बारिश होती है", "बारिश हो रही है"),
        "ta": ("{} மேகங்களிலிருந்து மழை பெய்கிறது", "மழை பெய்கிறது"),
    },
}
_VAPOUR: dict[str, _Phrases] = {
    "sea": {
        "en": (
            "water vapour rises from the sea",
            "vapor rises from the ocean",
            "water evaporates from the sea",
            "warm vapour rises from the waves",
            "steam rises from the sea",
        ),
        "hi": ("समुद्र से भाप उठती है", "समुद्र का पानी भाप बनता है"),
        "ta": ("கடலிலிருந்து நீராவி எழுகிறது",),
    },
    "river": {
        "en": (
            "water vapour rises from the river",
            "vapor rises from the river",
            "water evaporates from the river",
        ),
        "hi": ("नदी से भाप उठती है",),
        "ta": ("ஆற்றிலிருந்து நீராவி எழுகிறது",),
    },
}
_OVER: dict[str, _Phrases] = {
    "sea": {
        "en": ("over the blue sea", "over the sea", "above the ocean", "over blue waves", "over the waves"),
        "hi": ("नीले समुद्र के ऊपर",),
        "ta": ("நீலக் கடலின் மேல்",),
    },
    "hills": {
        "en": ("over green hills", "above the hills", "over the green fields"),
        "hi": ("हरी पहाड़ियों के ऊपर",),
        "ta": ("பச்சைக் குன்றுகளின் மேல்",),
    },
    "mountains": {
        "en": (
            "over snowy mountains",
            "over the mountains",
            "above mountains with snow",
            "over high mountain peaks",
        ),
        "hi": ("बर्फीले पहाड़ों के ऊपर",),
        "ta": ("பனி மலைகளின் மேல்",),
    },
    "river": {
        "en": ("over a river", "above a flowing river", "over the river in the green valley"),
        "hi": ("बहती नदी के ऊपर",),
        "ta": ("ஓடும் ஆற்றின் மேல்",),
    },
}
_LAND: dict[str, _Phrases] = {
    "sea": {
        "en": ("waves roll on the blue sea", "the blue sea", "the ocean with gentle waves"),
        "hi": ("नीले समुद्र में लहरें उठती हैं",),
        "ta": ("நீலக் கடலில் அலைகள்",),
    },
    "hills": {
        "en": ("green hills", "green hills under the sky"),
        "hi": ("हरी पहाड़ियाँ",),
        "ta": ("பச்சைக் குன்றுகள்",),
    },
    "mountains": {
        "en": ("snowy mountains", "mountains with snow", "high mountain peaks with snow"),
        "hi": ("बर्फीले पहाड़",),
        "ta": ("பனி மலைகள்",),
    },
    "river": {
        "en": (
            "a river flows through green hills",
            "a river flows through the valley to the sea",
            "water flows down the river",
        ),
        "hi": ("हरी पहाड़ियों के बीच नदी बहती है",),
        "ta": ("பச்சைக் குன்றுகளுக்கு இடையே ஆறு ஓடுகிறது",),
    },
}
_PLANT: _Phrases = {
    "en": (
        "a plant grows",
        "a green plant grows from the soil",
        "a seedling grows into a flower",
        "a flower grows",
    ),
    "hi": ("मिट्टी में पौधा बढ़ता है", "फूल का पौधा बढ़ता है"),
    "ta": ("மண்ணில் செடி வளர்கிறது", "பூச்செடி வளர்கிறது"),
}
_AND: _Phrases = {"en": (" and ", " while ", " as ", ", "), "hi": (" और ", ", "), "ta": (" மற்றும் ", ", ")}
_FORM: dict[str, dict[str, str]] = {
    "circle": {"en": "circle", "hi": "गोला", "ta": "வட்டம்"},
    "square": {"en": "square", "hi": "वर्ग", "ta": "சதுரம்"},
    "triangle": {"en": "triangle", "hi": "त्रिभुज", "ta": "முக்கோணம்"},
}
_COLOUR: dict[str, dict[str, str]] = {
    "red": {"en": "red", "hi": "लाल", "ta": "சிவப்பு"},
    "orange": {"en": "orange", "hi": "नारंगी", "ta": "ஆரஞ்சு"},
    "yellow": {"en": "yellow", "hi": "पीला", "ta": "மஞ்சள்"},
    "green": {"en": "green", "hi": "हरा", "ta": "பச்சை"},
    "blue": {"en": "blue", "hi": "नीला", "ta": "நீல"},
    "purple": {"en": "purple", "hi": "बैंगनी", "ta": "ஊதா"},
}
_SHAPE_MOTION: dict[str, _Phrases] = {
    "left": {
        "en": ("a {} moves left", "a {} moves to the left"),
        "hi": ("{} बाईं ओर चलता है",),
        "ta": ("{} இடப்புறம் நகர்கிறது",),
    },
    "right": {
        "en": ("a {} moves right", "a {} moves to the right"),
        "hi": ("{} दाईं ओर चलता है",),
        "ta": ("{} வலப்புறம் நகர்கிறது",),
    },
    "up": {"en": ("a {} moves up", "a {} rises"), "hi": ("{} ऊपर जाता है",), "ta": ("{} மேலே செல்கிறது",)},
    "down": {"en": ("a {} moves down", "a {} falls"), "hi": ("{} नीचे जाता है",), "ta": ("{} கீழே செல்கிறது",)},
    "grow": {"en": ("a {} grows", "a growing {}"), "hi": ("{} बढ़ता है",), "ta": ("{} வளர்கிறது",)},
    "shrink": {"en": ("a {} shrinks", "a shrinking {}"), "hi": ("{} सिकुड़ता है",), "ta": ("{} சுருங்குகிறது",)},
}
_FILLERS = ("a lesson about the water cycle", "an animated picture of", "in soft colours", "a calm wide view")


def caption(scene: Scene, language: str, rng: np.random.Generator) -> str:
    """One phrasing of the scene in "en", "hi" or "ta"; its words are all in vocabulary()."""
    if scene.shape:
        form, colour = _FORM[scene.shape.form][language], _COLOUR[scene.shape.colour][language]
        return _pick(rng, _SHAPE_MOTION[scene.shape.motion][language]).format(f"{colour} {form}")
    clauses = _clauses(scene, language, rng)
    joined = clauses[0]
    for clause in clauses[1:]:
        joined += _pick(rng, _AND[language]) + clause
    if not _names_land(scene, language, joined):
        over = _pick(rng, _OVER[scene.land][language])
        joined = f"{joined} {over}" if language == "en" else f"{over} {joined}"
    if language == "en" and rng.random() < 0.12:
        joined = f"{joined}, {_pick(rng, _FILLERS)}"
    return joined


def vocabulary() -> list[str]:
    """Every word that a caption may hold, sorted."""
    words: set[str] = set()
    for table in (_LIGHT, _CLOUD_COLOUR, _CLOUD, _RAIN, _VAPOUR, _OVER, _LAND, _SHAPE_MOTION):
        for phrases in table.values():
            words |= _words(phrase for options in phrases.values() for phrase in options)
    for names in (_FORM, _COLOUR):
        words |= _words(name for by_language in names.values() for name in by_language.values())
    for phrases in (_PLANT, _AND):
        words |= _words(phrase for options in phrases.values() for phrase in options)
    return sorted(words | _words(_FILLERS))


def _clauses(scene: Scene, language: str, rng: np.random.Generator) -> list[str]:
    """What happens in the scene, in any order; the land alone if nothing does."""
    clauses = []
    if scene.light:
        clauses.append(_pick(rng, _LIGHT[scene.light][language]))
    if scene.cloud:
        table = _RAIN if scene.weather == "rain" else _CLOUD
        colour = _pick(rng, _CLOUD_COLOUR[scene.cloud][language])
        clauses.append(_pick(rng, table[scene.cloud_motion][language]).format(colour))
    if scene.weather == "vapour":
        clauses.append(_pick(rng, _VAPOUR[scene.land][language]))
    if scene.plant:
        clauses.append(_pick(rng, _PLANT[language]))
    if not clauses or (not scene.plant and rng.random() < 0.15):
        clauses.append(_pick(rng, _LAND[scene.land][language]))
    return [clauses[i] for i in rng.permutation(len(clauses))]


def _names_land(scene: Scene, language: str, text: str) -> bool:
    named = scene.plant or scene.weather == "vapour"
    return named or any(phrase in text for phrase in _LAND[scene.land][language])


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _words(phrases: Iterable[str]) -> set[str]:
    return {word.strip(",") for phrase in phrases for word in phrase.replace("{}", " ").split()} - {""}
