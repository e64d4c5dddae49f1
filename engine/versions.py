"""Which libraries decide the low bits of latents: recorded with a job. No torch."""

from importlib.metadata import version

NUMERICS = ("torch", "diffusers", "deepspeed", "transformers", "torchao")


def versions() -> dict[str, str]:
    """Versions of the libraries whose kernels and loops decide the bits."""
    return {name: version(name) for name in NUMERICS}
