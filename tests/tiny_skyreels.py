"""A SkyReels-V2 of the real architecture with tiny random weights, as a diffusers folder holds it."""

import torch
from diffusers import SkyReelsV2Transformer3DModel, UniPCMultistepScheduler
from transformers import UMT5Config, UMT5EncoderModel

from engine.chalk.tokens import build_tokenizer
from tests.tiny_vaes import make_wan

PROMPT, NEGATIVE, CHANNELS = "rain falls", "a sun", 16


def make_pipeline(kind, told_rate=False):
    """Of stock's pipeline class `kind`; of a model that is told the frame rate, if so."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(f"{PROMPT} {NEGATIVE}".split())
    text = UMT5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, num_heads=4, d_ff=32, num_layers=1, pad_token_id=0
    )
    vae = make_wan()
    transformer = SkyReelsV2Transformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=CHANNELS, out_channels=CHANNELS,
        text_dim=32, freq_dim=32, ffn_dim=32, num_layers=2, rope_max_seq_len=32, inject_sample_info=told_rate,
    )  # fmt: skip
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0, num_train_timesteps=1000
    )
    return kind(
        tokenizer=tokenizer, text_encoder=UMT5EncoderModel(text).eval(), vae=vae,
        transformer=transformer.eval(), scheduler=scheduler,
    )  # fmt: skip
