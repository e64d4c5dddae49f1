"""diffusers' first-block cache on one transformer, its states named by what they follow from.

Where the first block changes its input nearly as it did at the last step that was predicted in full, all
other blocks are taken to do so, too. The states that this needs are of one branch of one window: here they
are kept under a hash of latents, timestep, texts and adapters that made them, whichever shot these are of.
States that are not here are made again, from the anchor.
Decides: which states are kept, and how long. Does not decide: when blocks are left out (diffusers), or what
an anchor is (engine.anchors).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import FirstBlockCacheConfig
from diffusers.hooks import HookRegistry
from diffusers.hooks.first_block_cache import _FBC_LEADER_BLOCK_HOOK
from diffusers.hooks.hooks import CacheContext
from torch import Tensor

from engine.anchors import Anchor, Anchored
from engine.families.family import Conditioning, Family

KEPT_BYTES = 4 << 30  # of states on a rank; the oldest beyond go, and are made again when they are asked for


class FirstBlocks:
    """The cache of a family with one transformer, on it until `remove`."""

    def __init__(self, family: Family, threshold: float) -> None:
        self.family, self.threshold = family, threshold
        self.wanted: Sequence[str] = ()  # the states of each call to come, or one stem for all
        self.asked: list[str] = []
        transformer = family.transformer
        transformer.enable_cache(FirstBlockCacheConfig(threshold))
        self.manager = _manager(transformer)
        self.hook = transformer.register_forward_pre_hook(self._name_states)

    @property
    def states(self) -> dict[str, Any]:
        """diffusers' own, by name, the one that was used last at the end."""
        states: dict[str, Any] = self.manager._state_cache
        return states

    def remove(self) -> None:
        """Leave the transformer as it was found."""
        self.hook.remove()
        self.family.transformer.disable_cache()

    def predict(
        self,
        latents: Tensor,
        timestep: Tensor,
        prompt: Conditioning,
        negative: Conditioning,
        guidance_scale: float,
        anchors: Sequence[Anchor] = (),
        *,
        prompted: bool = False,
    ) -> Anchored:
        """As Family.predict of one window, going on from an anchor for each branch, if there are any.

        Raises ValueError in a gang of several ranks, each of which would decide by its own tokens.
        """
        if self.family.mesh is not None:
            raise ValueError("sampling.cache=first_block is for gangs of one rank: set cluster.* axes to 1")
        texts = (prompt, negative, guidance_scale)
        for branch, anchor in enumerate(anchors):
            name = self._named(anchor.latents, anchor.timestep, *texts)
            if f"{name}/{branch}" not in self.states:
                self._run(anchor.latents, anchor.timestep, *texts, prompted, name)
        names = [self._named(each.latents, each.timestep, *texts) for each in anchors]
        own = self._named(latents, timestep, *texts)
        if not anchors:  # all is to be in full, even where it was asked for before
            for name in [each for each in self.states if each.startswith(own)]:
                del self.states[name]
        answer = self._run(latents, timestep, *texts, prompted, own, names)
        self._let_go()
        return answer

    def _run(
        self,
        latents: Tensor,
        timestep: Tensor,
        prompt: Conditioning,
        negative: Conditioning,
        guidance_scale: float,
        prompted: bool,
        own: str,
        before: Sequence[str] = (),
    ) -> Anchored:
        """A prediction by the states of names before, which are its own where it was in full."""
        self.wanted, self.asked = before or (own,), []
        try:
            prediction = self.family.predict(
                latents, timestep, prompt, negative, guidance_scale, prompted=prompted
            )
        except BaseException:
            for name in self.asked:  # half of it may be of this step, half of the one before
                self.states.pop(name, None)
            raise
        full = (self._settle(name, f"{own}/{branch}") for branch, name in enumerate(self.asked))
        return Anchored(prediction, tuple(full))

    def _name_states(self, transformer: Any, args: Any) -> None:
        """Before a call of the transformer: the states that it goes by."""
        branch = len(self.asked)
        stem = self.wanted[branch] if len(self.wanted) > branch else self.wanted[0]
        self.asked.append(f"{stem}/{branch}")
        self.manager.set_context(CacheContext(self.asked[-1]))

    def _settle(self, name: str, own: str) -> bool:
        """Keep what a call left, under its own name where it was in full; whether it was."""
        state = self.states.pop(name)
        state.head_block_output = None  # of use within a call only
        full = bool(state.should_compute)
        self.states[own if full else name] = state
        return full

    def _let_go(self) -> None:
        """Drop the states that were not used for longest, where they are too many bytes."""
        held = {name: _bytes(state) for name, state in self.states.items()}
        for name in list(held):
            if sum(held.values()) <= KEPT_BYTES:
                return
            del self.states[name], held[name]

    def _named(
        self, latents: Tensor, timestep: Tensor, prompt: Conditioning, negative: Conditioning, scale: float
    ) -> str:
        """A name for all that states follow from, but the weights."""
        digest = hashlib.sha256(repr((self.family.adapted, scale)).encode())
        texts = [text[name] for text in (prompt, negative) for name in sorted(text)]
        for tensor in (latents, timestep, *texts):
            flat = tensor.detach().cpu().contiguous()
            digest.update(repr((tuple(flat.shape), flat.dtype)).encode())
            digest.update(flat.view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def first_blocks(family: Any, threshold: float) -> FirstBlocks | None:
    """The family's cache of this threshold, put on it where it has another or none; 0 takes it off."""
    cache: FirstBlocks | None = family.first_blocks
    if cache is not None and cache.threshold != threshold:
        cache.remove()
        cache = None
    if cache is None and threshold:
        cache = FirstBlocks(family, threshold)
    family.first_blocks = cache
    return cache


def _manager(transformer: Any) -> Any:
    """What holds the states of all hooks of the cache on a transformer."""
    for module in transformer.modules():
        registry = getattr(module, "_diffusers_hook", None)
        hook = registry.get_hook(_FBC_LEADER_BLOCK_HOOK) if isinstance(registry, HookRegistry) else None
        if hook is not None:
            return hook.state_manager
    raise ValueError(f"{type(transformer).__name__} has no first block that diffusers knows")


def _bytes(state: Any) -> int:
    kept = (state.head_block_residual, *(state.tail_block_residuals or ()))
    return sum(each.nbytes for each in kept if each is not None)
