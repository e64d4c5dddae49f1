"""How a film is rendered: windows, models, denoising, blending.

Owns torch and diffusers. A window step is a pure function (window latents, timestep, conditioning) ->
prediction; everything else here arranges such calls. It does not decide what to render (jobs), who
renders it (cluster) or where it is recorded (manifests), and imports none of them.
"""

import logging

# diffusers, transformers and peft import torchao wherever it is installed. It then warns of kernels for other
# machines and of names that changed between versions: lines in every worker's log that help nobody.
for _name in ("torchao", "torch.utils._pytree", "diffusers.quantizers.torchao.torchao_quantizer"):
    logging.getLogger(_name).setLevel(logging.ERROR)
