"""Open-Sora 2 against plain tensors: its forward and its sampler, written from the published description.

Nothing of diffusers' is in the plain half: functions on a dictionary of weights by their published names.
"""

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from engine.chalk.tokens import MAX_TOKENS, build_tokenizer
from engine.decode import frames_uint8
from engine.denoise import denoise_here
from engine.families.facts import ModelFacts, read_facts
from engine.families.loading import load_part, new_canvas
from engine.families.opensora import OpenSora
from engine.families.opensora_model import OpenSoraTransformer, patchify, unpatchify
from engine.families.opensora_weights import convert, convert_file
from engine.takes import FIRST, LAST, Takes
from engine.timeline import Part
from engine.windows import blend_weights, plan_windows
from tests.tiny_vaes import make_hunyuan

HEADS, AXES, CHANNELS, TEXT, POOLED, DOUBLE, SINGLE = 3, (4, 6, 6), 4, 12, 10, 2, 3
SIZE = sum(AXES)
WIDTH = HEADS * SIZE
CONFIG = {
    "in_channels": 4 * CHANNELS, "num_layers": DOUBLE, "num_single_layers": SINGLE, "axes_dims": AXES,
    "num_attention_heads": HEADS, "attention_head_dim": SIZE, "text_dim": TEXT, "pooled_dim": POOLED,
}  # fmt: skip
# Of published weights: whether queries, keys and values are one matrix, whether heads turn in halves.
LAYOUTS = {"v2.0": (False, True), "Flux": (True, False), "fused, in halves": (True, True)}


def shapes_of(fused, *, guided=False, conditioned=True):
    """Published linear layers, as {name: (outputs, inputs)}."""
    layers = {
        "img_in": (WIDTH, 4 * CHANNELS), "txt_in": (WIDTH, TEXT), "vector_in.in_layer": (WIDTH, POOLED),
        "vector_in.out_layer": (WIDTH, WIDTH), "time_in.in_layer": (WIDTH, 256),
        "time_in.out_layer": (WIDTH, WIDTH), "final_layer.linear": (4 * CHANNELS, WIDTH),
        "final_layer.adaLN_modulation.1": (2 * WIDTH, WIDTH),
    }  # fmt: skip
    if guided:
        layers |= {"guidance_in.in_layer": (WIDTH, 256), "guidance_in.out_layer": (WIDTH, WIDTH)}
    if conditioned:
        layers["cond_in"] = (WIDTH, 4 * CHANNELS + 4)
    for stream in ("img", "txt"):
        for n in range(DOUBLE):
            at = f"double_blocks.{n}.{stream}_"
            qkv = {"qkv": (3 * WIDTH, WIDTH)} if fused else {f"{x}_proj": (WIDTH, WIDTH) for x in "qkv"}
            layers |= {f"{at}attn.{name}": shape for name, shape in qkv.items()}
            layers |= {f"{at}mod.lin": (6 * WIDTH, WIDTH), f"{at}attn.proj": (WIDTH, WIDTH)}
            layers |= {f"{at}mlp.0": (4 * WIDTH, WIDTH), f"{at}mlp.2": (WIDTH, 4 * WIDTH)}
    for n in range(SINGLE):
        at = f"single_blocks.{n}."
        if fused:
            layers[f"{at}linear1"] = (7 * WIDTH, WIDTH)
        else:
            layers |= {f"{at}q_proj": (WIDTH, WIDTH), f"{at}k_proj": (WIDTH, WIDTH)}
            layers[f"{at}v_mlp"] = (5 * WIDTH, WIDTH)
        layers |= {f"{at}linear2": (WIDTH, 5 * WIDTH), f"{at}modulation.lin": (3 * WIDTH, WIDTH)}
    return layers


def published_weights(fused, **which):
    """Random weights that keep activations near 1."""
    generator = torch.Generator().manual_seed(3)
    weights = {}
    for name, (n_out, n_in) in shapes_of(fused, **which).items():
        weights[f"{name}.weight"] = torch.randn(n_out, n_in, generator=generator) / math.sqrt(n_in)
        weights[f"{name}.bias"] = 0.1 * torch.randn(n_out, generator=generator)
    norms = [f"double_blocks.{n}.{s}_attn.norm" for n in range(DOUBLE) for s in ("img", "txt")]
    norms += [f"single_blocks.{n}.norm" for n in range(SINGLE)]
    for name in (f"{norm}.{kind}_norm.scale" for norm in norms for kind in ("query", "key")):
        weights[name] = 1 + 0.3 * torch.randn(SIZE, generator=generator)
    return weights


class Plain:
    """The published forward on published weights; `seen` holds what each layer left, by its name."""

    def __init__(self, weights, fused, halves):
        self.w, self.fused, self.halves, self.seen = weights, fused, halves, {}

    def linear(self, name, x):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def embedder(self, name, x):
        return self.linear(f"{name}.out_layer", F.silu(self.linear(f"{name}.in_layer", x)))

    def modulation(self, name, vector, n):
        return self.linear(name, F.silu(vector))[:, None].chunk(n, dim=-1)

    def parts(self, at, x):
        """Queries, keys and values (B, L, A, K), the first two normed, and what a single block's MLP gets."""
        last = "v_mlp" if at.startswith("single") else "v_proj"
        fused = ["linear1" if at.startswith("single") else "qkv"]
        names = fused if self.fused else ["q_proj", "k_proj", last]
        everything = torch.cat([self.linear(at + name, x) for name in names], dim=-1)
        q, k, v = everything[..., : 3 * WIDTH].unflatten(-1, (3, HEADS, SIZE)).unbind(2)
        q, k = (
            y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt() * self.w[f"{at}norm.{kind}_norm.scale"]
            for y, kind in ((q, "query"), (k, "key"))
        )
        return q, k, v, everything[..., 3 * WIDTH :]

    def turned(self, x, places):
        """A head's numbers turned by the place (frame, row, column) of their token, the axes one by one."""
        angles = [places[:, i, None] * 1e4 ** (-torch.arange(0, n, 2) / n) for i, n in enumerate(AXES)]
        turn = torch.cat(angles, dim=1)[:, None]
        cos, sin = turn.cos().float(), turn.sin().float()
        a, b = x.chunk(2, dim=-1) if self.halves else (x[..., ::2], x[..., 1::2])
        both = a * cos - b * sin, a * sin + b * cos
        return torch.cat(both, dim=-1) if self.halves else torch.stack(both, dim=-1).flatten(-2)

    def attention(self, q, k, v, places):
        q, k = self.turned(q, places), self.turned(k, places)
        scores = torch.einsum("blak,bmak->balm", q, k) / math.sqrt(SIZE)
        return torch.einsum("balm,bmak->blak", scores.softmax(-1), v).flatten(2)

    def double(self, at, txt, img, vector, places):
        held = {"txt": txt, "img": img}
        told = {name: self.modulation(f"{at}{name}_mod.lin", vector, 6) for name in held}
        parts = [self.parts(f"{at}{name}_attn.", shifted(held[name], *told[name][:2])) for name in held]
        q, k, v = (torch.cat(both, dim=1) for both in list(zip(*parts, strict=True))[:3])
        attended = self.attention(q, k, v, places).split([txt.shape[1], img.shape[1]], dim=1)
        for name, out in zip(held, attended, strict=True):
            _, _, gate, shift, scale, last_gate = told[name]
            x = held[name] + gate * self.linear(f"{at}{name}_attn.proj", out)
            inner = F.gelu(self.linear(f"{at}{name}_mlp.0", shifted(x, shift, scale)), approximate="tanh")
            held[name] = x + last_gate * self.linear(f"{at}{name}_mlp.2", inner)
        return held["txt"], held["img"]

    def single(self, at, x, vector, places):
        shift, scale, gate = self.modulation(f"{at}modulation.lin", vector, 3)
        q, k, v, inner = self.parts(at, shifted(x, shift, scale))
        both = [self.attention(q, k, v, places), F.gelu(inner, approximate="tanh")]
        return x + gate * self.linear(f"{at}linear2", torch.cat(both, dim=-1))

    def __call__(self, latents, t, text, pooled, condition=None, guidance=None):
        """The velocity of latents (B, C, T, H, W) at t (B,) in [0, 1]."""
        batch, _, frames, rows, columns = latents.shape
        img, txt = self.linear("img_in", packed(latents)), self.linear("txt_in", text)
        if "cond_in.weight" in self.w:
            img = img + self.linear("cond_in", packed(condition))
        vector = self.embedder("time_in", waves(t)) + self.embedder("vector_in", pooled)
        if guidance is not None:
            vector = vector + self.embedder("guidance_in", waves(guidance))
        grid = [(i, j, k) for i in range(frames) for j in range(rows // 2) for k in range(columns // 2)]
        places = torch.tensor([(0, 0, 0)] * txt.shape[1] + grid, dtype=torch.float64)
        self.seen["embeddings"] = txt, img, vector
        for n in range(DOUBLE):
            txt, img = self.double(f"double_blocks.{n}.", txt, img, vector, places)
            self.seen[f"double {n}"] = txt, img
        x = torch.cat([txt, img], dim=1)
        for n in range(SINGLE):
            x = self.single(f"single_blocks.{n}.", x, vector, places)
            self.seen[f"single {n}"] = x.split([txt.shape[1], img.shape[1]], dim=1)
        shift, scale = self.modulation("final_layer.adaLN_modulation.1", vector, 2)
        out = self.linear("final_layer.linear", shifted(x[:, txt.shape[1] :], shift, scale))
        planes = out.unflatten(1, (frames, rows // 2, columns // 2)).permute(0, 1, 4, 2, 3)
        return F.pixel_shuffle(planes.flatten(0, 1), 2).unflatten(0, (batch, frames)).transpose(1, 2)


def shifted(x, shift, scale):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + scale) + shift


def waves(t):
    """256 numbers of a number in [0, 1]: cosines, then sines."""
    angles = 1000 * t[:, None] * torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float32) / 128)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def packed(x):
    """Latents as tokens: 2 x 2 of a frame, a channel at a time."""
    patches = x.unfold(3, 2, 2).unfold(4, 2, 2)
    return patches.permute(0, 2, 3, 4, 1, 5, 6).flatten(4).flatten(1, 3)


def some_inputs(batch=2, frames=3, rows=4, columns=6, n_text=5):
    generator = torch.Generator().manual_seed(1)
    shapes = {
        "latents": (batch, CHANNELS, frames, rows, columns), "text": (batch, n_text, TEXT),
        "pooled": (batch, POOLED), "condition": (batch, 1 + CHANNELS, frames, rows, columns),
    }  # fmt: skip
    inputs = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return inputs | {"t": torch.tensor([0.9, 0.3])[:batch], "guidance": torch.tensor([4.0, 7.5])[:batch]}


def ours_of(weights, halves, **config):
    model = OpenSoraTransformer(**CONFIG, **config).eval()
    model.load_state_dict(convert(weights, CONFIG | config, halves=halves), strict=True)
    return model


@torch.no_grad()
def predict_watched(model, x, **rest):
    """Our prediction, and what each of our layers left under the plain one's names."""
    seen = {}

    def before(block, args, given):
        names = "encoder_hidden_states", "hidden_states", "temb"
        seen["embeddings"] = tuple(given[name] for name in names)

    hooks = [model.transformer_blocks[0].register_forward_pre_hook(before, with_kwargs=True)]
    for kind, blocks in (("double", model.transformer_blocks), ("single", model.single_transformer_blocks)):
        for n, block in enumerate(blocks):
            after = lambda block, args, out, name=f"{kind} {n}": seen.update({name: out})  # noqa: E731
            hooks.append(block.register_forward_hook(after))
    out = model(x["latents"], x["t"], x["text"], x["pooled"], **rest)
    for hook in hooks:
        hook.remove()
    return out, seen


def assert_near(got, want):
    assert want.std() > 0.1
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


def assert_alike(model, plain, x, **rest):
    want = plain(x["latents"], x["t"], x["text"], x["pooled"], **rest)
    got, seen = predict_watched(model, x, **rest)
    assert list(seen) == list(plain.seen)
    for name, layers in plain.seen.items():
        for mine, theirs in zip(seen[name], layers, strict=True):
            assert_near(mine, theirs)
    assert_near(got, want)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layer_of_a_conditioned_model_equals_the_published_forward(layout):
    weights, x = published_weights(layout[0]), some_inputs()
    assert_alike(ours_of(weights, layout[1]), Plain(weights, *layout), x, condition=x["condition"])


def test_every_layer_of_a_distilled_model_without_condition_equals_the_published_forward():
    weights, x = published_weights(True, guided=True, conditioned=False), some_inputs()
    model = ours_of(weights, False, guidance_embed=True, cond_embed=False)
    assert_alike(model, Plain(weights, True, False), x, guidance=x["guidance"])
    with pytest.raises(ValueError, match="needs its scale"):
        model(x["latents"], x["t"], x["text"], x["pooled"])


def test_no_condition_is_a_condition_of_zeros():
    weights, x = published_weights(False), some_inputs()
    zeros = torch.zeros_like(x["condition"])
    want = Plain(weights, False, True)(x["latents"], x["t"], x["text"], x["pooled"], zeros)
    assert_near(predict_watched(ours_of(weights, True), x)[0], want)


def test_the_comparison_sees_heads_turned_in_the_other_way():
    weights, x = published_weights(False), some_inputs()
    want = Plain(weights, False, True)(x["latents"], x["t"], x["text"], x["pooled"], x["condition"])
    got = predict_watched(ours_of(weights, False), x, condition=x["condition"])[0]
    assert (got - want).abs().max() > 1e-2


def test_patches_are_the_published_ones_and_come_back():
    x = torch.arange(2.0 * 3 * 2 * 4 * 6).view(2, 3, 2, 4, 6)
    assert torch.equal(patchify(x, 2), packed(x))
    assert torch.equal(unpatchify(patchify(x, 2), 2, 4, 6, 2), x)
    with pytest.raises(ValueError, match="3 x 6 are no whole patches of 2 x 2"):
        OpenSoraTransformer(**CONFIG)(torch.zeros(1, CHANNELS, 1, 3, 6), None, None, None)


@pytest.mark.parametrize("fused", [True, False])
def test_unknown_missing_and_wrongly_shaped_weights_are_refused_with_their_names(fused):
    weights = published_weights(fused)
    weights["double_blocks.2.img_mod.lin.bias"] = torch.zeros(6 * WIDTH)
    del weights["single_blocks.1.norm.key_norm.scale"]
    weights["cond_in.weight"] = torch.zeros(WIDTH, 4)
    with pytest.raises(ValueError) as refused:
        convert(weights, CONFIG, halves=True)
    said = str(refused.value)
    assert "unknown: double_blocks.2.img_mod.lin.bias" in said
    assert "missing: single_blocks.1.norm.key_norm.scale" in said
    assert f"cond_in.weight ({WIDTH}, 4), not ({WIDTH}, {4 * CHANNELS + 4})" in said


def test_weights_of_a_condition_or_a_guidance_that_the_model_lacks_are_unknown():
    weights = published_weights(False, guided=True)
    with pytest.raises(ValueError, match=r"unknown: (?=.*cond_in\.weight)(?=.*guidance_in\.in_layer\.bias)"):
        convert(weights, CONFIG | {"cond_embed": False}, halves=True)


def test_every_published_name_is_used_once_and_the_defaults_are_those_of_11b():
    weights = published_weights(False)
    converted = convert(weights, CONFIG, halves=True)
    assert sum(x.numel() for x in converted.values()) == sum(x.numel() for x in weights.values())
    assert converted.keys() == OpenSoraTransformer(**CONFIG).state_dict().keys()
    with torch.device("meta"):
        published = OpenSoraTransformer()
    assert 11.5e9 < sum(x.numel() for x in published.parameters()) < 12.5e9


def test_a_published_file_becomes_a_folder(tmp_path):
    weights, x = published_weights(False), some_inputs()
    save_file(weights, tmp_path / "published.safetensors")
    convert_file(tmp_path / "published.safetensors", tmp_path / "transformer", **CONFIG)
    model = OpenSoraTransformer.from_pretrained(tmp_path / "transformer", local_files_only=True)
    want = predict_watched(ours_of(weights, True), x)[0]
    assert torch.equal(predict_watched(model, x)[0], want)


SEED, STEPS, TOKENS, FRAME = 5, 4, 9, (CHANNELS, 4, 6)
PROMPTS = "rain falls", "a sun"
BY_SIZE = {
    "use_dynamic_shifting": True, "base_shift": 1.0, "max_shift": 3.0,
    "base_image_seq_len": 256, "max_image_seq_len": 4096,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("opensora")
    torch.manual_seed(0)
    tokenizer = build_tokenizer(("rain", "falls", "a", "sun"))
    text = T5Config(
        vocab_size=len(tokenizer), d_model=TEXT, d_kv=4, num_heads=2, d_ff=16, num_layers=1, pad_token_id=0
    )
    clip = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=POOLED, num_attention_heads=2, intermediate_size=16,
        num_hidden_layers=1, max_position_embeddings=MAX_TOKENS, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    vae = make_hunyuan(CHANNELS)
    parts = {
        "transformer": ours_of(published_weights(False), True), "vae": vae, "tokenizer": tokenizer,
        "text_encoder": T5EncoderModel(text), "text_encoder_2": CLIPTextModel(clip), "tokenizer_2": tokenizer,
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0),
    }  # fmt: skip
    for name, part in parts.items():
        part.save_pretrained(path / name)
    (path / "model_index.json").write_text(json.dumps({"_class_name": "OpenSoraPipeline"}))
    return path


@pytest.fixture(scope="module")
def by_size(folder):
    """The same folder, with steps that depend on the size of a window."""
    path = folder.with_name("by_size")
    path.mkdir()
    for part in folder.iterdir():
        if part.name != "scheduler":
            (path / part.name).symlink_to(part)
    FlowMatchEulerDiscreteScheduler(**BY_SIZE).save_pretrained(path / "scheduler")
    return path


def open_canvas(folder, n_frames=3, layout="stock", dtype="float32"):
    return new_canvas(
        folder, seed=SEED, shot="s", n_frames=n_frames, frame_shape=FRAME, dtype=dtype, n_steps=STEPS,
        layout=layout,
    )  # fmt: skip


def denoise(canvas, family, embeds, scale=5.0, stop=None):
    windows = plan_windows(canvas.n_frames, 3, 2)
    parts = [Part(window, 0) for window in windows]
    weights = blend_weights(windows, canvas.n_frames)
    return denoise_here(
        canvas, parts, weights, lambda r: family.predict(r.latents, r.timestep, *embeds, scale), stop
    )


def embeds_of(folder, dtype="float32"):
    text = load_part(folder, "text", dtype)
    return [text.embed(words, TOKENS) for words in PROMPTS]


@torch.no_grad()
def sampled(model, x, prompt, negative, scale, shift, image_scale=3.0):
    """The published loop of text to video from noise (1, C, T, H, W): three branches, nothing known."""
    times = torch.linspace(1, 0, STEPS + 1)
    times = (shift * times / (1 + (shift - 1) * times)).tolist()
    text, pooled = (
        torch.cat([prompt[name], negative[name], negative[name]]) for name in ("tokens", "pooled")
    )
    nothing = torch.zeros_like(x[:, :1].expand(3, 1 + CHANNELS, -1, -1, -1))
    for now, after in itertools.pairwise(times):
        t = torch.full((3,), now, dtype=x.dtype)
        told, untold, blind = model(torch.cat([x] * 3), t, text, pooled, nothing).chunk(3)
        x = x + (after - now) * (blind + image_scale * (untold - blind) + scale * (told - untold))
    return x


def noise(dtype=torch.float32):
    generator = torch.Generator().manual_seed(SEED)
    return torch.randn(1, CHANNELS, 3, 4, 6, generator=generator, dtype=dtype)


@pytest.mark.parametrize("scale", [5.0, 1.0])
@pytest.mark.parametrize("name", ["folder", "by_size"])
def test_a_folder_from_text_to_latents_equals_the_published_sampler_on_published_weights(
    name, scale, request
):
    path = request.getfixturevalue(name)
    shift = 3.0 if name == "folder" else (1 + (6 - 256) * (3 - 1) / (4096 - 256)) * math.sqrt(3)
    embeds, plain = embeds_of(path), Plain(published_weights(False), False, True)
    want = sampled(plain, noise(), *embeds, scale, shift)
    got = denoise(open_canvas(path), load_part(path, "transformer", "float32"), embeds, scale)
    assert_near(got.transpose(1, 2), want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_schedule_steps_and_guidance_are_bit_identical_to_the_published_around_one_forward(folder, dtype):
    """One forward of two branches: kernels round a batch of three in another way."""
    name = str(dtype).removeprefix("torch.")
    family, embeds = load_part(folder, "transformer", name), embeds_of(folder, name)
    assert embeds[0]["tokens"].dtype == embeds[0]["pooled"].dtype == dtype

    def of_three(*branches):
        told, untold, blind = zip(*branches, strict=True)
        assert all(map(torch.equal, untold, blind))
        prompted = family.transformer(*(torch.stack(pair) for pair in zip(untold, told, strict=True)))
        return prompted[[1, 0, 0]]

    want = sampled(of_three, noise(dtype), *embeds, 5.0, 3.0)
    got = denoise(open_canvas(folder, dtype=name), family, embeds)
    assert got.dtype == dtype and torch.equal(got.transpose(1, 2), want)


def test_steps_that_depend_on_a_size_are_refused_without_it(by_size):
    with pytest.raises(ValueError, match="size of a window"):
        OpenSora.load_scheduler(by_size, STEPS)


@torch.no_grad()
def test_texts_are_padded_and_nothing_masks_the_padding(folder):
    text, tokenizer = load_part(folder, "text", "float32"), build_tokenizer(("rain", "falls", "a", "sun"))
    for words in (*PROMPTS, "", "rain " * 40):
        ids = tokenizer(words, add_special_tokens=False).input_ids
        padded, padded_2 = (
            torch.tensor([[*ids[: n - 1], 1] + [0] * (n - 1 - len(ids))]) for n in (TOKENS, MAX_TOKENS)
        )
        got = text.embed(words, TOKENS)
        assert torch.equal(got["tokens"], text.pipeline.text_encoder(padded).last_hidden_state)
        assert torch.equal(got["pooled"], text.pipeline.text_encoder_2(padded_2).pooler_output)
        assert got["tokens"].shape == (1, TOKENS, TEXT) and got["pooled"].shape == (1, POOLED)


def test_a_distilled_model_is_told_the_scale_and_needs_no_negative_text():
    weights, x = published_weights(True, guided=True), some_inputs()
    model = ours_of(weights, False, guidance_embed=True)
    family = OpenSora(OpenSora.pipeline_class(transformer=model, device="cpu"))
    prompt = {"tokens": x["text"], "pooled": x["pooled"]}
    got = family.predict(x["latents"].transpose(1, 2), torch.tensor(0.9), prompt, None, 4.0)
    t, guidance, nothing = torch.full((2,), 0.9), torch.full((2,), 4.0), torch.zeros_like(x["condition"])
    want = Plain(weights, True, False)(x["latents"], t, x["text"], x["pooled"], nothing, guidance)
    assert_near(got.transpose(1, 2), want)


@pytest.mark.parametrize("n_latent", [1, 3, 5, 7, 8])
def test_streamed_frames_are_those_of_the_whole_decode(folder, n_latent):
    family = load_part(folder, "vae", "float32")
    z = 2 * torch.randn(1, n_latent, CHANNELS, 2, 3, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        whole = family.pipeline.vae.decode(z.transpose(1, 2) / 0.476986).sample
    frames = np.stack(list(family.frames(z)))
    assert frames.shape == (4 * n_latent - 3, 16, 24, 3) and frames.std() > 1
    assert np.array_equal(frames, frames_uint8(whole))
    family.pipeline.vae.use_framewise_decoding = False  # as published: all at once
    with torch.no_grad():
        whole = family.pipeline.vae.decode(z.transpose(1, 2) / 0.476986).sample
    assert np.array_equal(np.stack(list(family.frames(z))), frames_uint8(whole))


def test_a_long_shot_resumes_with_the_same_bits(folder):
    family, embeds = load_part(folder, "transformer", "float32"), embeds_of(folder)
    whole = denoise(open_canvas(folder, 7, "keyed"), family, embeds)
    half = open_canvas(folder, 7, "keyed")
    denoise(half, family, embeds, stop=2)
    again = open_canvas(folder, 7, "keyed")
    again.restore(half.checkpoint())
    assert torch.equal(denoise(again, family, embeds), whole)


def test_each_stage_loads_its_parts_and_the_facts_are_read(folder):
    held = {"text": {"text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"}}
    held |= {"transformer": {"transformer"}, "vae": {"vae"}}
    for stage, names in held.items():
        parts = vars(load_part(folder, stage, "float32").pipeline)
        assert {name for name, part in parts.items() if part is not None} - {"device"} == names
    facts = ModelFacts("OpenSoraPipeline", CHANNELS, 8, 4, 2, 33, 512, HEADS)
    assert read_facts(folder) == replace(facts, takes=Takes(frozenset({FIRST, LAST})))
