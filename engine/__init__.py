"""How a film is rendered: windows, models, denoising, blending.

Owns torch and diffusers. A window step is a pure function (window latents, timestep, conditioning) ->
prediction; everything else here arranges such calls. It does not decide what to render (jobs), who
renders it (cluster) or where it is recorded (manifests), and imports none of them.
"""
