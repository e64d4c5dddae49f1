"""What the shots of a model may be given beside a prompt, and what a canvas is made to begin with. No torch.

Decides: the names of both. Does not decide: how files become the one (engine.given) or the one becomes the
other (Family.give).
"""

from dataclasses import dataclass

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


NOTHING = Takes()
