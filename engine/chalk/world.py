"""What chalk was taught, as its folder tells it to whoever plans films: the file world.json.

Decides how the world is told to people, in phrases of its own captions, and which words ask for nothing. Does
not decide what there is (`scenes`), what it is called (`words`), or what a prompt outside of it means.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from engine.camera import STATIC
from engine.chalk import words
from engine.chalk.captions import vocabulary
from engine.chalk.scenes import (
    CAMERAS,
    CLOUD_MOTIONS,
    COLOURS,
    FORM_MOTIONS,
    FORMS,
    KINDS,
    LANDS,
    LIGHTS,
    MOTIONS,
)
from engine.families.world import WORLD, words_of

NOTE = (
    "chalk knows simple drawn lessons only, in words of English, Hindi and Tamil; any other prompt shows "
    "something of these."
)
# Of films: the model draws at a quarter of their size.
CARD = {"n_steps": 20, "guidance_scale": 3.0, "width_px": 384, "height_px": 256, "fps_num": 8, "upscale": 4}
# Words beside those of the captions that ask for nothing to be drawn. Not "no" or "behind": they do, in vain.
IGNORED = (
    "an are be been but for has have he her his i its my on onto or our s she so some that their them then "
    "there these they this those was we were when where which who will you your",
    "यह वह ये वे एक का की के को में से पर और या है हैं था थी थे हो रहा रही रहे होता होती होते भी तो ही जो",
    "ஒரு இந்த அந்த இது அது இவை அவை மற்றும் அல்லது",
)


def write_world(folder: Path) -> None:
    """Write world.json into a model folder."""
    text = json.dumps(world(), ensure_ascii=False, indent=1)
    (folder / WORLD).write_text(f"{text}\n", encoding="utf-8")


def world() -> dict[str, Any]:
    """What `engine.families.world.read_world` and `engine.families.card.told_card` read."""
    return {
        "name": "chalk",
        "note": NOTE,
        "given_latents": 3,  # train_transformer draws 1 to 3
        "card": CARD,
        "camera": cameras(),
        "draws": [f"{title}: {', '.join(phrases)}" for title, phrases in draws().items()],
        "changes": changes(),
        "words": sorted({word for text in vocabulary() for word in words_of(text)}),
        "ignored": [word for line in IGNORED for word in line.split()],
    }


def cameras() -> dict[str, str]:
    """Its words for cameras; of a static one none. "Slow" it was taught as a word, not as a speed."""
    taught = {
        "pan left": words.CAMERA["left"]["en"][0],
        "pan right": words.CAMERA["right"]["en"][0],
        "zoom in": words.CAMERA["in"]["en"][0],
        "zoom out": words.CAMERA["out"]["en"][0],
        "slow zoom in": words.CAMERA["in"]["en"][1],
        "slow zoom out": words.CAMERA["out"]["en"][1],
    }
    pushed = {"zoom in": "push in", "zoom out": "pull out"}  # it draws both alike
    alike = {
        text.replace(z, p): said for text, said in taught.items() for z, p in pushed.items() if z in text
    }
    return taught | alike | {STATIC: ""}


def draws() -> dict[str, list[str]]:
    """All that a scene may hold, by title: each in the first English phrase that captions have for it."""
    vapour = [land for land in LANDS if land in words.VAPOUR]
    figures = [kind for kind in KINDS if kind not in (*FORMS, "moon")]
    return {
        "sun, moon and stars": _first(words.LIGHT, LIGHTS),
        f"clouds ({', '.join(words.CLOUD_COLOUR)})": _first(words.CLOUD, CLOUD_MOTIONS),
        "rain": _first(words.RAIN, ["still"], "grey"),
        "vapour": _first(words.VAPOUR, vapour),
        "land": _first(words.LAND, LANDS),
        "camera over land": _first(words.CAMERA, CAMERAS),
        f"shapes ({', '.join(FORMS)})": _first(words.FORM_MOTION, FORM_MOTIONS, FORMS[0]),
        "figures": _first(words.FIGURE, figures),
        "their colours": list(COLOURS),
        "phases": _first(words.MOON, MOTIONS["moon"]),
        "time": [_filled(table["en"][0]) for table in (words.DAY, words.NIGHT)],
    }


def changes() -> list[str]:
    """Its phrases of what changes as it goes on, in all languages. What comes round, or travels, does not."""
    tables = [words.LIGHT["rising"], words.LIGHT["setting"], words.CLOUD["appear"], words.ANY_PLANT]
    tables += [words.FIGURE["plant"], *words.MOON.values(), *words.CAMERA.values()]
    said = {_filled(phrase) for table in tables for phrases in table.values() for phrase in phrases}
    for motion, form in itertools.product(("grow", "shrink", "appear", "fade"), FORMS):
        table = words.FORM_MOTION[motion]
        said |= {_filled(phrase, words.FORM[form][lang]) for lang in table for phrase in table[lang]}
    return sorted(phrase.removeprefix("a ") for phrase in said)  # "an orange circle" grows too


def _first(table: Mapping[str, words.Phrases], things: Iterable[str], filling: str = "") -> list[str]:
    """A phrase for each thing; an empty name is none."""
    return [_filled(table[thing]["en"][0], filling) for thing in things if thing]


def _filled(phrase: str, filling: str = "") -> str:
    """A phrase with its gap filled, or closed."""
    return " ".join(phrase.format(filling).split())
