"""Blocks that torch.compile made: what they predict, how often they are compiled, and what they need."""

import sysconfig
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from engine.families.compiled import NoCompiler, compile_blocks, need_compiler
from engine.families.loading import load_part
from engine.families.quantise import quantise
from tests.test_engine_parallel import CASES, WHOLE, Case, make_family
from tests.test_engine_parallel import predict as predict_case

LENGTHS = (3, 2)


@pytest.fixture(autouse=True)
def afresh():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def predict(family, length, step):
    generator, config = torch.Generator().manual_seed(7), family.transformer.config
    latents = torch.randn((1, length, config.in_channels, 8, 8), generator=generator)
    shape = (2, 1, config.max_text_seq_length, config.text_embed_dim)
    texts = [{"tokens": text} for text in torch.randn(shape, generator=generator)]
    return family.predict(latents, torch.tensor(step), *texts, 3.0)


def compilations():
    return counters["stats"]["unique_graphs"]


def test_compiled_blocks_predict_as_others_do_and_are_compiled_once_a_length():
    need_compiler()
    cases = [Case("Wan", n_frames=length, scale=1.0) for length in LENGTHS]
    plain, family = make_family(cases[0]), make_family(cases[0])
    compile_blocks(family)
    for case in (*cases, *cases):
        found, true = predict_case(family, case), predict_case(plain, case)
        torch.testing.assert_close(found, true, rtol=0, atol=1e-5)
        assert not torch.equal(found, true)  # or nothing was compiled
    assert compilations() == len(LENGTHS)


def test_blocks_in_8_bits_are_compiled_too_and_steps_of_many_shapes_each_once(tiny_folder: Path):
    plain, family = (load_part(tiny_folder, "transformer", "float32") for _ in range(2))
    for each in (plain, family):
        quantise(each, "int8", "cpu")
    compile_blocks(family, backend="eager")  # what torch finds to compile, run as it is
    lengths, first = range(1, 6), 2  # CogVideoX's first block gets its tensors in another order of dims
    for step in (999, 500, 1):
        assert all(torch.equal(predict(family, n, step), predict(plain, n, step)) for n in lengths)
        assert compilations() == first * len(lengths) > 8  # torch's own limit


@pytest.mark.parametrize("family", ["Wan 2.2", "Open-Sora 2", "SkyReels-V2, told"])
def test_blocks_of_several_kinds_and_of_two_experts_are_compiled_whole(family):
    case = next(case for case in CASES.values() if case.family == family)
    plain, compiled = make_family(case), make_family(case)
    compile_blocks(compiled, backend="eager")
    assert torch.equal(predict_case(compiled, case), predict_case(plain, case))
    assert compilations() and not counters["graph_break"]


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ValueError, match="not made of repeated blocks"):
        compile_blocks(make_family(next(case for case in CASES.values() if case.family == WHOLE)))


def test_a_machine_without_a_compiler_or_headers_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setenv("CXX", "true")  # a program that is everywhere
    with pytest.raises(NoCompiler, match=r"Python\.h is missing") as refused:
        need_compiler()
    assert refused.value.code == "E625_COMPILER" and "python3-dev" in refused.value.hint
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoCompiler, match=r"there is no g\+\+ in PATH"):
        need_compiler()
