"""The families there are: which class loads each, how its facts are read, what it can be asked for. No torch.

A new family is its file and its entry here. Decides: what an entry says. Does not decide: what an entry is
(entry), or in what folders of one family differ (variants).
"""

from dataclasses import replace

from engine.camera import Idiom
from engine.families import holding, making, variants
from engine.families.card import Card
from engine.families.entry import Known, either, halvings, product
from engine.takes import CLIP, FIRST, Takes

# Of the moves that its training captions were labelled with (arXiv:2412.03603, "camera movement types").
_HUNYUAN_CAMERA = Idiom(
    {move: move for move in ("zoom in", "zoom out", "pan left", "pan right", "tilt up", "tilt down")}
    | {"orbit": "around right", "static": "static shot"}
)

# Each of a text alone, of which the table below has kin.
_COGVIDEOX = Known(
    "engine.families.cogvideox:CogVideoX",
    ("CogVideoXTransformer3DModel", "AutoencoderKLCogVideoX"),
    tiles=True,
    decoding=holding.COGVIDEOX,
    making=making.COGVIDEOX,
    encoding=holding.COGVIDEOX_GIVEN,
    schedulers=("ddim", "dpm"),
    window_frames=variants.cogvideox_window,
    max_text_tokens="transformer.max_text_seq_length",
    spatial_compression=halvings,
    window_unit=variants.cogvideox_patch,
    patch_frames=variants.cogvideox_patch,
    takes=variants.cogvideox_takes,
    dynamic_guidance=True,
    adapters=True,
    first_block=True,
    card=variants.cogvideox_card,
)
_WAN = Known(
    "engine.families.wan:Wan",
    ("WanTransformer3DModel", "AutoencoderKLWan"),
    decoding=holding.wan_decoding,
    making=making.wan,
    encoding=holding.wan_encoding,
    schedulers=("unipc", "euler"),
    window_frames=21,  # trained on 81 pixel frames
    max_text_tokens=512,
    spatial_compression=either("vae.scale_factor_spatial", 8),
    temporal_compression=either("vae.scale_factor_temporal", 4),
    experts=variants.wan_experts,
    takes=variants.wan_takes,
    adapters=True,
    first_block=True,
    card=variants.wan_card,
)
_SKYREELS = Known(
    "engine.families.skyreels:SkyReels",
    ("SkyReelsV2Transformer3DModel", "AutoencoderKLWan"),
    decoding=holding.wan_decoding,
    making=making.wan,
    encoding=holding.wan_encoding,
    schedulers=("unipc",),
    window_frames=25,  # trained on 97 pixel frames, and on 121 in 720p
    longest_window=31,
    max_text_tokens=512,
    spatial_compression=_WAN.spatial_compression,
    temporal_compression=_WAN.temporal_compression,
    refuse=variants.refuse_skyreels,
    card=Card(50, 6.0, 960, 544, 24, most_px=1280 * 720, widest=2.0),
)
_HUNYUAN_15 = Known(
    "engine.families.hunyuan15:HunyuanVideo15",
    ("HunyuanVideo15Transformer3DModel", "AutoencoderKLHunyuanVideo15"),
    schedulers=("euler",),
    window_frames=31,  # trained on up to 121 pixel frames
    max_text_tokens=1000,  # without the system message before them
    latent_channels="transformer.out_channels",
    spatial_compression=either("vae.spatial_compression_ratio", 16),
    temporal_compression=either("vae.temporal_compression_ratio", 4),
    decoding=holding.HUNYUAN_15,
    making=making.HUNYUAN_15,
    guided=variants.hunyuan15_guided,
    refuse=variants.refuse_hunyuan15,
    more=(("guider", "guider_config.json"),),
    card=variants.hunyuan15_card,
)

_LTX = Known(
    "engine.families.ltx:LTX",
    ("LTXVideoTransformer3DModel", "AutoencoderKLLTXVideo"),
    decoding=holding.LTX,
    making=making.LTX,
    encoding=holding.LTX_GIVEN,
    tiles=True,
    schedulers=("euler",),
    window_frames=21,  # trained on up to 161 pixel frames
    max_text_tokens=128,
    spatial_compression=variants.ltx_ratio("spatial_compression_ratio", "patch_size"),
    temporal_compression=variants.ltx_ratio("temporal_compression_ratio", "patch_size_t"),
    refuse=variants.refuse_ltx_patches,
    takes=lambda parts: Takes(frozenset({FIRST})),
    card=Card(50, 3.0, 704, 480, 24, most_px=1280 * 720, widest=2.0),
)

FAMILIES = {
    "CogVideoXPipeline": _COGVIDEOX,
    "CogVideoXImageToVideoPipeline": replace(
        _COGVIDEOX,
        loader="engine.families.cogvideox:CogVideoXImageToVideo",
        latent_channels="vae.latent_channels",
        takes=lambda parts: variants.PICTURE,
        adapters=False,
    ),
    "WanPipeline": _WAN,
    "WanImageToVideoPipeline": replace(
        _WAN,
        loader="engine.families.wan:WanImageToVideo",
        latent_channels="vae.z_dim",
        takes=variants.wan_image_takes,
        adapters=False,
        card=variants.wan_image_card,
    ),
    "OpenSoraPipeline": Known(
        "engine.families.opensora:OpenSora",
        ("OpenSoraTransformer", "AutoencoderKLHunyuanVideo"),
        encoding=holding.HUNYUAN_GIVEN,
        tiles=True,
        decoding=holding.HUNYUAN,
        making=making.HUNYUAN,
        schedulers=("euler",),
        window_frames=33,  # trained on up to 129 pixel frames
        max_text_tokens=512,
        latent_channels=variants.opensora_channels,
        takes=variants.opensora_takes,
        card=Card(50, 7.5, 1024, 576, 24, most_px=768 * 768, widest=2.4),
    ),
    "HunyuanVideoPipeline": Known(
        "engine.families.hunyuan:HunyuanVideo",
        ("HunyuanVideoTransformer3DModel", "AutoencoderKLHunyuanVideo"),
        tiles=True,
        decoding=holding.HUNYUAN,
        making=making.HUNYUAN,
        schedulers=("euler",),
        window_frames=33,  # trained on up to 129 pixel frames
        max_text_tokens=256,  # without the template around them
        card=Card(50, 6.0, 1280, 720, 24, most_px=1280 * 720, widest=2.0),
        camera=_HUNYUAN_CAMERA,
    ),
    "StableVideoDiffusionPipeline": Known(
        "engine.families.svd:StableVideoDiffusion",
        ("UNetSpatioTemporalConditionModel", "AutoencoderKLTemporalDecoder"),
        decoding=holding.SVD,
        making=making.SVD,
        encoding=holding.SVD_GIVEN,
        schedulers=("euler",),
        window_frames="unet.num_frames",
        max_text_tokens=1,  # it reads none
        denoiser="unet",
        latent_channels="unet.out_channels",
        spatial_compression=halvings,
        temporal_compression=1,
        patch=1,
        heads=1,
        shared=False,
        card=Card(25, 3.0, 1024, 576, 7, most_px=1024 * 576, widest=2.0),
        takes=lambda parts: Takes(may=frozenset({FIRST}), must=frozenset({FIRST})),
        refuse=variants.refuse_svd,
    ),
    "LTXPipeline": _LTX,
    "LTXConditionPipeline": replace(
        _LTX,
        loader="engine.families.ltx_condition:LTXCondition",
        encoding=holding.LTX_095_GIVEN,
        making=making.LTX_095,
        max_text_tokens=256,
        takes=lambda parts: Takes(frozenset({FIRST, CLIP})),
        given_latents=3,  # of 17 pixel frames: its authors have it go on from any 8 n + 1
        card=Card(40, 3.0, 768, 512, 24, most_px=1280 * 720, widest=2.0),
    ),
    "MochiPipeline": Known(
        "engine.families.mochi:Mochi",
        ("MochiTransformer3DModel", "AutoencoderKLMochi"),
        tiles=True,
        decoding=holding.MOCHI,
        making=making.MOCHI,
        schedulers=("euler",),
        window_frames=28,  # trained on 163 pixel frames
        max_text_tokens="transformer.max_sequence_length",
        spatial_compression=product("vae.spatial_expansions"),
        temporal_compression=product("vae.temporal_expansions"),
        card=Card(64, 4.5, 848, 480, 30, most_px=848 * 480, widest=2.0),
    ),
    "MiniMaxH3ModularPipeline": Known(
        "engine.families.minimax_h3:MiniMaxH3",
        ("MiniMaxH3Transformer3DModel", "AutoencoderKLMiniMaxH3"),
        # its decoding is not foretold: 5.2 GiB are of tiles whose size no picture changes, 2 KiB of a pixel
        schedulers=("euler",),
        window_frames=37,  # 124 pixel frames; trained on 5 to 15 s
        longest_window=102,
        max_text_tokens=512,
        spatial_compression=product("vae.spatial_downsample_factors"),
        temporal_compression=product("vae.temporal_downsample_factors"),
        period=5,
        window_unit=15,
        refuse=variants.refuse_minimax_h3,
        card=Card(8, 1.0, 1344, 768, 24, most_px=1344 * 768, widest=2.0),
    ),
    "SkyReelsV2Pipeline": _SKYREELS,
    "SkyReelsV2ImageToVideoPipeline": replace(
        _SKYREELS,
        loader="engine.families.skyreels:SkyReelsImageToVideo",
        latent_channels="vae.z_dim",
        takes=variants.wan_image_takes,
        refuse=variants.refuse_skyreels_pictures,
        card=Card(50, 5.0, 960, 544, 24, most_px=1280 * 720, widest=2.0),
    ),
    "SkyReelsV2DiffusionForcingPipeline": replace(
        _SKYREELS,
        loader="engine.families.skyreels:SkyReelsForcing",
        takes=lambda parts: Takes(frozenset({FIRST, CLIP})),
        given_latents=5,  # of 17 pixel frames, the fewest that SkyReels advises as overlap_history
        card=Card(30, 6.0, 960, 544, 24, most_px=1280 * 720, widest=2.0),
    ),
    "HunyuanVideo15Pipeline": _HUNYUAN_15,
    "HunyuanVideo15ImageToVideoPipeline": replace(
        _HUNYUAN_15,
        loader="engine.families.hunyuan15:HunyuanVideo15ImageToVideo",
        encoding=holding.HUNYUAN_15_GIVEN,
        takes=lambda parts: variants.PICTURE,
    ),
}
