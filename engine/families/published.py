"""Well-known published checkpoints, by their model cards: what a job can be planned for without the weights.

A checkpoint is listed where its family is known and its configuration read (`published`), so that this table
may be ahead of the families. Parameters were counted on the configurations; licences, trained sizes and
defaults are those of the model cards on the hub. Decides: nothing that a run needs. No torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine.families import published_parts as parts
from engine.families.card import Card
from engine.families.entry import Holds, Making
from engine.families.facts import ModelFacts, card_of, facts_of
from engine.families.known import FAMILIES
from engine.families.published_parts import Config

APACHE = "Apache-2.0"
OPEN_SOURCE = (
    APACHE,
    "MIT",
)  # of the licences named here; all others restrict who may use the weights or how

# Billions of parameters of encoders: T5-XXL and UMT5-XXL alone or beside a CLIP, Llama 3 8B beside a CLIP,
# Qwen2.5-VL 7B beside a small ByT5, and these beside SigLIP of pictures, Qwen3-VL 32B, and CLIP ViT-H of
# pictures.
_T5, _T5_CLIP, _UMT5, _UMT5_CLIP, _LLAMA_CLIP = 4.76, 4.88, 5.68, 6.31, 7.62
_QWEN_BYT5, _QWEN_BYT5_SIGLIP, _QWEN_VL_32, _CLIP_H = 7.29, 7.72, 32.0, 0.63
_HUNYUAN_VAE, _WAN_VAE = 0.246, 0.127
_UNET_LINEAR = 0.542  # of Stable Video Diffusion's parameters; the others are convolutions'


@dataclass(frozen=True)
class Published:
    """A checkpoint: its name here and on the hub, and its family.

    Parameters are in billions, of all experts and of all text and image encoders. Width, height, frames and
    fps are those it was trained on, at most; steps and guidance its card's. parts are its configurations as
    far as facts and costs are read from them.
    """

    name: str
    hub: str
    family: str
    denoiser_b: float
    text_b: float
    vae_b: float
    width_px: int
    height_px: int
    frames: int
    fps: int
    n_steps: int
    guidance_scale: float
    licence: str
    parts: Mapping[str, Config]

    @property
    def is_open_source(self) -> bool:
        """Whether anybody may use the weights for anything."""
        return self.licence in OPEN_SOURCE

    @property
    def denoiser(self) -> Config:
        """The configuration of what predicts."""
        return self.parts[FAMILIES[self.family].denoiser]

    @property
    def decoding(self) -> Holds:
        """What decoding a shot holds; nothing where nobody counted it."""
        return FAMILIES[self.family].decoding(self._configurations)

    @property
    def making(self) -> Making:
        """What decoding a pixel computes; nothing where nobody counted it."""
        return FAMILIES[self.family].making(self._configurations)

    @property
    def parameters(self) -> int:
        """Of what predicts."""
        return round(self.denoiser_b * 1e9)

    @property
    def linear(self) -> int:
        """Of them, those of linear layers, as counted: all but a thousandth at most, save in a UNet."""
        unet = FAMILIES[self.family].denoiser == "unet"
        return round(self.parameters * (_UNET_LINEAR if unet else 1.0))

    @property
    def facts(self) -> ModelFacts:
        """What planning must know. Raises ValueError where its family does not read it, or not yet."""
        return facts_of(self.family, self._configurations)

    @property
    def card(self) -> Card:
        """What a profile takes from it: its family's card, with what is known of this checkpoint."""
        return replace(
            card_of(self.family, self._configurations),
            n_steps=self.n_steps,
            guidance_scale=self.guidance_scale,
            width_px=self.width_px,
            height_px=self.height_px,
            fps_num=self.fps,
        )

    @property
    def _configurations(self) -> dict[str, dict[str, Any]]:
        return {name: dict(config) for name, config in self.parts.items()}


def published() -> dict[str, Published]:
    """The checkpoints that this longtake can render, by name."""
    return {each.name: each for each in TABLE if _is_read(each)}


def _is_read(checkpoint: Published) -> bool:
    if checkpoint.family not in FAMILIES:
        return False
    try:
        return bool(checkpoint.facts)
    except ValueError:
        return False


_COG = "CogVideoX licence"
_TENCENT = "Tencent Hunyuan community licence"
_SKYWORK = "Skywork community licence"
_STABILITY = "Stability AI community licence"
_LTX_LICENCE = "LTX-Video open weights licence"
_S720, _S480, _S1360 = (1280, 720), (832, 480), (1360, 768)
_WAN_1_3 = parts.wan(parts.WAN, 12, 30, 8960)
_WAN_14 = parts.wan(parts.WAN, 40, 40, 13824)
_WAN_5 = parts.wan(parts.WAN, 24, 30, 14336, in_channels=48, out_channels=48) | parts.TOKEN_TIMES
_WAN_I2V = parts.wan(parts.WAN, 40, 40, 13824, in_channels=36, image_dim=1280, added_kv_proj_dim=5120)
_CLIP_OF_TWO = {"image_dim": 1280, "added_kv_proj_dim": 5120, "pos_embed_seq_len": 514}
_WAN_FLF2V = parts.wan(parts.WAN, 40, 40, 13824, in_channels=36, **_CLIP_OF_TWO)
_WAN_I2V_22 = parts.wan(parts.WAN, 40, 40, 13824, in_channels=36) | parts.EXPERTS_I2V
_SKY_1_3, _SKY_14 = parts.wan(parts.SKYREELS, 12, 30, 8960), parts.wan(parts.SKYREELS, 40, 40, 13824)
_SKY_I2V = parts.wan(parts.SKYREELS, 40, 40, 13824, in_channels=36, image_dim=1280, added_kv_proj_dim=5120)
_COG_15: dict[str, Any] = {"patch_size_t": 2, "sample_frames": 81, "sample_height": 300, "sample_width": 300}

# Families, by the pipeline class of their folders.
COGVIDEOX, COGVIDEOX_I2V = "CogVideoXPipeline", "CogVideoXImageToVideoPipeline"
WAN, WAN_I2V, OPENSORA = "WanPipeline", "WanImageToVideoPipeline", "OpenSoraPipeline"
HUNYUAN, HUNYUAN_15 = "HunyuanVideoPipeline", "HunyuanVideo15Pipeline"
HUNYUAN_15_I2V = "HunyuanVideo15ImageToVideoPipeline"
SKYREELS, SKYREELS_I2V = "SkyReelsV2Pipeline", "SkyReelsV2ImageToVideoPipeline"
SKYREELS_DF, SVD = "SkyReelsV2DiffusionForcingPipeline", "StableVideoDiffusionPipeline"
LTX_CONDITION = "LTXConditionPipeline"
LTX, MOCHI, MINIMAX_H3 = "LTXPipeline", "MochiPipeline", "MiniMaxH3ModularPipeline"

# name, hub, family; billions of denoiser, text, vae; size; frames, fps; steps, guidance; licence; parts
# fmt: off
TABLE: tuple[Published, ...] = (
    Published("CogVideoX-2B", "zai-org/CogVideoX-2b", COGVIDEOX, 1.69, _T5, 0.216, 720, 480, 49, 8,
              50, 6.0, APACHE, parts.cogvideox(30, 30)),
    Published("CogVideoX-5B", "zai-org/CogVideoX-5b", COGVIDEOX, 5.57, _T5, 0.216, 720, 480, 49, 8,
              50, 6.0, _COG, parts.cogvideox(48, 42)),
    Published("CogVideoX-5B-I2V", "zai-org/CogVideoX-5b-I2V", COGVIDEOX_I2V, 5.57, _T5, 0.216, 720,
              480, 49, 8, 50, 6.0, _COG, parts.cogvideox(48, 42, in_channels=32)),
    Published("CogVideoX1.5-5B", "zai-org/CogVideoX1.5-5B", COGVIDEOX, 5.57, _T5, 0.216, *_S1360,
              81, 16, 50, 6.0, _COG, parts.cogvideox(48, 42, **_COG_15)),
    Published("CogVideoX1.5-5B-I2V", "zai-org/CogVideoX1.5-5B-I2V", COGVIDEOX_I2V, 5.57, _T5,
              0.216, *_S1360, 81, 16, 50, 6.0, _COG, parts.cogvideox(48, 42, **_COG_15, in_channels=32,
              ofs_embed_dim=512)),
    Published("Wan2.1-1.3B", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", WAN, 1.42, _UMT5, _WAN_VAE, *_S480,
              81, 16, 50, 5.0, APACHE, _WAN_1_3),
    Published("Wan2.1-14B", "Wan-AI/Wan2.1-T2V-14B-Diffusers", WAN, 14.29, _UMT5, _WAN_VAE, *_S720,
              81, 16, 50, 5.0, APACHE, _WAN_14),
    Published("Wan2.1-I2V-14B-480P", "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers", WAN_I2V, 16.40,
              _UMT5_CLIP, _WAN_VAE, *_S480, 81, 16, 50, 5.0, APACHE, _WAN_I2V),
    Published("Wan2.1-I2V-14B-720P", "Wan-AI/Wan2.1-I2V-14B-720P-Diffusers", WAN_I2V, 16.40,
              _UMT5_CLIP, _WAN_VAE, *_S720, 81, 16, 50, 5.0, APACHE, _WAN_I2V),
    Published("Wan2.1-FLF2V-14B", "Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers", WAN_I2V, 16.40,
              _UMT5_CLIP, _WAN_VAE, *_S720, 81, 16, 50, 5.0, APACHE, _WAN_FLF2V),
    Published("Wan2.2-A14B", "Wan-AI/Wan2.2-T2V-A14B-Diffusers", WAN, 28.58, _UMT5, _WAN_VAE,
              *_S720, 81, 16, 40, 4.0, APACHE, _WAN_14 | parts.EXPERTS),
    Published("Wan2.2-I2V-A14B", "Wan-AI/Wan2.2-I2V-A14B-Diffusers", WAN_I2V, 28.58, _UMT5,
              _WAN_VAE, *_S720, 81, 16, 40, 3.5, APACHE, _WAN_I2V_22),
    Published("Wan2.2-5B", "Wan-AI/Wan2.2-TI2V-5B-Diffusers", WAN, 5.00, _UMT5, 0.705, 1280, 704,
              121, 24, 50, 5.0, APACHE, _WAN_5),
    Published("HunyuanVideo", "hunyuanvideo-community/HunyuanVideo", HUNYUAN, 12.82, _LLAMA_CLIP,
              _HUNYUAN_VAE, *_S720, 129, 24, 50, 6.0, _TENCENT, parts.HUNYUAN),
    Published("HunyuanVideo-1.5", "hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_t2v",
              HUNYUAN_15, 8.33, _QWEN_BYT5, 1.26, *_S480, 121, 24, 50, 6.0, _TENCENT,
              parts.HUNYUAN_15),
    Published("HunyuanVideo-1.5-I2V", "hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_i2v",
              HUNYUAN_15_I2V, 8.33, _QWEN_BYT5_SIGLIP, 1.26, *_S480, 121, 24, 50, 6.0, _TENCENT,
              parts.HUNYUAN_15),
    Published("Open-Sora-2", "hpcai-tech/Open-Sora-v2", OPENSORA, 11.89, _T5_CLIP, _HUNYUAN_VAE,
              768, 768, 129, 24, 50, 7.5, APACHE, parts.OPENSORA),
    Published("LTX-Video-2B", "Lightricks/LTX-Video", LTX, 1.92, _T5, 0.419, 704, 480, 161, 24, 50,
              3.0, _LTX_LICENCE, parts.LTX),
    Published("LTX-Video-2B-0.9.5", "Lightricks/LTX-Video-0.9.5", LTX_CONDITION, 1.92, _T5, 1.247, 768,
              512, 161, 24, 40, 3.0, _LTX_LICENCE, parts.LTX_095),
    Published("Mochi-1", "genmo/mochi-1-preview", MOCHI, 10.03, _T5, 0.460, 848, 480, 163, 30, 64,
              4.5, APACHE, parts.MOCHI),
    Published("SkyReels-V2-DF-1.3B", "Skywork/SkyReels-V2-DF-1.3B-540P-Diffusers", SKYREELS_DF,
              1.42, _UMT5, _WAN_VAE, 960, 544, 97, 24, 30, 6.0, _SKYWORK, _SKY_1_3),
    Published("SkyReels-V2-DF-14B", "Skywork/SkyReels-V2-DF-14B-540P-Diffusers", SKYREELS_DF,
              14.29, _UMT5, _WAN_VAE, 960, 544, 97, 24, 30, 6.0, _SKYWORK, _SKY_14),
    Published("SkyReels-V2-14B", "Skywork/SkyReels-V2-T2V-14B-540P-Diffusers", SKYREELS, 14.29,
              _UMT5, _WAN_VAE, 960, 544, 97, 24, 50, 6.0, _SKYWORK, _SKY_14),
    Published("SkyReels-V2-I2V-14B", "Skywork/SkyReels-V2-I2V-14B-540P-Diffusers", SKYREELS_I2V,
              16.40, _UMT5_CLIP, _WAN_VAE, 960, 544, 97, 24, 50, 5.0, _SKYWORK, _SKY_I2V),
    Published("SVD", "stabilityai/stable-video-diffusion-img2vid", SVD, 1.525, _CLIP_H, 0.098,
              1024, 576, 14, 7, 25, 3.0, _STABILITY, parts.SVD_14),
    Published("SVD-XT", "stabilityai/stable-video-diffusion-img2vid-xt", SVD, 1.525, _CLIP_H,
              0.098, 1024, 576, 25, 7, 25, 3.0, _STABILITY, parts.SVD),
    Published("MiniMax-H3", "MiniMaxAI/MiniMax-H3", MINIMAX_H3, 33.12, _QWEN_VL_32,
              2.60, 1344, 768, 124, 24, 8, 1.0, "MiniMax H3 community licence", parts.MINIMAX_H3),
)
# fmt: on
