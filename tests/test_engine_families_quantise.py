"""Weights in 8 bits: how many bytes they really are, what they predict, and where they are refused."""

from pathlib import Path

import pytest
import torch
from torch.nn import Linear
from torchao.utils import TorchAOBaseTensor

from cluster.cost import weights_bytes
from engine.chalk.model import WEIGHTS
from engine.families.loading import load_part
from engine.families.parameters import denoising, linear_layers, read_weights
from engine.families.quantise import NoFloat8, quantise, quantise_layers
from tests.test_engine_parallel import CASES, make_family
from tests.test_engine_parallel import predict as predict_case
from tests.weigh import held_bytes

FAMILIES = {case.family: case for case in CASES.values() if case.dtype == torch.float32 and not case.quantise}


def predict(family, dtype=torch.float32):
    generator, config = torch.Generator().manual_seed(7), family.transformer.config
    latents = torch.randn((1, 5, config.in_channels, 16, 24), generator=generator).to(dtype)
    shape = (2, 1, config.max_text_seq_length, config.text_embed_dim)
    texts = [{"tokens": text} for text in torch.randn(shape, generator=generator).to(dtype)]
    return family.predict(latents, torch.tensor(500), *texts, 3.0).float()


def error(found, true):
    """Root mean square of what is off, as a share of what should be."""
    return float(torch.linalg.norm((found - true).double()) / torch.linalg.norm(true.double()))


@pytest.fixture(scope="module")
def chalk():
    return load_part(WEIGHTS, "transformer", "float32")


def test_chalk_in_int8_is_a_third_of_the_bytes_and_off_by_no_more_than_in_bfloat16(chalk):
    family = load_part(WEIGHTS, "transformer", "float32")
    quantise(family, "int8", "cpu")
    true, halved = predict(chalk), load_part(WEIGHTS, "transformer", "bfloat16")
    assert 0.005 < error(predict(family), true) < 0.02
    assert error(predict(family), true) < 1.25 * error(predict(halved, torch.bfloat16), true)
    before, after = (
        held_bytes([*f.transformer.parameters(), *f.transformer.buffers()]) for f in (chalk, family)
    )
    assert after <= 0.3 * before
    assert family.device == torch.device("cpu") and family.transformer.dtype == torch.float32


@pytest.mark.parametrize(
    ("dtype", "how"), [("float32", "int8"), ("bfloat16", "int8"), ("bfloat16", "float8")]
)
def test_a_plan_foretells_the_bytes_of_quantised_weights(tiny_folder: Path, dtype, how):
    for folder in (tiny_folder, WEIGHTS):
        family = load_part(folder, "transformer", dtype)
        parts = read_weights(folder)
        told = weights_bytes(denoising(parts), dtype, "", *linear_layers(parts))
        assert told == held_bytes(family.transformer.parameters())
        if (
            how == "int8" or folder == WEIGHTS
        ):  # float8 leaves layers alone whose sides are no multiples of 16
            in_float8_anywhere(family, how)
            told = weights_bytes(denoising(parts), dtype, how, *linear_layers(parts))
            assert told == held_bytes(family.transformer.parameters())


def in_float8_anywhere(family, how):
    """Quantise a family on the CPU, which multiplies float8 slowly, and which torchao refuses therefore."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchao.quantization.quant_api._check_hardware_support", lambda granularity: None)
        quantise_layers(family.transformer, how, "cpu")


def test_chalk_in_float8_is_off_by_six_times_as_much(chalk):
    family = load_part(WEIGHTS, "transformer", "bfloat16")
    in_float8_anywhere(family, "float8")
    assert 0.04 < error(predict(family, torch.bfloat16), predict(chalk)) < 0.12


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_predicts_nearly_the_same_in_int8(name):
    case = FAMILIES[name]
    family = make_family(case)
    true = predict_case(family, case)
    quantise(family, "int8", "cpu")
    layers = [m for each in family.transformers for m in each.modules() if isinstance(m, Linear)]
    assert sum(isinstance(layer.weight, TorchAOBaseTensor) for layer in layers) >= 0.7 * len(layers)
    assert 1e-5 < error(predict_case(family, case), true) < 0.03


def test_layers_that_must_stay_in_float32_are_left_alone():
    family = make_family(FAMILIES["Wan"])
    quantise(family, "int8", "cpu")
    left = {
        name
        for name, module in family.transformer.named_modules()
        if isinstance(module, Linear) and not isinstance(module.weight, TorchAOBaseTensor)
    }
    assert left and all("time_embedder" in name for name in left)


def test_float8_is_refused_where_nothing_multiplies_it_and_other_bits_everywhere(tiny_folder: Path):
    family = load_part(tiny_folder, "transformer", "bfloat16")
    with pytest.raises(NoFloat8, match="this worker has cpu") as refused:
        quantise(family, "float8", "cpu")
    assert refused.value.code == "E624_FLOAT8" and "quantise=int8" in refused.value.hint
    with pytest.raises(ValueError, match="'int4': there are int8, float8"):
        quantise(family, "int4", "cpu")
