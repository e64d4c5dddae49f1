"""The embedded model *chalk*: its lessons, its parts, its training.

A small text-to-video diffusion transformer in the CogVideoX architecture and in diffusers' folder layout,
trained from scratch on lesson clips that this package draws, so that a fresh machine renders films without a
download.
Training uses torch, diffusers and transformers and imports nothing else of ours. What looks at its films
(`judge`, `long_shots`, `given`) samples them by the stock pipeline or by the engine's own windows.
"""
