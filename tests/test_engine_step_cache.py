"""Why no step cache is offered: diffusers' keeps its state in the transformer, and windows share one.

A step cache skips blocks where the first one's output has hardly changed since its last call. What it goes by
is no part of a request, so that a prediction depends on what this rank predicted before. A cache may be
offered once its state is kept by (shot, opening, part, branch) and travels with the request.
"""

from pathlib import Path

import torch
from diffusers import FirstBlockCacheConfig

from engine.families.loading import load_part

CHALK = Path(__file__).parent.parent / "engine" / "chalk" / "weights"


def family_with_cache(threshold):
    """A rank's chalk, with diffusers' cache on it as its users put it there; None is no cache."""
    family = load_part(CHALK, "transformer", "float32")
    if threshold is not None:
        family.transformer.enable_cache(FirstBlockCacheConfig(threshold=threshold))
    return family


def predict(family, film, timestep=500, name="cond_uncond"):
    """A window's prediction: films of one seed and kin texts. Pipelines name all calls so."""
    generator, config = torch.Generator().manual_seed(0), family.transformer.config
    latents = torch.randn((1, 3, config.in_channels, 16, 24), generator=generator)
    shape = (2, 1, config.max_text_seq_length, config.text_embed_dim)
    shared = torch.randn(shape, generator=generator)
    own = torch.randn(shape, generator=generator.manual_seed(film))
    prompt, negative = ({"tokens": text} for text in shared + 0.3 * own)
    with family.transformer.cache_context(name):
        return family.predict(latents, torch.tensor(timestep), prompt, negative, 3.0)


def test_a_naive_step_cache_gives_one_films_window_what_was_computed_for_another():
    alone, after_another = family_with_cache(0.5), family_with_cache(0.5)
    predict(after_another, film=1)  # another film's window, on the same rank
    want, got = predict(alone, film=2), predict(after_another, film=2)
    assert torch.equal(want, predict(family_with_cache(None), film=2))  # a first call computes in full
    assert (got - want).abs().max() > 0.1 * want.std()


def test_states_named_by_window_do_not_leak_on_one_rank_but_are_lost_on_the_way_to_another():
    alone, shared, moved = (family_with_cache(0.5) for _ in range(3))
    predict(shared, film=1, name="film 1")
    for timestep in (500, 450):
        stayed = predict(shared, film=2, timestep=timestep, name="film 2")
        assert torch.equal(stayed, predict(alone, film=2, timestep=timestep, name="film 2"))
    assert not torch.equal(stayed, predict(moved, film=2, timestep=450, name="film 2"))


def test_without_a_cache_what_a_rank_predicted_before_changes_no_bit():
    used = family_with_cache(None)
    predict(used, film=1)
    assert torch.equal(predict(used, film=2), predict(family_with_cache(None), film=2))
