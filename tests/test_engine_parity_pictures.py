"""Models made for image-to-video: one window of ours against their stock pipelines, bit for bit, tiny models.

Ours goes the way of production: a folder on disk, what encodes pictures, a canvas, and texts with what the
pictures add to them.
"""

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXImageToVideoPipeline,
    CogVideoXTransformer3DModel,
    SkyReelsV2ImageToVideoPipeline,
    SkyReelsV2Transformer3DModel,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
    WanVideoToVideoPipeline,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from engine.chalk.model import build_pipeline
from engine.chalk.tokens import MAX_TOKENS
from engine.families.facts import read_facts
from engine.families.loading import load_part
from engine.takes import BEGINNING, FIRST, LAST, SOURCE, WHOLE
from jobs.plan import redraw_from
from tests import drivers, tiny_wan
from tests.drivers import SEED, STEPS, answers, check_resume, denoise, given_of, open_canvas

FRAMES, SIZE = 9, (32, 48)
WORDS = ("rain falls", "a sun")
STOCK_PARTS = ("tokenizer", "text_encoder", "image_encoder", "image_processor", "vae", "scheduler")


def picture(number):
    return np.random.default_rng(number).integers(0, 255, (1, *SIZE, 3), dtype=np.uint8)


def cogvideox():
    """As CogVideoX-5B-I2V: twice the channels, and learned positions beside rotary ones."""
    torch.manual_seed(0)
    text = build_pipeline(0, tiny=True)
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=8, out_channels=4, time_embed_dim=8,
        text_embed_dim=16, num_layers=2, sample_width=12, sample_height=8, sample_frames=FRAMES, patch_size=2,
        max_text_seq_length=MAX_TOKENS, use_rotary_positional_embeddings=True,
        use_learned_positional_embeddings=True,
    )  # fmt: skip
    text.vae.register_to_config(scaling_factor=0.7)
    return CogVideoXImageToVideoPipeline(
        text.tokenizer, text.text_encoder, text.vae, transformer.eval(), text.scheduler
    )


def wan_transformer(clip=False, both=False, in_place=False):
    return WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12,
        in_channels=16 if in_place else 36, out_channels=16, text_dim=32, freq_dim=32, ffn_dim=32,
        num_layers=2, rope_max_seq_len=32, image_dim=16 if clip else None,
        added_kv_proj_dim=24 if clip else None, pos_embed_seq_len=2 * 5 if both else None,
    ).eval()  # fmt: skip


def wan(clip=False, both=False, experts=1, in_place=False):
    plain = tiny_wan.make_pipeline(tiny_wan.KINDS["2.1"])
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=8,
        patch_size=4,
    )  # fmt: skip
    return WanImageToVideoPipeline(
        tokenizer=plain.tokenizer, text_encoder=plain.text_encoder, vae=plain.vae, scheduler=plain.scheduler,
        image_processor=CLIPImageProcessor(size=8, crop_size=8) if clip else None,
        image_encoder=CLIPVisionModel(vision).eval() if clip else None,
        transformer=wan_transformer(clip, both, in_place),
        transformer_2=wan_transformer() if experts == 2 else None,
        boundary_ratio=0.8 if experts == 2 else None, expand_timesteps=in_place,
    )  # fmt: skip


def skyreels(both=False):
    """As SkyReels-V2 I2V, of which stock has CLIP see every picture."""
    plain = wan(clip=True)
    transformer = SkyReelsV2Transformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=36, out_channels=16, text_dim=32,
        freq_dim=32, ffn_dim=32, num_layers=2, rope_max_seq_len=32, image_dim=16, added_kv_proj_dim=24,
        pos_embed_seq_len=2 * 5 if both else None,
    )  # fmt: skip
    parts = {name: part for name, part in plain.components.items() if name in STOCK_PARTS}
    return SkyReelsV2ImageToVideoPipeline(**parts | {"transformer": transformer.eval()})


# What a folder is, what it is given, and whether it can be left out of the picture.
KINDS = {
    "CogVideoX I2V": (cogvideox, (FIRST,)),
    "Wan 2.1 I2V": (lambda: wan(clip=True), (FIRST,)),
    "Wan 2.1 FLF2V": (lambda: wan(clip=True, both=True), (FIRST, LAST)),
    "Wan 2.2 I2V": (lambda: wan(experts=2), (FIRST,)),
    "Wan 2.2 I2V to a last frame": (lambda: wan(experts=2), (FIRST, LAST)),
    "Wan 2.2 TI2V": (lambda: wan(in_place=True), (FIRST,)),
    "SkyReels-V2 I2V": (skyreels, (FIRST,)),
    "SkyReels-V2 I2V to a last frame": (lambda: skyreels(both=True), (FIRST, LAST)),
}
BOTH = {FIRST, LAST}
MUST = {"Wan 2.1 FLF2V": BOTH, "SkyReels-V2 I2V to a last frame": BOTH, "Wan 2.2 TI2V": set()}
STOCK = {
    "CogVideoXImageToVideoPipeline": CogVideoXImageToVideoPipeline,
    "WanImageToVideoPipeline": WanImageToVideoPipeline,
    "SkyReelsV2ImageToVideoPipeline": SkyReelsV2ImageToVideoPipeline,
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tmp_path_factory):
    make, roles = KINDS[request.param]
    folder = tmp_path_factory.mktemp("model")
    make().save_pretrained(folder, safe_serialization=True)
    return request.param, folder, {role: picture(number) for number, role in enumerate(roles)}


def embeds_of(folder, dtype):
    """Both texts; stock's own Wan pipelines from pictures would need ftfy to make them."""
    return drivers.embeds_of(folder, dtype, WORDS, read_facts(folder).max_text_tokens)


def stock(folder, given, dtype, scale, monkeypatch):
    # stock samples the encoder's posterior for CogVideoX; ours takes its mean, as both do for Wan
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    family = STOCK[read_facts(folder).family]
    pipeline = family.from_pretrained(str(folder), dtype=dtype, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    prompt, negative = (text["tokens"] for text in embeds_of(folder, dtype))
    last = {"last_image": Image.fromarray(given[LAST][0])} if LAST in given else {}
    latents = pipeline(
        Image.fromarray(given[FIRST][0]), prompt_embeds=prompt, negative_prompt_embeds=negative,
        height=SIZE[0], width=SIZE[1], num_frames=FRAMES, num_inference_steps=STEPS, guidance_scale=scale,
        output_type="latent", generator=torch.Generator().manual_seed(SEED), **last,
    ).frames  # fmt: skip
    return latents if family is CogVideoXImageToVideoPipeline else latents.transpose(1, 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [5.0, 1.0])
def test_one_window_from_pictures_is_bit_identical_to_stock(kind, dtype, scale, monkeypatch):
    _, folder, given = kind
    made = given_of(folder, dtype, given, FRAMES)
    ours = drivers.ours(folder, SIZE, dtype, embeds_of(folder, dtype), scale, made)
    want = stock(folder, given, dtype, scale, monkeypatch)
    assert torch.isfinite(want).all()
    assert torch.equal(ours, want.to(ours.dtype))


def test_another_picture_gives_another_window(kind):
    _, folder, given = kind
    latents = []
    for each in (given, given | {FIRST: picture(7)}):
        made = given_of(folder, torch.float32, each, FRAMES)
        latents.append(drivers.ours(folder, SIZE, torch.float32, embeds_of(folder, torch.float32), 5.0, made))
    assert not torch.equal(*latents)


def test_what_a_folder_takes_is_read_from_it(kind):
    name, folder, given = kind
    takes = read_facts(folder).takes
    assert given.keys() <= takes.may and takes.must == MUST.get(name, {FIRST})
    assert takes.one_window == takes.together == (name != "Wan 2.2 TI2V")
    alone = ("CogVideoX I2V", "Wan 2.1 I2V", "Wan 2.2 TI2V", "SkyReels-V2 I2V")
    assert (LAST in takes.may) == (name not in alone)


def test_a_picture_in_place_is_seen_by_the_first_of_many_windows_and_survives_a_resume(tmp_path):
    wan(in_place=True).save_pretrained(tmp_path, safe_serialization=True)
    made = given_of(tmp_path, torch.float32, {FIRST: picture(0)}, 1)
    assert made.keys() == {BEGINNING}
    whole = check_resume(tmp_path, SIZE, embeds_of(tmp_path, torch.float32), 5.0, made)
    assert torch.equal(whole[:, :1], made[BEGINNING])


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_a_clip_is_redrawn_bit_for_bit_as_wans_own_video_to_video(tmp_path, strength):
    tiny_wan.make_pipeline(tiny_wan.KINDS["2.1"]).save_pretrained(tmp_path, safe_serialization=True)
    clip = np.concatenate([picture(number) for number in range(FRAMES)])
    made = given_of(tmp_path, torch.float32, {SOURCE: clip}, FRAMES)
    assert made.keys() == {WHOLE}
    step = redraw_from(strength, STEPS)
    canvas = open_canvas(tmp_path, SIZE, torch.float32, made=made, step=step)
    family = load_part(tmp_path, "transformer", "float32")
    ours = denoise(canvas, answers(family, embeds_of(tmp_path, torch.float32), 5.0))
    pipeline = WanVideoToVideoPipeline.from_pretrained(str(tmp_path), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    prompt, negative = (text["tokens"] for text in embeds_of(tmp_path, torch.float32))
    want = pipeline(
        [Image.fromarray(frame) for frame in clip], prompt_embeds=prompt, negative_prompt_embeds=negative,
        height=SIZE[0], width=SIZE[1], num_inference_steps=STEPS, guidance_scale=5.0, strength=strength,
        output_type="latent", generator=torch.Generator().manual_seed(SEED),
    ).frames.transpose(1, 2)  # fmt: skip
    assert torch.equal(ours, want)
