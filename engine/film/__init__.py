"""From latents to a film: encode, join, titles, voice, captions, provenance. Owns av.

The pictures are encoded once as closed-GOP segments and joined without re-encoding; languages share them.
"""
