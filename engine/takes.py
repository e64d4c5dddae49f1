"""What the shots of a model may be given beside a prompt, and what a canvas is made to begin with. No torch.

Decides: the names of both. Does not decide: how files become the one (engine.given) or the one becomes the
other (Family.give).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

# What a shot is given, as the manifest's columns have it, without their "_uri".
FIRST = "first_frame"  # a picture
LAST = "last_frame"  # a picture
CLIP = "extend"  # a clip whose end the shot goes on from
SOURCE = "source_video"  # a clip that is redrawn

# What a canvas of F latent frames is given, as tensors of these names; t of them, C' channels.
BEGINNING = "beginning"  # (1, t, C, H, W), at its first frames, free of noise
ENDING = "ending"  # (1, t, C, H, W), at its last frames, free of noise
WHOLE = "whole"  # (1, F, C, H, W), to be redrawn
BESIDE = "beside"  # (1, F, C', H, W), channels that a window's prediction sees beside its latents
STILL = 9  # frames for which a last picture is taken to have stood still; what ends a canvas is their end
CANVAS = (BEGINNING, ENDING, WHOLE, BESIDE)  # any other name is part of what every window's texts say


_WORDS = {FIRST: "image", LAST: "last", CLIP: "clip", SOURCE: "v2v"}


@dataclass(frozen=True)
class Takes:
    """What the shots of a model may be given, and must be.

    `together` says that all is encoded as one, at the length of the shot; `one_window` that the model knows
    it at a window's beginning only, so that a shot has to be one.
    """

    may: frozenset[str] = frozenset()
    must: frozenset[str] = frozenset()
    together: bool = False
    one_window: bool = False

    @property
    def draws_from(self) -> tuple[str, ...]:
        """What a shot may be drawn from, in words for people: a text alone, unless it must be given more."""
        text = () if self.must else ("text",)
        return (*text, *(word for role, word in _WORDS.items() if role in self.may))

    def taught(self, given_latents: int, ending: bool = False) -> Takes:
        """With what weights were taught beside their family: to go on from so many latents, to end so too.

        Only of a family that puts what is given on the canvas, and so has a clip redrawn.
        """
        if SOURCE not in self.may or not given_latents:
            return self
        return replace(self, may=self.may | {FIRST, CLIP} | ({LAST} if ending else set()))


NOTHING = Takes()
