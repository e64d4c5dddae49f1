"""Autoencoders of the real architectures with tiny random weights."""

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLLTXVideo,
    AutoencoderKLMochi,
    AutoencoderKLWan,
)


def make_cogvideox():
    return AutoencoderKLCogVideoX(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=2,
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
    ).eval()  # fmt: skip


def make_wan(patch=1):
    """Of Wan 2.1 and SkyReels-V2, or of Wan 2.2, which draws patches of 2 x 2 pixels and has shortcuts."""
    patched = {
        "is_residual": True, "patch_size": patch, "in_channels": 3 * patch**2, "out_channels": 3 * patch**2,
        "scale_factor_spatial": 8 * patch,
    }  # fmt: skip
    return AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
        temperal_downsample=[False, True, True], **(patched if patch > 1 else {}),
    ).eval()  # fmt: skip


def make_hunyuan(channels):
    """Of HunyuanVideo and Open-Sora 2."""
    return AutoencoderKLHunyuanVideo(
        latent_channels=channels, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2
    ).eval()


def make_hunyuan15(channels, widths=(8, 8, 16, 16, 16)):
    return AutoencoderKLHunyuanVideo15(
        latent_channels=channels, block_out_channels=widths, layers_per_block=1
    ).eval()


def make_ltx(channels, denoises=False, causal=False):
    """A decoder that is causal or not, or that is told a timestep and adds noise of its own."""
    decoder = {
        "decoder_block_out_channels": (8, 8, 8, 16), "decoder_layers_per_block": (1,) * 5,
        "decoder_causal": causal,
    } if not denoises else {
        "decoder_block_out_channels": (8, 16, 32), "decoder_layers_per_block": (1,) * 4,
        "decoder_spatio_temporal_scaling": (True,) * 3, "upsample_factor": (2,) * 3,
        "upsample_residual": (True,) * 3, "timestep_conditioning": True,
        "decoder_inject_noise": (True, True, True, False),
    }  # fmt: skip
    vae = AutoencoderKLLTXVideo(
        latent_channels=channels, block_out_channels=(8, 8, 8, 8), layers_per_block=(1,) * 5, patch_size=1,
        spatio_temporal_scaling=(True, True, True, False), **decoder,
    )  # fmt: skip
    vae.latents_mean.normal_()
    vae.latents_std.uniform_(0.5, 2.0)
    for name, weight in vae.named_parameters():
        if "per_channel_scale" in name:
            torch.nn.init.normal_(weight)  # zeros as made, which would add no noise
    return vae.eval()


def make_ltx_095(channels):
    """As of 0.9.5: blocks that halve one side or all, and a decoder that is told a timestep."""
    vae = AutoencoderKLLTXVideo(
        latent_channels=channels, block_out_channels=(8, 8, 16, 16, 16), layers_per_block=(1,) * 5,
        down_block_types=("LTXVideo095DownBlock3D",) * 4, patch_size=1,
        downsample_type=("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
        spatio_temporal_scaling=(True,) * 4, decoder_block_out_channels=(8, 16, 32),
        decoder_layers_per_block=(1,) * 4, decoder_spatio_temporal_scaling=(True,) * 3,
        decoder_inject_noise=(False,) * 4, upsample_factor=(2,) * 3, upsample_residual=(True,) * 3,
        timestep_conditioning=True, spatial_compression_ratio=8, temporal_compression_ratio=8,
    )  # fmt: skip
    vae.latents_mean.normal_()
    vae.latents_std.uniform_(0.5, 2.0)
    return vae.eval()


def make_mochi():
    return AutoencoderKLMochi(
        encoder_block_out_channels=(32,) * 4, decoder_block_out_channels=(32,) * 4, layers_per_block=(1,) * 5
    ).eval()
