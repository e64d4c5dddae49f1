"""A Stable Video Diffusion of the real architecture with tiny random weights, as a diffusers folder."""

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

FRAMES, SEEN = 6, 8  # of a window; numbers that CLIP gives for a picture


def make_unet():
    return UNetSpatioTemporalConditionModel(
        in_channels=8, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        num_attention_heads=(2, 4), cross_attention_dim=SEEN, num_frames=FRAMES,
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=24,
    ).eval()  # fmt: skip


def make_vae():
    return AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 4, latent_channels=4
    ).eval()


def make_pipeline():
    torch.manual_seed(0)
    clip = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, projection_dim=SEEN, num_hidden_layers=1, num_attention_heads=2,
        image_size=224, patch_size=32,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(
        prediction_type="v_prediction", timestep_type="continuous", timestep_spacing="leading",
        use_karras_sigmas=True, sigma_min=0.002, sigma_max=700.0, steps_offset=1,
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, interpolation_type="linear",
    )  # fmt: skip
    pipeline = StableVideoDiffusionPipeline(
        vae=make_vae(), image_encoder=CLIPVisionModelWithProjection(clip).eval(), unet=make_unet(),
        scheduler=scheduler, feature_extractor=CLIPImageProcessor(crop_size=224, size=224),
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
