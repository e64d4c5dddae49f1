"""Claims about tensors as bytes for a store and as arrays for the wire."""

import json
import math
import pickle

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from engine.canvas import Canvas
from engine.tensors import from_bytes, pack, to_bytes, unpack
from engine.windows import blend_weights, plan_windows

DTYPES = [
    torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int8, torch.uint8, torch.int16,
    torch.int32, torch.int64, torch.bool,
]  # fmt: skip
SCHEDULERS = [
    DDIMScheduler, CogVideoXDDIMScheduler, CogVideoXDPMScheduler, UniPCMultistepScheduler,
    DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler,
]  # fmt: skip


@st.composite
def tensors(draw):
    """Any bits, NaN payloads among them, in any shape: () and empty ones too."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=4))
    n_bytes = math.prod(shape) * dtype.itemsize
    byte = st.integers(0, 1 if dtype == torch.bool else 255)
    bits = torch.tensor(draw(st.lists(byte, min_size=n_bytes, max_size=n_bytes)), dtype=torch.uint8)
    return bits.view(dtype).reshape(shape)


numbers = st.none() | st.booleans() | st.integers() | st.floats()
values = st.recursive(
    numbers | st.text() | tensors(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
states = st.dictionaries(st.text(), values, max_size=5)


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist() if tensor.numel() else []


def same(a, b):
    """Equal in type, structure and every bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


@settings(deadline=None)
@given(states)
def test_a_state_comes_back_from_bytes_as_it_was(state):
    assert same(from_bytes(to_bytes(state)), state)


@settings(deadline=None)
@given(tensors())
def test_a_packed_tensor_comes_back_with_every_bit(tensor):
    assert same(unpack(pack(tensor)), tensor)


def test_views_and_transposed_tensors_come_back_as_their_values():
    whole = torch.arange(24.0).reshape(4, 6)
    state = {"whole": whole, "again": whole, "row": whole[1], "turned": whole.T, "every other": whole[:, ::2]}
    assert same(from_bytes(to_bytes(state)), state)
    assert same(unpack(pack(whole.T)), whole.T)


def test_nan_payloads_and_negative_zero_keep_their_bits():
    half = torch.tensor([0x7FC1, 0x7F81, -0x0001, -0x8000], dtype=torch.int16).view(torch.bfloat16)
    full = torch.tensor([0x7FC00001, 0x7F800001, -0x80000000], dtype=torch.int32).view(torch.float32)
    for tensor in (half, full):
        assert same(unpack(pack(tensor)), tensor)
        assert same(from_bytes(to_bytes({"t": tensor}))["t"], tensor)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_unpacked_tensor_owns_its_memory(dtype):
    packed = pack(torch.ones(3, dtype=dtype))
    packed.values.flags.writeable = False  # as arrays from an object store are
    before = packed.values.copy()
    unpack(packed).fill_(7)
    np.testing.assert_array_equal(packed.values, before)


def test_stored_bytes_do_not_change_with_the_tensor():
    tensor = torch.ones(3)
    data = to_bytes({"t": tensor})
    tensor.fill_(7)
    assert from_bytes(data)["t"].tolist() == [1, 1, 1]


def test_a_state_is_an_ordinary_safetensors_file():
    assert torch.equal(next(iter(load(to_bytes({"t": torch.ones(3)})).values())), torch.ones(3))


def new_canvas(kind):
    scheduler = kind()
    scheduler.set_timesteps(6)
    generator = torch.Generator().manual_seed(7)
    return Canvas(torch.randn((1, 11, 2, 3, 4), generator=generator), scheduler, generator)


def advance(canvas, until):
    windows = plan_windows(11, 5, 2)
    weights = blend_weights(windows, 11)
    while canvas.step_index < until:
        parts = [torch.tanh(canvas.slice(window) + canvas.timestep / 1000) for window in windows]
        canvas.step(canvas.blend(parts, windows, weights))
    return canvas


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("step", range(7))
def test_a_canvas_resumes_bit_identically_from_bytes(kind, step):
    whole = advance(new_canvas(kind), 6)
    data = to_bytes(advance(new_canvas(kind), step).checkpoint())
    resumed = new_canvas(kind)
    resumed.generator.manual_seed(8)
    resumed.latents = torch.zeros_like(resumed.latents)
    resumed.restore(from_bytes(data))
    assert resumed.step_index == step
    assert torch.equal(advance(resumed, 6).latents, whole.latents)


STATE = {"KKKK": [torch.arange(6.0).reshape(2, 3), {"KKKK": "VVVV"}], "KKKKK": None}
DATA = to_bytes(STATE)
HEADER = 8 + int.from_bytes(DATA[:8], "little")


@pytest.mark.parametrize("size", [0, 4, 8, HEADER - 1, HEADER, len(DATA) - 1])
def test_truncated_bytes_are_refused(size):
    with pytest.raises(ValueError, match="not a stored state"):
        from_bytes(DATA[:size])


def test_bytes_with_something_after_them_are_refused():
    with pytest.raises(ValueError, match="not a stored state"):
        from_bytes(DATA + b"\0")


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_in_the_header_is_refused_except_in_the_states_own_words(bit):
    # a word of the state may turn into another word; against that the store keeps a hash of all bytes
    for place in range(HEADER):
        if DATA[place : place + 1] not in b"KV":
            damaged = bytearray(DATA)
            damaged[place] ^= 1 << bit
            with pytest.raises(ValueError, match="not a stored state"):
                from_bytes(bytes(damaged))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200) | st.binary(max_size=80).map(lambda tail: DATA[:60] + tail))
def test_foreign_bytes_raise_nothing_but_a_value_error(data):
    with pytest.raises(ValueError, match="not a stored state"):
        from_bytes(data)


@pytest.mark.parametrize(
    "outline",
    ["[]", "{}", "3", '{"list": []}', '{"dict": 3}', '{"code": {}}', '{"dict": {"a": {"tensor": "9"}}}',
     '{"dict": {"a": {"tensor": []}}}', '{"dict": {}, "list": []}', '{"list":[' * 50_000],
)  # fmt: skip
def test_outlines_that_describe_no_state_are_refused(outline):
    with pytest.raises(ValueError, match="not a stored state"):
        from_bytes(save({"0": torch.ones(1)}, metadata={"longtake": outline}))


class Bomb:
    """Calls a function when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was run",)


def test_pickles_are_refused_and_not_run(tmp_path):
    torch.save({"t": torch.ones(3)}, tmp_path / "state.pt")
    for data in (pickle.dumps(Bomb()), pickle.dumps({"t": 1}), (tmp_path / "state.pt").read_bytes()):
        with pytest.raises(ValueError, match="not a stored state"):
            from_bytes(data)


def test_a_safetensors_file_of_others_is_refused():
    for metadata in (None, {"format": "pt"}, {"longtake": json.dumps(3)}):
        with pytest.raises(ValueError, match="not a stored state"):
            from_bytes(save({"t": torch.ones(3)}, metadata=metadata))


@pytest.mark.parametrize(
    ("value", "named"),
    [((1, 2), "tuple"), (Bomb(), "Bomb"), (np.ones(2), "ndarray"), (b"x", "bytes"), ({1: 2}, "int")],
)
def test_what_cannot_come_back_as_it_was_is_refused(value, named):
    with pytest.raises(TypeError, match=named):
        to_bytes({"t": [value]})
