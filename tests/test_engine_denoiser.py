"""Claims about what denoisers cost: the arithmetic agrees with what torch counts."""

from importlib import import_module

import diffusers
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from engine.families.denoiser import denoiser_of
from engine.families.known import FAMILIES
from engine.families.opensora_model import OpenSoraTransformer
from engine.families.published import TABLE, published

CHECKPOINTS = {checkpoint.name: checkpoint for checkpoint in TABLE}
TEXT = 64
SIZE = (5, 24, 16)  # latents: T, H, W


def built(name):
    """The published transformer; on the device meta there is no memory behind its weights."""
    config = dict(next(part for part in CHECKPOINTS[name].parts.values() if "_class_name" in part))
    kind = config.pop("_class_name")
    ours = OpenSoraTransformer if kind == "OpenSoraTransformer" else getattr(diffusers, kind)
    if kind == "UNetSpatioTemporalConditionModel":
        config = {"num_frames": config["num_frames"]}  # a configuration's lists are tuples to it
    return ours(**config)


@pytest.mark.parametrize("name", sorted(CHECKPOINTS))
def test_parameters_are_those_of_the_published_configuration(name):
    checkpoint = CHECKPOINTS[name]
    experts = 1 + ("transformer_2" in checkpoint.parts["pipeline"])
    with torch.device("meta"):
        counted = experts * sum(parameter.numel() for parameter in built(name).parameters())
    assert checkpoint.denoiser_b == pytest.approx(counted / 1e9, rel=0.01)


def inputs(name, channels):
    """What a forward takes; all of it is shapes only."""
    frames, height, width = SIZE
    clip_BCTHW = torch.empty(1, channels, *SIZE)
    mask = torch.ones(1, TEXT, dtype=torch.bool)
    every = {"encoder_hidden_states": torch.empty(1, TEXT, 4096), "timestep": torch.empty(1)}
    if name.startswith("CogVideoX"):
        rotary = (torch.empty(frames * height * width // 4, 64),) * 2
        return every | {"hidden_states": clip_BCTHW.transpose(1, 2), "image_rotary_emb": rotary}
    if name.startswith("Hunyuan"):
        told = {"pooled_projections": torch.empty(1, 768), "guidance": torch.empty(1)}
        return every | told | {"hidden_states": clip_BCTHW, "encoder_attention_mask": mask}
    if name.startswith("LTX"):
        packed_BLC = torch.empty(1, frames * height * width, channels)
        sides = {"num_frames": frames, "height": height, "width": width}
        return every | sides | {"hidden_states": packed_BLC, "encoder_attention_mask": mask.float()}
    if name.startswith("Open-Sora"):
        patched = torch.empty(1, channels // 4, *SIZE)
        return every | {"hidden_states": patched, "pooled_projections": torch.empty(1, 768)}
    assert name.startswith(("Wan", "SkyReels"))
    return every | {"hidden_states": clip_BCTHW}


COUNTED = (
    "CogVideoX-5B",
    "Wan2.1-1.3B",
    "HunyuanVideo",
    "Open-Sora-2",
    "LTX-Video-2B",
    "SkyReels-V2-DF-1.3B",
)  # Mochi's forward looks at its mask's values, which are not there


@pytest.mark.parametrize("name", COUNTED)
def test_operations_are_those_that_torch_counts_in_the_published_transformer(name):
    with torch.device("meta"), torch.no_grad():
        model = built(name)
        with FlopCounterMode(display=False) as counter:
            model(**inputs(name, model.config.in_channels))
    denoiser = denoiser_of(dict(CHECKPOINTS[name].parts["transformer"]))
    operations = sum(denoiser.operations(denoiser.tokens(*SIZE), TEXT))
    assert operations == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_operations_of_the_unet_are_those_that_torch_counts():
    with FakeTensorMode(), torch.no_grad():
        model = diffusers.UNetSpatioTemporalConditionModel(num_frames=25)
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 25, 8, 40, 64), torch.zeros(1), torch.empty(1, 1, 1024), torch.empty(1, 3))
    denoiser = denoiser_of(dict(CHECKPOINTS["SVD-XT"].parts["unet"]))
    operations = sum(denoiser.operations(denoiser.tokens(25, 40, 64), 0))
    assert operations == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert not denoiser.shared


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_known_family_has_a_checkpoint_and_a_cost(family):
    checkpoints = [checkpoint for checkpoint in TABLE if checkpoint.family == family]
    assert checkpoints, f"{family} has no entry in engine/families/published.py"
    for checkpoint in checkpoints:
        assert denoiser_of(dict(checkpoint.denoiser)).n_blocks > 0


def test_checkpoints_of_known_families_are_read_unless_their_family_refuses_them():
    for checkpoint in TABLE:
        if checkpoint.family in FAMILIES and checkpoint.name not in published():
            with pytest.raises(ValueError):
                FAMILIES[checkpoint.family].refuse(checkpoint.parts)


@pytest.mark.parametrize("name", sorted(published()))
def test_both_branches_of_guidance_are_one_batch_where_the_family_predicts_them_so(name):
    checkpoint = CHECKPOINTS[name]
    module, _, kind = FAMILIES[checkpoint.family].loader.partition(":")
    family = getattr(import_module(module), kind)
    assert denoiser_of(dict(checkpoint.denoiser)).one_batch == family.one_batch


def test_a_denoiser_of_unknown_cost_is_refused_by_its_name():
    with pytest.raises(ValueError, match="what a FluxTransformer2DModel costs is not known"):
        denoiser_of({"_class_name": "FluxTransformer2DModel"})


def test_licences_that_restrict_are_not_called_open_source():
    assert CHECKPOINTS["Wan2.1-14B"].is_open_source
    assert not any(CHECKPOINTS[name].is_open_source for name in ("CogVideoX-5B", "HunyuanVideo", "SVD-XT"))
