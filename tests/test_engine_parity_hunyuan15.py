"""One window of ours against HunyuanVideo15Pipeline with tiny random models of the real architecture.

Bit for bit where stock is given no padding; where it pads and masks, ours attends to fewer tokens, and sums
are rounded otherwise.
"""

import inspect
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import (
    ClassifierFreeGuidance,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
)
from PIL import Image
from transformers import (
    ByT5Tokenizer,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLTextModel,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5EncoderModel,
)

from engine.chalk.tokens import build_tokenizer
from engine.families.facts import ModelFacts, read_facts
from engine.families.hunyuan15_vae import stream_frames
from engine.families.loading import load_part
from engine.families.variants import PICTURE
from engine.families.world import words_of
from engine.takes import BESIDE, FIRST
from tests import drivers
from tests.drivers import SEED, STEPS, check_resume
from tests.tiny_vaes import make_hunyuan15

FRAMES, SIZE, CHANNELS = 9, (32, 48), 4
PADDED = 40  # tokens: more than a prompt has
PROMPT, NEGATIVE = 'rain falls on "no" quiet hill', 'a sun shines "up"'
WORDLESS = "rain falls on a quiet hill"  # nothing of it is to be drawn as letters
DTYPES = [torch.float32, torch.bfloat16]
KINDS = {
    "guided": {"guidance_scale": 6.0},
    "distilled": {"guidance_scale": 1.0},
    "distilled, its guider disabled": {"enabled": False},
}


def make_tokenizer():
    """One token for each word; as many stand before a prompt as stock cuts off, and one behind it."""
    asked = inspect.signature(HunyuanVideo15Pipeline._get_mllm_prompt_embeds).parameters
    system = words_of(asked["system_message"].default)
    filling = "a " * (asked["crop_start"].default - len(system))
    tokenizer = build_tokenizer([*system, *words_of(f"{PROMPT} {NEGATIVE} so")])
    tokenizer.chat_template = (
        filling + "{% for message in messages %}{{ message['content'] }} {% endfor %} so"
    )
    return tokenizer


def make_pipeline(guider):
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    text = Qwen2_5_VLTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, pad_token_id=0, initializer_range=0.5,
        rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6},
    )  # fmt: skip
    glyphs = T5Config(
        vocab_size=384, d_model=16, d_kv=8, num_heads=2, d_ff=16, num_layers=1, pad_token_id=0,
        tie_word_embeddings=False,
    )  # fmt: skip
    transformer = HunyuanVideo15Transformer3DModel(
        in_channels=2 * CHANNELS + 1, out_channels=CHANNELS, num_attention_heads=2, attention_head_dim=16,
        num_layers=2, num_refiner_layers=1, text_embed_dim=32, text_embed_2_dim=16, image_embed_dim=8,
        rope_axes_dim=(4, 6, 6), task_type="t2v",
    )  # fmt: skip
    vae = make_hunyuan15(CHANNELS)
    return HunyuanVideo15Pipeline(
        text_encoder=Qwen2_5_VLTextModel(text).eval(), tokenizer=tokenizer, transformer=transformer.eval(),
        vae=vae, scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        text_encoder_2=T5EncoderModel(glyphs).eval(), tokenizer_2=ByT5Tokenizer(),
        guider=ClassifierFreeGuidance(**guider),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {name: tmp_path_factory.mktemp("hunyuan15") for name in KINDS}
    for name, folder in made.items():
        make_pipeline(KINDS[name]).save_pretrained(folder, safe_serialization=True)
    return made


@pytest.fixture(params=KINDS)
def folder(folders, request):
    return folders[request.param]


@torch.no_grad()  # other kernels give other bits
def trimmed(pipeline, side, text):
    """Arguments of stock's call: the real tokens of what it makes of a text itself."""
    tokens, mask, glyphs, glyph_mask = pipeline.encode_prompt(text, dtype=pipeline.transformer.dtype)
    real, letters = tokens[:, mask[0].bool()], glyphs[:, glyph_mask[0].bool()]
    return {
        f"{side}_embeds": real, f"{side}_embeds_mask": torch.ones(real.shape[:2]),
        f"{side}_embeds_2": letters, f"{side}_embeds_mask_2": torch.ones(letters.shape[:2]),
    }  # fmt: skip


def stock(folder, dtype, scale, texts, padding=True, output="latent"):
    pipeline = HunyuanVideo15Pipeline.from_pretrained(str(folder), dtype=dtype, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.tokenizer_max_length = PADDED
    asked = dict(zip(("prompt", "negative_prompt"), texts, strict=True))
    if not padding:
        asked = {k: x for side, text in asked.items() for k, x in trimmed(pipeline, side, text).items()}
        pipeline.vision_num_semantic_tokens = 0
    if scale is not None:
        pipeline.guider = ClassifierFreeGuidance(guidance_scale=scale)
    return pipeline(
        **asked, height=SIZE[0], width=SIZE[1], num_frames=FRAMES, num_inference_steps=STEPS,
        output_type=output, generator=torch.Generator().manual_seed(SEED),
    ).frames  # fmt: skip


def embeds_of(folder, dtype, texts):
    return drivers.embeds_of(folder, dtype, texts, PADDED)


def ours(folder, dtype, scale, texts, made=None):
    return drivers.ours(folder, SIZE, dtype, embeds_of(folder, dtype, texts), scale, made).transpose(1, 2)


def test_the_facts_are_those_of_the_folder(folder):
    facts = ModelFacts("HunyuanVideo15Pipeline", CHANNELS, 16, 4, 1, 31, 1000, 2)
    assert replace(read_facts(folder), guided=1) == facts


@pytest.mark.parametrize(
    "part, held",
    [
        ("text", {"tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2"}),
        ("transformer", {"transformer"}),
        ("vae", {"vae"}),
    ],
)
def test_a_stage_holds_what_it_needs_of_two_encoders(folder, part, held):
    parts = load_part(folder, part, "float32").pipeline.components
    assert {name for name, each in parts.items() if each is not None} == held | {"scheduler", "guider"}


def test_prompts_are_trimmed_to_their_real_tokens_and_to_the_letters_in_quotation_marks(folders):
    prompt, wordless = embeds_of(folders["guided"], torch.float32, (PROMPT, WORDLESS))
    assert prompt["tokens"].shape == wordless["tokens"].shape == (1, 7, 32)  # words
    assert not torch.equal(prompt["tokens"], wordless["tokens"]) and prompt["tokens"].std() > 1e-3
    assert prompt["glyphs"].shape == (1, len('Text "no". ') + 1, 16)  # bytes and the end mark
    assert wordless["glyphs"].shape == (1, 0, 16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [6.0, 1.0])
def test_a_whole_folder_from_text_to_latents_is_bit_identical_to_stock(folders, dtype, scale):
    """Stock is given no padding: of what it encoded itself the real tokens, and none of a picture."""
    folder, texts = folders["guided"], (PROMPT, NEGATIVE)
    want = stock(folder, dtype, scale, texts, padding=False)
    assert torch.isfinite(want).all()
    assert torch.equal(ours(folder, dtype, scale, texts), want)


@pytest.mark.parametrize("scale", [6.0, 1.0])
@pytest.mark.parametrize("texts", [(PROMPT, NEGATIVE), (PROMPT, ""), (WORDLESS, "a sun")])
def test_what_stock_pads_masks_and_reorders_is_left_out_to_the_same(folders, scale, texts):
    folder = folders["guided"]
    want = stock(folder, torch.float32, scale, texts)
    assert torch.isfinite(want).all()
    torch.testing.assert_close(ours(folder, torch.float32, scale, texts), want, rtol=0, atol=1e-5)
    other = ours(folder, torch.float32, scale, ("on", *texts[1:]))
    assert (other - want).abs().max() > 1e-4  # another text shows


@pytest.mark.parametrize("kind", ["distilled", "distilled, its guider disabled"])
def test_a_folder_that_was_distilled_from_guidance_is_guided_at_no_scale(folders, kind):
    folder = folders[kind]
    want = stock(folder, torch.float32, None, (PROMPT, NEGATIVE), padding=False)
    assert torch.equal(ours(folder, torch.float32, 6.0, (PROMPT, NEGATIVE)), want)


@pytest.mark.parametrize(("kind", "branches"), [("guided", 2), ("distilled", 1)])
def test_the_prediction_of_the_prompt_alone_comes_where_there_are_two_branches(folders, kind, branches):
    family = load_part(folders[kind], "transformer", "float32")
    canvas = drivers.open_canvas(folders[kind], SIZE, torch.float32)
    texts = embeds_of(folders[kind], torch.float32, (PROMPT, NEGATIVE))
    asked = family.predict(canvas.latents, canvas.timestep, *texts, 6.0, prompted=True)
    assert len(asked) == branches * len(canvas.latents)


def test_streamed_frames_are_those_of_the_whole_decode_but_for_rounding(folders):
    """Stock decodes all at once, here latent frames come one by one: sums over other shapes."""
    family = load_part(folders["guided"], "vae", "float32")
    z_BTCHW = torch.randn(1, 7, CHANNELS, 2, 3, generator=torch.Generator().manual_seed(1))
    vae = family.pipeline.vae
    z_BCTHW = z_BTCHW.transpose(1, 2) / vae.config.scaling_factor
    with torch.no_grad():
        want = vae.decode(z_BCTHW).sample
        torch.testing.assert_close(torch.cat(list(stream_frames(vae, z_BCTHW)), 2), want, rtol=0, atol=1e-5)
        assert torch.equal(vae.decode(z_BCTHW).sample, want)  # no hook is left behind
    shown = (want[0].permute(1, 2, 3, 0).double() / 2 + 0.5).clamp(0, 1).numpy() * 255
    frames = np.stack(list(family.frames(z_BTCHW)))
    assert frames.shape == (25, *SIZE, 3) and frames.std() > 1
    assert np.abs(frames - shown).max() <= 0.5 + 1e-2


def test_a_stream_that_is_left_early_leaves_no_hook_behind(folders):
    vae = load_part(folders["guided"], "vae", "float32").pipeline.vae
    stream = stream_frames(vae, torch.zeros(1, CHANNELS, 3, 2, 3))
    assert next(stream).shape == (1, 3, 1, *SIZE)
    stream.close()
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in vae.modules())


def test_a_long_shot_resumes_with_the_same_bits(folders):
    folder = folders["guided"]
    check_resume(folder, SIZE, embeds_of(folder, torch.float32, (PROMPT, "a sun")), 6.0)


@pytest.fixture(scope="module")
def from_pictures(folders, tmp_path_factory):
    """A folder that draws from a picture: the parts of another, and what sees the picture."""
    plain = HunyuanVideo15Pipeline.from_pretrained(str(folders["guided"]), local_files_only=True)
    torch.manual_seed(1)
    vision = SiglipVisionConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=16,
        patch_size=8,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("hunyuan15_i2v")
    HunyuanVideo15ImageToVideoPipeline(
        **plain.components, image_encoder=SiglipVisionModel(vision).eval(),
        feature_extractor=SiglipImageProcessor(size={"height": 16, "width": 16}),
    ).save_pretrained(folder, safe_serialization=True)  # fmt: skip
    return folder


def stock_from(picture, folder, dtype, scale, texts, padding=True):
    """Stock chooses a size by itself: of those with about so many pixels, the nearest to the picture's."""
    pipeline = HunyuanVideo15ImageToVideoPipeline.from_pretrained(
        str(folder), dtype=dtype, local_files_only=True
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.tokenizer_max_length, pipeline.target_size = PADDED, 40
    pipeline.guider = ClassifierFreeGuidance(guidance_scale=scale)
    asked = dict(zip(("prompt", "negative_prompt"), texts, strict=True))
    if not padding:
        asked = {k: x for side, text in asked.items() for k, x in trimmed(pipeline, side, text).items()}
    return pipeline(
        Image.fromarray(picture), **asked, num_frames=FRAMES, num_inference_steps=STEPS,
        output_type="latent", generator=torch.Generator().manual_seed(SEED),
    ).frames  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "padding"), [(torch.float32, False), (torch.bfloat16, False), (torch.float32, True)]
)
@pytest.mark.parametrize("scale", [6.0, 1.0])
def test_one_window_from_a_picture_is_that_of_stock(from_pictures, dtype, padding, scale):
    """Bit for bit where stock is given no padding."""
    picture = np.random.default_rng(0).integers(0, 255, (1, *SIZE, 3), dtype=np.uint8)
    made = drivers.given_of(from_pictures, dtype, {FIRST: picture}, FRAMES)
    assert {name: x.shape[1] for name, x in made.items()} == {BESIDE: 3, "image": 4}
    want = stock_from(picture[0], from_pictures, dtype, scale, (PROMPT, NEGATIVE), padding)
    got = ours(from_pictures, dtype, scale, (PROMPT, NEGATIVE), made)
    assert torch.isfinite(want).all() and got.shape == want.shape
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5 if padding else 0)
    other = drivers.given_of(from_pictures, dtype, {FIRST: picture[:, ::-1]}, FRAMES)
    assert not torch.equal(ours(from_pictures, dtype, scale, (PROMPT, NEGATIVE), other), want)


def test_a_folder_that_draws_from_pictures_takes_one_at_the_length_of_a_window(from_pictures):
    facts = read_facts(from_pictures)
    assert (facts.family, facts.latent_channels) == ("HunyuanVideo15ImageToVideoPipeline", CHANNELS)
    assert facts.takes == PICTURE


@pytest.mark.parametrize(
    "part, key, value, said",
    [
        ("transformer/config.json", "use_meanflow", True, "use_meanflow is true"),
        ("transformer/config.json", "in_channels", 8, "in_channels is 8, but .* are 9"),
        ("transformer/config.json", "patch_size", 0, "patch_size=0"),
        ("guider/guider_config.json", "_class_name", "SkipLayerGuidance", "guider is a SkipLayerGuidance"),
        ("guider/guider_config.json", "guidance_rescale", 0.7, "guidance_rescale is 0.7"),
        ("guider/guider_config.json", "stop", 0.5, "stop is 0.5"),
    ],
)
def test_a_folder_that_is_not_read_yet_is_refused_with_its_path(folders, tmp_path, part, key, value, said):
    folder = shutil.copytree(folders["guided"], tmp_path / "model")
    path = folder / part
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=said) as refused:
        read_facts(folder)
    assert str(folder) in str(refused.value)
