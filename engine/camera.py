"""How a shot's camera moves: what can be asked for, and the words that a model is told it in. No torch.

Decides: the moves there are, and their words in English. Does not decide: which words a model was taught
(its family in `known`, its folder's world.json).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

MOVES = {  # what the camera does, in English
    "push in": "pushes in",
    "pull out": "pulls out",
    "zoom in": "zooms in",
    "zoom out": "zooms out",
    "pan left": "pans left",
    "pan right": "pans right",
    "tilt up": "tilts up",
    "tilt down": "tilts down",
    "track left": "tracks left",
    "track right": "tracks right",
    "crane up": "cranes up",
    "crane down": "cranes down",
    "orbit": "orbits the subject",
    "static": "stands still",
}
SPEEDS = {"slow": "slowly", "normal": "", "fast": "quickly"}
STATIC = "static"


@dataclass(frozen=True)
class Camera:
    """A move in a direction, one of MOVES, at one of SPEEDS."""

    direction: str
    speed: str = "normal"

    @property
    def text(self) -> str:
        """As it is asked for, in one spelling: a normal speed is not said."""
        return self.direction if self.speed == "normal" else f"{self.speed} {self.direction}"


@dataclass(frozen=True)
class Idiom:
    """The words of a model's own for some cameras, by their text; English for any other.

    `taught` says that it knows no others.
    """

    words: Mapping[str, str] = field(default_factory=dict)
    taught: bool = False

    def directed(self, prompt: str, camera: Camera) -> str:
        """The prompt with the camera's move behind it; its own words follow a comma, or are none at all."""
        prompt = prompt.strip()
        own = self.words.get(camera.text)
        if own is not None:
            return f"{prompt.rstrip(' .')}, {own}" if own else prompt
        said = " ".join(word for word in (SPEEDS[camera.speed], MOVES[camera.direction]) if word)
        stop = "" if prompt.endswith((".", "!", "?", "।")) else "."
        return f"{prompt}{stop} The camera {said}."


ENGLISH = Idiom()


def parse_camera(text: str) -> Camera:
    """The camera that a person wrote, such as "slow push in". Raises ValueError that lists what there is."""
    words = text.lower().replace("-", " ").replace("_", " ").split()
    speed = words[0] if words and words[0] in SPEEDS else "normal"
    direction = " ".join(words[1:] if words and words[0] in SPEEDS else words)
    if direction not in MOVES:
        raise ValueError(f"no camera {text!r}: there are {', '.join(MOVES)}, each may be {', '.join(SPEEDS)}")
    if direction == STATIC and speed != "normal":
        raise ValueError(f"no camera {text!r}: a static one has no speed")
    return Camera(direction, speed)
