"""A gang against one rank: real processes over gloo, tiny random models, nothing shared but a store."""

import itertools
import multiprocessing as mp
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, replace

import pytest
import torch
import torch.distributed as dist
from diffusers import (
    ClassifierFreeGuidance,
    CogVideoXDDIMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    LTXConditionPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    MochiPipeline,
    MochiTransformer3DModel,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2ImageToVideoPipeline,
    SkyReelsV2Pipeline,
    SkyReelsV2Transformer3DModel,
    StableVideoDiffusionPipeline,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.utils.logging import set_verbosity_error
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.cost import Shape, sent_bytes
from engine.families.cogvideox import CogVideoX
from engine.families.denoiser import Blocks, Denoiser
from engine.families.h3_sound import add_sound, n_sound
from engine.families.hunyuan import HunyuanVideo
from engine.families.hunyuan15 import HunyuanVideo15
from engine.families.ltx import LTX
from engine.families.ltx_condition import IMAGE_NOISE, LTXCondition
from engine.families.minimax_h3 import MiniMaxH3
from engine.families.mochi import Mochi
from engine.families.opensora import OpenSora
from engine.families.opensora_model import OpenSoraTransformer
from engine.families.quantise import quantise
from engine.families.skyreels import GIVEN_NOISE, SkyReels, SkyReelsForcing, SkyReelsImageToVideo
from engine.families.svd import StableVideoDiffusion
from engine.families.wan import Wan
from engine.parallel.attention import attend, attention_with_lse, load_ulysses, merge, plain_attention
from engine.parallel.axes import DEEPSPEED, FUSED, Axes, Split, shares
from engine.parallel.exchange import gather, shard, trade
from engine.parallel.gang import form_mesh, serve_rendezvous
from engine.parallel.spread import parallelise
from engine.takes import BESIDE
from engine.telling import Telling
from engine.windows import plan_windows
from tests.readme_table import told
from tests.tiny_h3 import make_transformer as make_h3_transformer
from tests.tiny_svd import SEEN, make_unet

LAYERS, TIMEOUT_S = 2, 60.0
ULYSSES = Axes(2, ulysses=2)
AXES = {
    "ulysses 2": ULYSSES,
    "ulysses 4": Axes(4, ulysses=4),
    "ring 2": Axes(2, ring=2),
    "ring 2 × ulysses 2": Axes(4, ring=2, ulysses=2),
    "cfg 2": Axes(2, cfg=2),
    "cfg 2 × ulysses 2": Axes(4, cfg=2, ulysses=2),
}


@dataclass(frozen=True)
class Case:
    """A tiny model and a window for it: 16 video tokens a latent frame."""

    family: str = "CogVideoX"
    scale: float = 6.0
    rotary: bool = True
    batch: int = 1
    n_text: int = 6
    text_width: int = 12
    n_negative: int = 0  # tokens of the negative text; 0 for as many as of the other
    n_frames: int = 3
    heads: int = 4
    start: int = 0
    n_glyphs: int = 0  # tokens of texts to be drawn as letters
    n_given: int = 0  # latent frames that the window goes on from
    width: int = 8  # of the latents; 10 makes 20 tokens a latent frame
    dtype: torch.dtype = torch.float32
    beside: int = 0  # channels beside the latents
    clip: bool = False
    quantise: str = ""

    @property
    def in_channels(self):
        return 4 + self.beside


CASES = {
    "even tokens, guided": Case(),
    "even tokens, unguided": Case(scale=1.0),
    "a batch of two under guidance": Case(batch=2),
    "positions added to the tokens": Case(rotary=False),
    "uneven tokens": Case(n_text=5),
    "uneven heads": Case(heads=5),
    "short prompt": Case(n_text=1),
    "long prompt": Case(n_text=61, n_frames=1),
    "half precision": Case(dtype=torch.bfloat16),
    "int8, uneven tokens": Case(quantise="int8", n_text=5),
}
CASES |= {f"window {w.start}": Case(start=w.start) for w in plan_windows(7, 3, 1)}
CASES = {f"CogVideoX, {name}": case for name, case in CASES.items()}
CASES["CogVideoX, from a picture, uneven tokens"] = Case(beside=4, n_text=5)
CASES |= {
    "Wan, even tokens": Case("Wan"),
    "Wan, uneven tokens, uneven heads": Case("Wan", heads=5, width=10),
    "Wan, short prompt, unguided": Case("Wan", n_text=1, scale=1.0),
    "Wan, long prompt": Case("Wan", n_text=61, n_frames=1),
    "Wan, 2.2 of two experts": Case("Wan 2.2"),
    "Wan, 2.2 with timesteps of tokens": Case("Wan 2.2 TI2V", width=10),
    "Wan, half precision": Case("Wan", dtype=torch.bfloat16),
    "Wan, int8, uneven heads": Case("Wan", quantise="int8", heads=5),
    "Wan, from a picture that CLIP sees, uneven heads": Case("Wan", beside=8, clip=True, n_text=512, heads=5),
    "Wan, from a picture in its place": Case("Wan 2.2 TI2V", n_given=1, width=10),
}
CASES |= {
    "Open-Sora 2, even tokens": Case("Open-Sora 2"),
    "Open-Sora 2, uneven tokens, uneven heads": Case("Open-Sora 2", heads=5, width=10, n_text=5),
    "Open-Sora 2, short prompt, unguided": Case("Open-Sora 2", n_text=1, scale=1.0),
    "Open-Sora 2, long prompt": Case("Open-Sora 2", n_text=61, n_frames=1),
    "Open-Sora 2, a batch of two under guidance": Case("Open-Sora 2", batch=2),
    "Open-Sora 2, half precision": Case("Open-Sora 2", dtype=torch.bfloat16),
}
SEEING = "Open-Sora 2 with pictures"  # latents of pictures and their mask beside its own: three branches
CASES |= {
    f"{SEEING}, even tokens": Case("Open-Sora 2", beside=5),
    f"{SEEING}, uneven tokens, uneven heads": Case("Open-Sora 2", beside=5, heads=5, width=10, n_text=5),
    f"{SEEING}, short prompt": Case("Open-Sora 2", beside=5, n_text=1),
    f"{SEEING}, long prompt, unguided": Case("Open-Sora 2", beside=5, n_text=61, n_frames=1, scale=1.0),
    f"{SEEING}, told the guidance": Case("Open-Sora 2, told", beside=5),
    f"{SEEING}, a batch of two": Case("Open-Sora 2", beside=5, batch=2),
}
CASES |= {
    "HunyuanVideo, even tokens": Case("HunyuanVideo"),
    "HunyuanVideo, uneven tokens, uneven heads": Case("HunyuanVideo", heads=5, width=10, n_text=5),
    "HunyuanVideo, short prompt": Case("HunyuanVideo", n_text=1),
    "HunyuanVideo, short prompt, uneven tokens": Case("HunyuanVideo", n_text=2, n_frames=1, width=6),
    "HunyuanVideo, long prompt": Case("HunyuanVideo", n_text=61, n_frames=1),
    "HunyuanVideo, told the guidance, a batch of two": Case("HunyuanVideo, told", batch=2),
    "HunyuanVideo, half precision": Case("HunyuanVideo", dtype=torch.bfloat16),
}
CASES |= {
    "CogVideoX 1.5, even tokens": Case("CogVideoX 1.5", n_frames=4),
    "CogVideoX 1.5, uneven tokens, uneven heads": Case("CogVideoX 1.5", n_frames=4, heads=5, n_text=5),
    "CogVideoX 1.5, short prompt": Case("CogVideoX 1.5", n_frames=4, n_text=1),
    "CogVideoX 1.5, long prompt, unguided": Case("CogVideoX 1.5", n_text=61, n_frames=2, scale=1.0),
    "CogVideoX 1.5, a later window": Case("CogVideoX 1.5", n_frames=4, start=2),
    "CogVideoX 1.5, from a picture, uneven tokens": Case("CogVideoX 1.5", n_frames=4, beside=4, n_text=5),
    "CogVideoX 1.5, half precision": Case("CogVideoX 1.5", n_frames=4, dtype=torch.bfloat16),
}
CASES |= {
    "LTX-Video, even tokens": Case("LTX-Video"),
    "LTX-Video, uneven tokens, uneven heads": Case("LTX-Video", heads=5, width=9),
    "LTX-Video, short prompt, unguided": Case("LTX-Video", n_text=1, scale=1.0),
    "LTX-Video, long prompt": Case("LTX-Video", n_text=61, n_frames=1),
    "LTX-Video, a batch of two under guidance": Case("LTX-Video", batch=2),
    "LTX-Video, texts of unequal lengths": Case("LTX-Video", n_negative=2),
    "LTX-Video, from a picture in its place, uneven tokens": Case("LTX-Video", n_given=1, width=9),
    "LTX-Video, half precision": Case("LTX-Video", dtype=torch.bfloat16),
}
LATER = "LTX-Video from 0.9.5"  # given latents under noise that fades, in their place
CASES |= {
    f"{LATER}, even tokens": Case(LATER, n_given=1),
    f"{LATER}, from a text, a batch of two": Case(LATER, batch=2),
    f"{LATER}, after a clip, uneven tokens, uneven heads": Case(LATER, n_given=2, heads=5, width=9),
    f"{LATER}, short prompt, unguided": Case(LATER, n_given=1, n_text=1, scale=1.0),
    f"{LATER}, long prompt": Case(LATER, n_given=1, n_text=61, n_frames=2),
    f"{LATER}, half precision": Case(LATER, n_given=1, dtype=torch.bfloat16),
}
CASES |= {
    "Mochi, even tokens": Case("Mochi", text_width=16),
    "Mochi, uneven tokens, uneven heads": Case("Mochi", heads=5, width=10, n_text=5, text_width=16),
    "Mochi, short prompt, unguided": Case("Mochi", n_text=1, scale=1.0, text_width=16),
    "Mochi, long prompt": Case("Mochi", n_text=61, n_frames=1, text_width=16),
    "Mochi, a batch of two under guidance": Case("Mochi", batch=2, text_width=16),
    "Mochi, texts of unequal lengths": Case("Mochi", n_negative=2, text_width=16),
    "Mochi, no token at all": Case("Mochi", n_text=0, text_width=16),
    "Mochi, half precision": Case("Mochi", dtype=torch.bfloat16, text_width=16),
}
CASES |= {
    "MiniMax-H3, even tokens": Case("MiniMax-H3", n_text=6),
    "MiniMax-H3, uneven tokens, uneven heads": Case("MiniMax-H3", heads=5, width=10, n_text=5),
    "MiniMax-H3, short prompt": Case("MiniMax-H3", n_text=1),
    "MiniMax-H3, long prompt, a batch of two": Case("MiniMax-H3", batch=2, n_text=61, n_frames=1),
    "MiniMax-H3, half precision": Case("MiniMax-H3", dtype=torch.bfloat16),
}
CASES |= {
    "HunyuanVideo 1.5, even tokens": Case("HunyuanVideo 1.5"),
    "HunyuanVideo 1.5, uneven tokens, uneven heads": Case("HunyuanVideo 1.5", heads=5, width=5, n_text=5),
    "HunyuanVideo 1.5, short prompt, unguided": Case("HunyuanVideo 1.5", n_text=1, scale=1.0),
    "HunyuanVideo 1.5, long prompt": Case("HunyuanVideo 1.5", n_text=61, n_frames=1),
    "HunyuanVideo 1.5, letters, a batch of two": Case("HunyuanVideo 1.5", n_glyphs=3, batch=2),
    "HunyuanVideo 1.5, from a picture, uneven tokens": Case("HunyuanVideo 1.5", beside=5, clip=True, width=5),
    "HunyuanVideo 1.5, half precision": Case("HunyuanVideo 1.5", dtype=torch.bfloat16),
}
CASES |= {
    "SkyReels-V2, even tokens": Case("SkyReels-V2"),
    "SkyReels-V2, uneven tokens, uneven heads": Case("SkyReels-V2", heads=5, width=10),
    "SkyReels-V2, short prompt, unguided": Case("SkyReels-V2", n_text=1, scale=1.0),
    "SkyReels-V2, long prompt": Case("SkyReels-V2", n_text=61, n_frames=1),
    "SkyReels-V2, a batch of two": Case("SkyReels-V2", batch=2),
    "SkyReels-V2, told the frame rate, after given latents": Case("SkyReels-V2, told", n_given=2, width=10),
    "SkyReels-V2, without forcing": Case("SkyReels-V2 plain", width=10),
    "SkyReels-V2, half precision": Case("SkyReels-V2", dtype=torch.bfloat16),
}
PICTURED = "SkyReels-V2 I2V"  # a picture beside the latents, which CLIP sees; texts have 512 tokens, padded
_PICTURED = Case(PICTURED, beside=8, clip=True, n_text=512)
CASES |= {
    f"{PICTURED}, even tokens, long prompt": _PICTURED,
    f"{PICTURED}, uneven tokens, uneven heads": replace(_PICTURED, heads=5, width=10),
    f"{PICTURED}, a batch of two, unguided": replace(_PICTURED, batch=2, scale=1.0),
    f"{PICTURED}, half precision": replace(_PICTURED, dtype=torch.bfloat16),
}
WHOLE = "Stable Video Diffusion"  # a family whose windows are not shared, but for guidance
CASES |= {
    f"{WHOLE}, guided": Case(WHOLE, scale=3.0),
    f"{WHOLE}, a batch of two": Case(WHOLE, batch=2, scale=3.0),
    f"{WHOLE}, unguided": Case(WHOLE, scale=1.0),
    f"{WHOLE}, half precision": Case(WHOLE, scale=3.0, dtype=torch.bfloat16),
}
PAIRS = [
    (axes, case) for axes in AXES for case in CASES if AXES[axes].sequence == 1 or CASES[case].family != WHOLE
]
CONDITIONS = ("uneven tokens", "uneven heads", "short prompt", "long prompt")
ANY = "any"  # condition, or none
# What README's table has of every family, by axis and condition, but for what there is not: shares of a
# UNet's window, and short texts where all are padded.
PROMISED = {
    (family, axes, condition)
    for family in {case.split(", ")[0] for case in CASES}
    for axes in AXES
    for condition in (ANY, *CONDITIONS)
    if family != WHOLE or (AXES[axes].sequence == 1 and condition == ANY)
    if (family, condition) != (PICTURED, "short prompt")
}


def make_family(case):
    torch.manual_seed(0)
    family = make_whole(case)
    if case.quantise:
        quantise(family, case.quantise, "cpu")
    return family


def make_whole(case):
    if case.family == "Mochi":
        return make_mochi(case)
    if case.family.startswith("LTX-Video"):
        return make_ltx(case)
    if case.family == "HunyuanVideo 1.5":
        return make_hunyuan15(case)
    if case.family.startswith("SkyReels-V2"):
        return make_skyreels(case)
    if case.family.startswith("HunyuanVideo"):
        return make_hunyuan(case)
    if case.family.startswith("Open-Sora 2"):
        return make_opensora(case)
    if case.family == WHOLE:
        parts = dict.fromkeys(("vae", "image_encoder", "scheduler", "feature_extractor"))
        return StableVideoDiffusion(StableVideoDiffusionPipeline(unet=make_unet().to(case.dtype), **parts))
    if case.family == "MiniMax-H3":
        transformer = make_h3_transformer(case.heads, channels=4, text_dim=12, layers=LAYERS)
        return MiniMaxH3(MiniMaxH3.pipeline_class(transformer=transformer.to(case.dtype), device="cpu"))
    return make_cogvideox(case) if case.family.startswith("CogVideoX") else make_wan(case)


def make_wan(case):
    experts = [
        WanTransformer3DModel(
            patch_size=(1, 2, 2), num_attention_heads=case.heads, attention_head_dim=12,
            in_channels=case.in_channels, out_channels=4, text_dim=12, freq_dim=16, ffn_dim=32,
            num_layers=LAYERS, rope_max_seq_len=32, image_dim=8 if case.clip else None,
            added_kv_proj_dim=12 * case.heads if case.clip else None,
        ).to(case.dtype).eval()
        for _ in range(1 + (case.family == "Wan 2.2"))
    ]  # fmt: skip
    boundary = 0.9 if len(experts) > 1 else None  # so that the second predicts at 500 of 1000
    pipeline = WanPipeline(
        None, None, None, UniPCMultistepScheduler(), experts[0], experts[-1] if boundary else None,
        boundary_ratio=boundary, expand_timesteps=case.family == "Wan 2.2 TI2V",
    )  # fmt: skip
    return Wan(pipeline)


def make_cogvideox(case):
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=case.heads, attention_head_dim=16, in_channels=case.in_channels, out_channels=4,
        time_embed_dim=8, text_embed_dim=12, num_layers=LAYERS, sample_width=8, sample_height=8,
        sample_frames=9, patch_size=2, patch_size_t=2 if case.family == "CogVideoX 1.5" else None,
        max_text_seq_length=6, use_rotary_positional_embeddings=case.rotary,
        ofs_embed_dim=8 if case.beside and case.family == "CogVideoX 1.5" else None,
    )  # fmt: skip
    scheduler = CogVideoXDDIMScheduler()
    return CogVideoX(CogVideoXPipeline(None, None, None, transformer.to(case.dtype).eval(), scheduler))


def make_hunyuan(case):
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=case.heads, attention_head_dim=16,
        num_layers=LAYERS, num_single_layers=LAYERS, num_refiner_layers=1, text_embed_dim=12,
        pooled_projection_dim=12, rope_axes_dim=(4, 6, 6), guidance_embeds=case.family.endswith("told"),
    ).to(case.dtype).eval()  # fmt: skip
    return HunyuanVideo(HunyuanVideoPipeline(None, None, transformer, None, None, None, None))


def make_hunyuan15(case):
    transformer = HunyuanVideo15Transformer3DModel(
        in_channels=9, out_channels=4, num_attention_heads=case.heads, attention_head_dim=16,
        num_layers=LAYERS, num_refiner_layers=1, text_embed_dim=12, text_embed_2_dim=12, image_embed_dim=8,
        rope_axes_dim=(4, 6, 6),
    ).to(case.dtype).eval()  # fmt: skip
    guider = ClassifierFreeGuidance()
    return HunyuanVideo15(HunyuanVideo15.pipeline_class(transformer=transformer, guider=guider))


def make_skyreels(case):
    transformer = SkyReelsV2Transformer3DModel(
        num_attention_heads=case.heads, attention_head_dim=12, in_channels=case.in_channels, out_channels=4,
        text_dim=12, freq_dim=16, ffn_dim=32, num_layers=LAYERS, rope_max_seq_len=32,
        inject_sample_info=case.family.endswith("told"), image_dim=8 if case.clip else None,
        added_kv_proj_dim=12 * case.heads if case.clip else None,
    ).to(case.dtype).eval()  # fmt: skip
    kinds = {
        PICTURED: (SkyReelsImageToVideo, SkyReelsV2ImageToVideoPipeline),
        "SkyReels-V2 plain": (SkyReels, SkyReelsV2Pipeline),
    }
    family, pipeline = kinds.get(case.family, (SkyReelsForcing, SkyReelsV2DiffusionForcingPipeline))
    encoders = {"image_encoder": None, "image_processor": None} if case.family == PICTURED else {}
    return family(
        pipeline(
            tokenizer=None, text_encoder=None, vae=None, transformer=transformer,
            scheduler=UniPCMultistepScheduler(), **encoders,
        )
    )  # fmt: skip


def make_opensora(case):
    transformer = OpenSoraTransformer(
        in_channels=16, num_layers=LAYERS, num_single_layers=LAYERS, num_attention_heads=case.heads,
        attention_head_dim=16, axes_dims=(4, 6, 6), text_dim=12, pooled_dim=12,
        guidance_embed=case.family.endswith("told"),
    )  # fmt: skip
    return OpenSora(OpenSora.pipeline_class(transformer=transformer.to(case.dtype).eval(), device="cpu"))


def make_ltx(case):
    transformer = LTXVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=case.heads, attention_head_dim=16,
        cross_attention_dim=16 * case.heads, num_layers=LAYERS, caption_channels=12,
    )  # fmt: skip
    family, pipeline = (LTXCondition, LTXConditionPipeline) if case.family == LATER else (LTX, LTXPipeline)
    return family(pipeline(None, None, None, None, transformer.to(case.dtype).eval()))


def make_mochi(case):
    transformer = MochiTransformer3DModel(
        num_attention_heads=case.heads, attention_head_dim=16, num_layers=LAYERS, pooled_projection_dim=24,
        in_channels=4, text_embed_dim=16, time_embed_dim=16,
    )  # fmt: skip
    torch.nn.init.normal_(transformer.pos_frequencies)  # zeros as made, which would give no positions
    return Mochi(MochiPipeline(None, None, None, None, transformer.to(case.dtype).eval()))


def predict(family, case):
    generator = torch.Generator().manual_seed(7)
    shot = torch.randn((case.batch, 7, 4, 8, case.width), generator=generator).to(case.dtype)
    prompt, negative = torch.randn((2, case.batch, case.n_text, case.text_width), generator=generator).to(
        case.dtype
    )
    prompt, negative = {"tokens": prompt}, {"tokens": negative[:, : case.n_negative or case.n_text]}
    if case.family.startswith(("Open-Sora 2", "HunyuanVideo")):
        prompt, negative = ({**text, "pooled": text["tokens"][:, 0]} for text in (prompt, negative))
    if case.family == "HunyuanVideo 1.5":
        letters = torch.randn((case.batch, case.n_glyphs, 12), generator=generator).to(case.dtype)
        prompt, negative = ({**text, "glyphs": letters} for text in (prompt, negative))
    window = shot[:, case.start : case.start + case.n_frames]
    if case.family == WHOLE:
        picture = {
            "seen": prompt["tokens"][:, :1, :SEEN],
            "first": shot[:, :1],
            "told": torch.tensor([[6.0, 127.0, 0.02]] * case.batch).to(case.dtype),
        }
        return family.predict(window, torch.tensor(0.3), picture, picture, case.scale)
    if case.family == "MiniMax-H3":
        sound = torch.randn((case.batch, 2 * n_sound(case.n_frames), 32), generator=generator)
        window, at = add_sound(window.float(), sound), torch.tensor([0.5, 0.2])
        return family.predict(window, at, prompt, negative, case.scale)
    given = given_to(case, generator)
    at = torch.tensor(0.5 if case.family.startswith("Open-Sora 2") else 500)
    if case.n_given:
        telling = Telling(
            times=True,
            noise=GIVEN_NOISE if case.family.startswith("SkyReels") else 0,
            fading=IMAGE_NOISE if case.family == LATER else 0.0,
        )
        window, at = telling.of(window, at, case.n_given, shot[:, -case.n_given :])
    return family.predict(window, at, prompt | given, negative | given, case.scale)


def given_to(case, generator):
    """What a picture adds to both texts."""
    given = {"image": torch.randn((case.batch, 5, 8), generator=generator)} if case.clip else {}
    if case.beside:
        shape = (case.batch, case.n_frames, case.beside, 8, case.width)
        given[BESIDE] = torch.randn(shape, generator=generator).to(case.dtype)
    return given


class Rank:
    """What runs in a gang's process; the test calls its methods through a pipe."""

    def __init__(self):
        self.mesh, self.family, self.seen = None, None, []
        sys.addaudithook(lambda event, _: self.seen.append(event))

    def form(self, port, prefix, rank, axes):
        self.mesh = form_mesh("127.0.0.1", port, prefix, rank, axes, TIMEOUT_S)

    def exchange_by(self, exchange):
        self.mesh = replace(self.mesh, exchange=exchange)

    def predict(self, case, again=False):
        if not again:
            self.family = make_family(case)
        parallelise(self.family, self.mesh)
        return predict(self.family, case).float().numpy()

    def predict_masked(self, case):
        """What a gang makes of a text whose last token is said to be padding."""

        def mask(module, args, kwargs):
            allowed = torch.arange(case.n_text).lt(case.n_text - 1).expand(case.batch, -1)
            return args, {**kwargs, "encoder_attention_mask": allowed}

        self.family = make_family(case)
        parallelise(self.family, self.mesh)
        self.family.transformer.register_forward_pre_hook(mask, with_kwargs=True)
        return predict(self.family, case).float().numpy()

    def predict_counting(self, case):
        """How often DeepSpeed's attention was called."""
        calls, ulysses = [], load_ulysses()
        real = ulysses.forward
        ulysses.forward = lambda *args, **kwargs: (calls.append(1), real(*args, **kwargs))[1]
        try:
            self.predict(case)
        finally:
            ulysses.forward = real
        return len(calls)

    def predict_weighing(self, case):
        """Bytes that this rank sends to others, by the collective that carries them."""
        sent, rank = Counter(), dist.get_rank()
        real = {
            name: getattr(dist, name) for name in ("all_to_all_single", "all_gather", "batch_isend_irecv")
        }

        def all_to_all(output, input, output_split_sizes=None, input_split_sizes=None, group=None, **rest):
            sizes = input_split_sizes or [len(input) // group.size()] * group.size()
            row = input[0].numel() * input.element_size()
            sent["all_to_all"] += (sum(sizes) - sizes[group.rank()]) * row
            splits = (output_split_sizes, input_split_sizes)
            return real["all_to_all_single"](output, input, *splits, group=group, **rest)

        def all_gather(outs, x, group=None, **rest):
            sent["all_gather"] += (group.size() - 1) * x.nbytes
            return real["all_gather"](outs, x, group=group, **rest)

        def send(operations):
            sent["ring"] += sum(each.tensor.nbytes for each in operations if each.op is dist.isend)
            return real["batch_isend_irecv"](operations)

        dist.all_to_all_single, dist.all_gather, dist.batch_isend_irecv = all_to_all, all_gather, send
        try:
            self.predict(case)
        finally:
            for name, function in real.items():
                setattr(dist, name, function)
        return rank, dict(sent)

    def predict_beside_plain_instances(self, case):
        """Whether an instance made before, one made after, and the gang's own, released, are as stock."""
        before = make_family(case)
        stock = predict(before, case)
        shared = self.predict(case)
        plain = [predict(before, case), predict(make_family(case), case)]
        parallelise(self.family, None)
        plain.append(predict(self.family, case))
        return shared, [torch.equal(x, stock) for x in plain]

    def share_and_collect(self, length):
        x, sizes = torch.arange(2.0 * length).view(2, length, 1), shares(length, 2)
        share = shard(x, 1, sizes, self.mesh.sequence)
        return share.shape[1], torch.equal(gather(share, 1, sizes, self.mesh.sequence), x)

    def trade_there_and_back(self, tokens, heads):
        x = torch.randn(2, tokens[self.mesh.rank], sum(heads), 3)
        there = trade(x, 2, heads, 1, tokens, self.mesh.ulysses)
        back = trade(there, 1, tokens, 2, heads, self.mesh.ulysses)
        return tuple(there.shape), torch.equal(back, x)

    def chatter(self):
        return [event for event in self.seen if event in ("subprocess.Popen", "os.posix_spawn", "os.system")]

    def has_imported_deepspeed(self):
        return "deepspeed" in sys.modules


def serve(pipe, log):
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 1)
    os.dup2(1, 2)
    torch.set_num_threads(1)
    set_verbosity_error()  # a remark of diffusers' on half precision is not what the log is kept for
    rank = Rank()
    while True:
        name, args = pipe.recv()
        try:
            pipe.send(("done", getattr(rank, name)(*args)))
        except Exception as error:
            pipe.send((type(error).__name__, str(error)))


class Gang:
    """Processes that each serve one Rank; a call goes to all of them at once."""

    def __init__(self, size, folder):
        context = mp.get_context("forkserver")  # imports once, and forks before torch has made threads
        context.set_forkserver_preload(
            ["diffusers", "engine.families.cogvideox", "engine.families.wan", __name__]
        )
        self.logs = [folder / f"{os.getpid()}_{n}.log" for n in range(size)]
        self.pipes, self.processes = [], []
        for log in self.logs:
            ours, theirs = context.Pipe()
            self.processes.append(context.Process(target=serve, args=(theirs, log), daemon=True))
            self.processes[-1].start()
            theirs.close()
            self.pipes.append(ours)

    def call(self, name, *args, among=None):
        members = range(among or len(self.pipes))
        for n in members:
            self.ask(n, name, *args)
        return [self.answer(n) for n in members]

    def ask(self, n, name, *args):
        self.pipes[n].send((name, args))

    def answer(self, n):
        assert self.pipes[n].poll(90), f"process {n} does not answer:\n{self.logs[n].read_text()}"
        return self.pipes[n].recv()

    def form(self, store, prefix, members, axes=ULYSSES):
        for rank, n in enumerate(members):
            self.ask(n, "form", store.port, prefix, rank, axes)
        assert [self.answer(n) for n in members] == [("done", None)] * len(members)

    def end(self):
        for process in self.processes:
            process.kill()
            process.join()


@pytest.fixture(scope="module")
def store():
    return serve_rendezvous("127.0.0.1")


@pytest.fixture
def start(tmp_path):
    gangs = []
    yield lambda size: gangs.append(Gang(size, tmp_path)) or gangs[-1]
    for gang in gangs:
        gang.end()


@pytest.fixture(scope="module")
def gang(store, tmp_path_factory):
    gang = Gang(2, tmp_path_factory.mktemp("gang"))
    gang.form(store, "first", [0, 1])
    yield gang
    gang.end()


def done(answers):
    assert {kind for kind, _ in answers} == {"done"}, answers
    return [value for _, value in answers]


def assert_close(prediction, case):
    whole = predict(make_family(case), case)
    assert whole.std() > 0.01
    atol = 1e-5 if case.dtype == torch.float32 else 0.1
    prediction = torch.as_tensor(prediction)
    torch.testing.assert_close(prediction, whole.float(), rtol=0, atol=atol)
    return float((prediction - whole).abs().max())


@pytest.fixture(scope="module")
def contract():
    """The largest error by family, axes and condition: of README's table, each pair by itself."""
    return {}


@pytest.fixture(scope="module")
def gangs(store, tmp_path_factory):
    """A gang with some axes, formed once and kept; ranks are processes of one pool."""
    pool = Gang(4, tmp_path_factory.mktemp("gangs"))
    formed = []

    def gang(axes):
        if formed[-1:] != [axes]:
            formed.append(axes)
            pool.form(store, f"axes {len(formed)}", range(axes.ranks), axes)
        return pool

    yield gang
    pool.end()


@pytest.mark.parametrize(("axes", "case"), PAIRS)
def test_a_gang_equals_one_rank_and_all_its_ranks_hold_the_same_bits(gangs, axes, case, contract):
    gang = gangs(AXES[axes])
    first, *others = done(gang.call("predict", CASES[case], among=AXES[axes].ranks))
    assert all((first == other).all() for other in others)
    error = assert_close(first, CASES[case])
    family, *conditions = case.split(", ")
    if CASES[case].dtype == torch.float32:
        for condition in (ANY, *conditions):
            key = family, axes, condition
            contract[key] = max(error, contract.get(key, 0.0))


def test_readme_has_the_table_of_this_contract(contract):
    """The largest errors, as the tests above found them; LONGTAKE_CONTRACT=1 writes them anew."""
    columns = [*AXES, *CONDITIONS]
    families = dict.fromkeys(case.split(", ")[0] for case in CASES)
    missing = sorted(", ".join(key) for key in PROMISED - contract.keys())
    assert not missing, f"not run of this file: {'; '.join(missing)}"
    rows = [["family", *columns], ["---", *["---:"] * len(columns)]]
    for family in families:
        errors = [contract.get((family, axes, ANY)) for axes in AXES]
        for condition in CONDITIONS:
            of_all_axes = [contract[key] for key in PROMISED if key[::2] == (family, condition)]
            errors.append(max(of_all_axes, default=None))
        rows.append([family, *("-" if error is None else f"{error:.0e}" for error in errors)])
    found = told(rows)
    assert found[0] == rows[0] and [row[0] for row in found] == [row[0] for row in rows]
    assert max(contract.values()) <= 1e-5
    cells = [cell for row in found[2:] for cell in row[1:]]
    assert all(float(cell) <= 1e-5 for cell in cells if cell != "-")
    assert cells.count("-") == sum(row.count("-") for row in rows)


def test_attention_of_equal_shares_goes_through_deepspeed_and_of_others_through_one_fused_exchange(gang):
    assert done(gang.call("predict_counting", Case())) == [LAYERS, LAYERS]
    assert done(gang.call("predict_counting", Case(n_text=5))) == [0, 0]


def test_a_fused_exchange_asked_for_equal_shares_computes_the_bits_of_deepspeeds(gang):
    by_deepspeed = done(gang.call("predict", Case()))
    done(gang.call("exchange_by", FUSED))
    try:
        assert done(gang.call("predict_counting", Case())) == [0, 0]
        fused = done(gang.call("predict", Case()))
    finally:
        done(gang.call("exchange_by", DEEPSPEED))
    assert all((one == other).all() for one, other in zip(by_deepspeed, fused, strict=True))


def bytes_of(axes, case):
    """What each rank sends by the published formulas, S tokens, h width, N ranks, L layers, b bytes."""
    n, r, u = axes.sequence, axes.ring, axes.ulysses
    tokens, width, branches = case.n_text + 16 * case.n_frames, 16 * case.heads, 2 // axes.cfg
    share = branches * case.batch * tokens * width / n * 4 * LAYERS  # S·h/N·b·L
    latents = case.batch * case.n_frames * 4 * 8 * 8 * 4
    video = branches * case.batch * 16 * case.n_frames * 16 * 4  # what tokens are narrowed to, collected
    sent = {
        "all_to_all": 4 * share * (u - 1) / u,
        "ring": 2 * share * (r - 1),
        "all_gather": latents * (axes.cfg - 1) + video / n * (n - 1),
    }
    return {name: round(size) for name, size in sent.items() if round(size)}


def shape_of(case):
    """The window as planning sees it."""
    blocks = (Blocks(LAYERS, 12 * (16 * case.heads) ** 2, joint=True),)
    denoiser = Denoiser(case.heads, 16 * case.heads, (1, 2, 2), blocks, one_batch=True)
    sides, scale, guided = (case.n_frames, 8, case.width), 8, case.scale > 1
    return Shape("tiny", "", denoiser, 1, "float32", *sides, 4, scale, case.n_text, guided)


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
def test_ranks_send_as_many_bytes_as_the_formulas_say(gangs, axes):
    case = Case(n_text=0 if axes.sequence > 1 else 6)  # text makes ranks hold unequal shares of the video
    planned = [
        2 // axes.cfg * each for each in sent_bytes(shape_of(case), axes)
    ]  # of both branches' forwards
    for _, sent in done(gangs(axes).call("predict_weighing", case, among=axes.ranks)):
        assert sent == bytes_of(axes, case)
        assert [sent.get(name, 0) for name in ("all_to_all", "ring")] == planned


def test_other_instances_in_the_process_stay_as_stock_and_a_released_one_returns_to_it(gang):
    for shared, plain in done(gang.call("predict_beside_plain_instances", Case())):
        assert_close(shared, Case())
        assert plain == [True, True, True]


def test_one_instance_takes_windows_of_other_lengths(gang):
    done(gang.call("predict", Case()))
    case = Case(n_frames=2, n_text=4)
    assert_close(done(gang.call("predict", case, True))[0], case)


@pytest.mark.parametrize("length", [2, 7, 8])
def test_gathering_shares_gives_the_whole_back(gang, length):
    assert done(gang.call("share_and_collect", length)) == [(n, True) for n in shares(length, 2)]


@pytest.mark.parametrize("tokens, heads", [((4, 4), (2, 2)), ((5, 4), (3, 2)), ((1, 6), (1, 4))])
def test_what_is_traded_comes_back_as_it_was(gang, tokens, heads):
    answers = done(gang.call("trade_there_and_back", tokens, heads))
    assert answers == [((2, sum(tokens), own, 3), True) for own in heads]


def test_what_cannot_be_shared_is_refused_before_anything_is_sent_and_the_gang_lives_on(gang):
    for kind, message in gang.call("predict", Case(heads=1)):
        assert kind == "ValueError"
        assert "ulysses 2 ranks share 1 attention heads" in message and "use ulysses up to 1" in message
    assert_close(done(gang.call("predict", Case()))[0], Case())


@pytest.mark.parametrize("axes", ["ulysses 2", "ring 2", "cfg 2 × ulysses 2"])
def test_a_family_whose_windows_are_not_shared_is_refused_by_its_name_and_the_axes(gangs, axes):
    for kind, message in gangs(AXES[axes]).call("predict", Case(WHOLE), among=AXES[axes].ranks):
        assert kind == "ValueError"
        assert "StableVideoDiffusion is not shared out over ring" in message and "use cfg up to 2" in message


def test_a_mask_that_masks_is_refused_by_all_ranks_and_the_gang_lives_on(gangs):
    gang, case = gangs(ULYSSES), Case("Mochi", scale=1.0, text_width=16)
    for kind, message in gang.call("predict_masked", case, among=2):
        assert kind == "ValueError" and "trim the prompt" in message, message
    assert_close(done(gang.call("predict", case, among=2))[0], case)


def test_deepspeed_says_nothing_and_starts_no_compiler(gang):
    done(gang.call("predict", Case()))
    assert done(gang.call("has_imported_deepspeed")) == [True, True]
    assert done(gang.call("chatter")) == [[], []]
    assert [log.read_text() for log in gang.logs] == ["", ""]


def test_a_gang_of_one_forms_no_group_and_never_imports_deepspeed(start, store):
    gang = start(1)
    gang.form(store, "alone", [0], Axes(1))
    assert_close(done(gang.call("predict", Case()))[0], Case())
    assert done(gang.call("has_imported_deepspeed")) == [False]


def test_after_a_peer_was_killed_the_survivor_raises_and_forms_anew_with_another(start, store):
    gang = start(3)
    gang.form(store, "gen0", [0, 1])
    gang.ask(0, "predict", Case())
    time.sleep(1.0)  # so that it waits for rank 1 inside a collective
    assert not gang.pipes[0].poll(0)
    gang.processes[1].kill()
    start = time.monotonic()
    kind, message = gang.answer(0)
    assert kind != "done" and "Connection" in message, message
    assert time.monotonic() - start < 5.0 < TIMEOUT_S
    gang.form(store, "gen1", [0, 2])
    gang.ask(0, "predict", Case(), True)
    gang.ask(2, "predict", Case())
    first, second = done([gang.answer(0), gang.answer(2)])
    assert (first == second).all()
    assert_close(first, Case())


def test_no_group_leaves_the_instance_bit_identical():
    family = make_family(Case())
    parallelise(family, None)
    assert torch.equal(predict(family, Case()), predict(make_family(Case()), Case()))


def test_a_mesh_of_none_attends_as_scaled_dot_product_attention_does():
    q, k, v = torch.randn(3, 2, 7, 4, 8, generator=torch.Generator().manual_seed(0))
    plain = torch.nn.functional.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)))
    assert torch.equal(attend(q, k, v, None, Split((7,), 4, 1, 1)), plain.transpose(1, 2))


@given(queries=st.integers(1, 9), keys=st.integers(2, 20), share=st.floats(0, 1), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_attention_to_two_sets_of_keys_merges_to_attention_to_both(queries, keys, share, seed):
    generator = torch.Generator().manual_seed(seed)
    q = 3 * torch.randn(2, queries, 3, 8, generator=generator)
    k, v = 3 * torch.randn(2, 2, keys, 3, 8, generator=generator)
    cut = min(max(round(share * keys), 1), keys - 1)
    parts = [attention_with_lse(q, k[:, i], v[:, i]) for i in (slice(cut), slice(cut, None))]
    out, lse = merge(*parts)
    torch.testing.assert_close(out, plain_attention(q, k, v), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(lse, attention_with_lse(q, k, v)[1], rtol=1e-5, atol=1e-5)


def test_a_rank_outside_the_gang_and_axes_of_several_gangs_are_refused():
    with pytest.raises(ValueError, match="rank 2 is not in a gang of 2"):
        form_mesh("127.0.0.1", 1, "p", 2, ULYSSES, 1.0)
    with pytest.raises(ValueError, match=r"window 2 .* one gang predicts one window at a time"):
        form_mesh("127.0.0.1", 1, "p", 0, Axes(2, window=2), 1.0)


def test_a_peer_that_never_comes_is_an_error_after_the_timeout(store):
    with pytest.raises(RuntimeError, match=r"(?i)time"):
        form_mesh("127.0.0.1", store.port, "lonely", 0, ULYSSES, 0.5)


@given(n=st.integers(1, 30000), heads=st.integers(1, 60), ring=st.integers(1, 5), ulysses=st.integers(1, 9))
def test_shares_are_whole_balanced_and_refused_where_a_rank_would_hold_nothing(n, heads, ring, ulysses):
    tokens = shares(n, ring * ulysses)
    assert sum(tokens) == n and max(tokens) - min(tokens) <= 1 and list(tokens) == sorted(tokens)[::-1]
    if ulysses > heads or ring * ulysses > n:
        with pytest.raises(ValueError, match="each needs one"):
            Split(tokens, heads, ring, ulysses)
        return
    split = Split(tokens, heads, ring, ulysses)
    assert sum(split.heads) == heads and min(split.heads) > 0
    assert sum(split.chunks) == n and sum((split.row(place) for place in range(ring)), ()) == tokens


@given(sizes=st.tuples(*[st.integers(1, 4)] * 4))
def test_every_rank_has_one_place_and_one_group_of_peers_on_each_axis(sizes):
    cfg = min(sizes[0], 2)
    axes = Axes(cfg * sizes[1] * sizes[2] * sizes[3], cfg, *sizes[1:])
    places = [tuple(axes.place(rank).values()) for rank in range(axes.ranks)]
    assert len(set(places)) == axes.ranks
    for name, size in zip(("cfg", "window", "ring", "ulysses"), axes.sizes, strict=True):
        groups = axes.peers(name)
        assert sorted(sum(groups, ())) == list(range(axes.ranks)) and {len(g) for g in groups} == {size}
        assert all(axes.place(g[i])[name] == i for g in groups for i in range(size))
    assert all(b - a == 1 for group in axes.peers("ulysses") for a, b in itertools.pairwise(group))


@pytest.mark.parametrize(
    "sizes, said",
    [
        (
            {"ranks": 8, "cfg": 2, "ulysses": 3},
            "cfg 2 × window 1 × ring 1 × ulysses 3 = 6 ranks, but there are 8",
        ),
        ({"ranks": 3, "cfg": 3}, "cfg at most 2"),
        ({"ranks": 0, "ring": 0}, "1 rank or more"),
    ],
)
def test_axes_print_the_equation_that_does_not_hold(sizes, said):
    with pytest.raises(ValueError, match=said):
        Axes(**sizes)
