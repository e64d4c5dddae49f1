"""Configurations of published checkpoints, as far as facts and costs are read from them. No torch.

By part, as in their folders; "pipeline" is what model_index.json says. Decides: nothing.
"""

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]


def cogvideox(heads: int, layers: int, **more: Any) -> dict[str, Config]:
    transformer = {
        "_class_name": "CogVideoXTransformer3DModel",
        "num_attention_heads": heads,
        "attention_head_dim": 64,
        "num_layers": layers,
        "in_channels": 16,
        "out_channels": 16,
        "patch_size": 2,
        "patch_size_t": None,
        "sample_frames": 49,
        "sample_height": 60,
        "sample_width": 90,
        "max_text_seq_length": 226,
        "text_embed_dim": 4096,
        "temporal_compression_ratio": 4,
        "use_rotary_positional_embeddings": heads > 30,  # all but the 2B
    }
    vae = {
        "block_out_channels": [128, 256, 256, 512],
        "latent_channels": 16,
        "temporal_compression_ratio": 4,
    }
    return {"transformer": transformer | more, "vae": vae, "pipeline": {}}


def wan(kind: str, heads: int, layers: int, ffn: int, **more: Any) -> dict[str, Config]:
    transformer = {
        "_class_name": kind,
        "num_attention_heads": heads,
        "attention_head_dim": 128,
        "num_layers": layers,
        "ffn_dim": ffn,
        "in_channels": 16,
        "out_channels": 16,
        "patch_size": [1, 2, 2],
        "text_dim": 4096,
        "image_dim": None,
    }
    channels = more.get("out_channels", 16)
    vae = {"z_dim": channels, "scale_factor_temporal": 4, "scale_factor_spatial": 8 if channels == 16 else 16}
    if channels != 16:  # 2.2's own, which sees pictures in patches
        vae |= {"is_residual": True, "base_dim": 160, "decoder_base_dim": 256}
    return {"transformer": transformer | more, "vae": vae, "pipeline": {}}


WAN, SKYREELS = "WanTransformer3DModel", "SkyReelsV2Transformer3DModel"
EXPERTS = {"pipeline": {"transformer_2": ["diffusers", WAN], "boundary_ratio": 0.875}}
EXPERTS_I2V = {"pipeline": {"transformer_2": ["diffusers", WAN], "boundary_ratio": 0.9}}
TOKEN_TIMES = {"pipeline": {"expand_timesteps": True}}
_HUNYUAN_VAE: Config = {
    "latent_channels": 16,
    "spatial_compression_ratio": 8,
    "temporal_compression_ratio": 4,
}
SVD: dict[str, Config] = {
    "unet": {
        "_class_name": "UNetSpatioTemporalConditionModel",
        "block_out_channels": [320, 640, 1280, 1280],
        "num_attention_heads": [5, 10, 20, 20],
        "in_channels": 8,
        "out_channels": 4,
        "sample_size": 96,
        "num_frames": 25,
    },
    "vae": {"block_out_channels": [128, 256, 512, 512], "latent_channels": 4},
    "pipeline": {},
}
SVD_14: dict[str, Config] = SVD | {"unet": {**SVD["unet"], "num_frames": 14}}
HUNYUAN: dict[str, Config] = {
    "transformer": {
        "_class_name": "HunyuanVideoTransformer3DModel",
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "num_layers": 20,
        "num_single_layers": 40,
        "mlp_ratio": 4.0,
        "in_channels": 16,
        "patch_size": 2,
        "patch_size_t": 1,
        "guidance_embeds": True,
        "text_embed_dim": 4096,
    },
    "vae": _HUNYUAN_VAE,
    "pipeline": {},
}
HUNYUAN_15: dict[str, Config] = {
    "transformer": {
        "_class_name": "HunyuanVideo15Transformer3DModel",
        "num_attention_heads": 16,
        "attention_head_dim": 128,
        "num_layers": 54,
        "mlp_ratio": 4.0,
        "in_channels": 65,
        "out_channels": 32,
        "patch_size": 1,
        "patch_size_t": 1,
        "text_embed_dim": 3584,
        "task_type": "t2v",
        "use_meanflow": False,
    },
    "vae": {"latent_channels": 32, "spatial_compression_ratio": 16, "temporal_compression_ratio": 4},
    "pipeline": {},
}
OPENSORA: dict[str, Config] = {
    "transformer": {
        "_class_name": "OpenSoraTransformer",
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "num_layers": 19,
        "num_single_layers": 38,
        "in_channels": 64,
        "patch_size": 2,
        "guidance_embed": False,
        "cond_embed": True,
        "text_dim": 4096,
    },
    "vae": _HUNYUAN_VAE,
    "pipeline": {},
}
LTX: dict[str, Config] = {
    "transformer": {
        "_class_name": "LTXVideoTransformer3DModel",
        "num_attention_heads": 32,
        "attention_head_dim": 64,
        "num_layers": 28,
        "in_channels": 128,
        "out_channels": 128,
        "patch_size": 1,
        "patch_size_t": 1,
        "cross_attention_dim": 2048,
        "caption_channels": 4096,
    },
    "vae": {
        "latent_channels": 128,
        "patch_size": 4,
        "patch_size_t": 1,
        "spatio_temporal_scaling": [True, True, True, False],
        "spatial_compression_ratio": 32,
        "temporal_compression_ratio": 8,
    },
    "pipeline": {},
}
LTX_095: dict[str, Config] = LTX | {
    "vae": {**LTX["vae"], "spatio_temporal_scaling": [True] * 4, "timestep_conditioning": True},
}
MOCHI: dict[str, Config] = {
    "transformer": {
        "_class_name": "MochiTransformer3DModel",
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "num_layers": 48,
        "pooled_projection_dim": 1536,
        "in_channels": 12,
        "patch_size": 2,
        "text_embed_dim": 4096,
        "max_sequence_length": 256,
    },
    "vae": {
        "latent_channels": 12,
        "spatial_expansions": [2, 2, 2],
        "temporal_expansions": [1, 2, 3],
        "encoder_block_out_channels": [64, 128, 256, 384],
        "decoder_block_out_channels": [128, 256, 512, 768],
    },
    "pipeline": {},
}
MINIMAX_H3: dict[str, Config] = {
    "transformer": {
        "_class_name": "MiniMaxH3Transformer3DModel",
        "num_attention_heads": 56,
        "attention_head_dim": 128,
        "hidden_size": 5376,
        "num_layers": 50,
        "num_refiner_layers": 2,
        "ffn_dim": 14336,
        "in_channels": 24,
        "audio_in_channels": 32,
        "patch_size": [1, 2, 2],
        "text_dim": 5120,
    },
    "vae": {
        "latent_channels": 24,
        "spatial_downsample_factors": [2, 2, 2, 2, 1, 1],
        "temporal_downsample_factors": [1, 2, 2, 1, 1, 1],
        "clip_length": 17,
        "token_drop": 3,
    },
    "pipeline": {},
}
