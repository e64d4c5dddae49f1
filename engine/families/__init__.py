"""One file a model family, each through diffusers' own classes and checkpoint folders."""
