"""Weights that wait in memory or on disk predict the same bits, and go with their family."""

import gc
import tempfile
from pathlib import Path

import pytest
import torch

from engine.families.loading import load_part
from engine.families.offload import offload


def predict(family):
    generator, config = torch.Generator().manual_seed(7), family.transformer.config
    latents = torch.randn((1, 3, config.in_channels, 8, 8), generator=generator)
    shape = (2, 1, config.max_text_seq_length, config.text_embed_dim)
    texts = [{"tokens": text} for text in torch.randn(shape, generator=generator)]
    return family.predict(latents, torch.tensor(500), *texts, 4.0)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_weights_that_wait_elsewhere_predict_the_same_bits(tiny_folder: Path, where):
    whole, family = (load_part(tiny_folder, "transformer", "float32") for _ in range(2))
    offload(family, where, "cpu")
    for _ in range(2):
        assert torch.equal(predict(family), predict(whole))
    assert family.device == torch.device("cpu")


def test_weights_on_disk_are_read_from_there_for_every_forward_and_go_with_their_family(
    tiny_folder: Path, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    family = load_part(tiny_folder, "transformer", "float32")
    n_bytes = sum(p.nbytes for p in family.transformer.parameters())
    offload(family, "disk", "cpu")
    predict(family)
    files = sorted(tmp_path.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in files) >= n_bytes
    files[0].unlink()
    with pytest.raises(FileNotFoundError):
        predict(family)
    del family
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_another_place_is_refused(tiny_folder: Path):
    with pytest.raises(ValueError, match="'cloud'"):
        offload(load_part(tiny_folder, "transformer", "float32"), "cloud", "cpu")
