"""The embedded model *chalk*: its lessons, its parts, its training.

A small text-to-video diffusion transformer in the CogVideoX architecture and in diffusers' folder layout,
trained from scratch on lesson clips that this package draws, so that a fresh machine renders films without a
download.
Uses torch, diffusers and transformers; imports nothing else of ours except its own modules.
Does not load or sample: `engine.families.cogvideox` does that, as for every other CogVideoX folder.
"""
