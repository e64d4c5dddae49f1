"""LoRA adapters of tiny random models: stock's own bits, nothing left behind; what is none is refused."""

import multiprocessing as mp
from pathlib import Path

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXPipeline, WanPipeline
from safetensors.torch import load_file, save_file

from cluster.conductor import Request
from cluster.identity import Model
from cluster.rank import Rank
from engine.families.adapter_files import check_fit, shapes_of, weights_of
from engine.families.adapters import adapt
from engine.families.loading import LEFT_OUT, load_part
from engine.parallel.axes import Axes
from engine.parallel.gang import serve_rendezvous
from engine.tensors import pack, to_bytes, unpack
from manifests.store import Store, open_store
from tests.test_engine_parity_cogvideox import make_pipeline as make_cogvideox
from tests.test_engine_parity_cogvideox import make_scheduler
from tests.tiny_wan import KINDS
from tests.tiny_wan import make_pipeline as make_wan

FAMILIES = {"CogVideoX": CogVideoXPipeline, "Wan": WanPipeline}
TEXT = {"CogVideoX": (6, 12), "Wan": (6, 32)}
CHANNELS = {"CogVideoX": 4, "Wan": 16}
FIRST = {"CogVideoX": "transformer_blocks", "Wan": "blocks"}
LAST = "proj_out"  # where a gang collects its tokens


def make_adapter(path: Path, weights, modules, seed: int) -> Path:
    """A random adapter of rank 2 for some of a transformer's modules."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for module in modules:
        n_out, n_in = weights[module]
        state[f"transformer.{module}.lora_A.weight"] = torch.randn((2, n_in), generator=generator)
        state[f"transformer.{module}.lora_B.weight"] = torch.randn((n_out, 2), generator=generator)
    save_file(state, path)
    return path


@pytest.fixture(scope="module", params=FAMILIES)
def model(request, tmp_path_factory):
    """A family's name, its folder, a store, and three adapters in it: of different modules, two that meet."""
    name = request.param
    folder = tmp_path_factory.mktemp("model")
    made = make_wan(KINDS["2.1"]) if name == "Wan" else make_cogvideox(make_scheduler(CogVideoXDDIMScheduler))
    made.save_pretrained(folder, safe_serialization=True)
    weights, block = weights_of(folder), f"{FIRST[name]}.0.attn1"
    modules = {
        "one": [f"{block}.to_q", f"{block}.to_v"],
        "other": [f"{block}.to_q", f"{FIRST[name]}.1.attn1.to_k"],
        "last": [LAST],
    }
    files = {
        key: make_adapter(folder.parent / f"{name}-{key}.safetensors", weights, of, seed)
        for seed, (key, of) in enumerate(modules.items())
    }
    store = open_store(str(tmp_path_factory.mktemp("store")))
    return name, folder, files, {key: store.put_file(path) for key, path in files.items()}, store


def stock(name: str, folder: Path, files, wanted, window):
    """Predictions of a pipeline of stock's that has only ever had these adapters."""
    parts = dict.fromkeys(LEFT_OUT["transformer"])
    pipeline = FAMILIES[name].from_pretrained(str(folder), local_files_only=True, **parts)
    for key, _ in wanted:
        pipeline.load_lora_weights(str(files[key]), adapter_name=key, local_files_only=True)
    if wanted:
        pipeline.set_adapters([key for key, _ in wanted], [scale for _, scale in wanted])
    family = load_part(folder, "transformer", "float32")
    family.pipeline = pipeline
    return family.predict(*window, 5.0)


def make_window(name: str):
    generator = torch.Generator().manual_seed(9)
    latents = torch.randn((1, 3, CHANNELS[name], 8, 8), generator=generator)
    prompt, negative = torch.randn((2, 1, *TEXT[name]), generator=generator)
    return latents, torch.tensor(500), {"tokens": prompt}, {"tokens": negative}


# Each after the one before: on and off again, other scales, two at once, either order.
SEQUENCE = (
    (),
    (("one", 1.0),),
    (),
    (("other", 0.5),),
    (("one", 0.25),),
    (("one", 1.0), ("other", -0.5)),
    (("other", -0.5), ("one", 1.0)),
    (("last", 1.0),),
    (),
)


def test_every_window_has_stocks_bits_with_its_own_adapters_whatever_came_before(model):
    name, folder, files, stored, store = model
    family, window, seen = load_part(folder, "transformer", "float32"), make_window(name), []
    for wanted in SEQUENCE:
        adapt(family, [(stored[key], scale) for key, scale in wanted], store.fetch_artefact)
        got = family.predict(*window, 5.0)
        assert torch.equal(got, stock(name, folder, files, wanted, window)), wanted
        seen.append(got)
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[4]) and not torch.equal(seen[0], seen[7])


def test_an_adapter_is_fetched_once_and_setting_the_same_again_replaces_nothing(model):
    _, folder, _, stored, store = model
    family, fetched = load_part(folder, "transformer", "float32"), []

    def fetch(artefact: str, path: Path) -> None:
        fetched.append(artefact)
        store.fetch_artefact(artefact, path)

    new = [adapt(family, [(stored[key], 1.0)], fetch) for key in ("one", "one", "other", "one")]
    assert fetched == [stored["one"], stored["other"]] and new == [True, False, True, False]


def test_only_so_many_adapters_are_kept_and_one_that_was_dropped_comes_again(model, monkeypatch):
    name, folder, files, stored, store = model
    monkeypatch.setattr("engine.families.adapters.KEPT", 1)
    family, window = load_part(folder, "transformer", "float32"), make_window(name)
    for key in ("one", "other", "one"):
        adapt(family, [(stored[key], 1.0)], store.fetch_artefact)
        assert list(family.adapters) == [stored[key]]
        assert torch.equal(family.predict(*window, 5.0), stock(name, folder, files, [(key, 1.0)], window))


class Keyed(Rank):
    """A rank whose embeddings are given."""

    def __init__(self, url: str, embeddings) -> None:
        super().__init__(url)
        self.embeddings.update(embeddings)


def serve(pipe, url: str, embeddings, port: int, number: int, axes: Axes) -> None:
    torch.set_num_threads(1)
    rank = Keyed(url, embeddings)
    rank.form("127.0.0.1", port, "adapters", number, axes, 60.0)
    pipe.send("formed")
    while True:
        pipe.send(rank.predict(pipe.recv())[1])


@pytest.mark.parametrize("axes", [Axes(2, ulysses=2), Axes(2, cfg=2)], ids=["ulysses 2", "cfg 2"])
def test_a_gang_of_two_predicts_with_a_windows_adapters_as_one_rank_does(model, axes):
    name, folder, files, stored, store = model
    latents, timestep, prompt, negative = window = make_window(name)
    rendezvous, context, pipes, processes = (
        serve_rendezvous("127.0.0.1"),
        mp.get_context("forkserver"),
        [],
        [],
    )
    for number in range(2):
        ours, theirs = context.Pipe()
        told = (theirs, store.url, {"p": prompt, "n": negative}, rendezvous.port, number, axes)
        processes.append(context.Process(target=serve, args=told, daemon=True))
        processes[-1].start()
        pipes.append(ours)
    try:
        for pipe in pipes:
            assert pipe.poll(90) and pipe.recv() == "formed"
        for wanted in SEQUENCE:
            adapters = tuple((stored[key], scale) for key, scale in wanted)
            model_ = Model(str(folder), "float32", "d")
            request = Request(model_, pack(latents), pack(timestep), ("p",), "n", 5.0, adapters=adapters)
            for pipe in pipes:
                pipe.send(request)
            assert all(pipe.poll(90) for pipe in pipes), wanted
            one, other = (unpack(pipe.recv()) for pipe in pipes)
            want = stock(name, folder, files, wanted, window)
            assert torch.equal(one, other)
            assert float((one - want).abs().max()) < 1e-4 * max(1.0, float(want.abs().max())), wanted
    finally:
        for process in processes:
            process.kill()
            process.join()


def put(store: Store, path: Path, state) -> str:
    save_file(state, path)
    return store.put_file(path)


def test_an_adapter_of_another_model_is_refused_by_its_keys_and_leaves_the_model_as_it_was(model, tmp_path):
    name, folder, files, _, store = model
    state = load_file(files["one"])
    key = next(iter(state))
    bad = {
        "another module": {key.replace("attn1", "attn9"): state[key]},
        "another width": {key: torch.zeros(2, 7)},
        "another part": {key.replace("transformer.", "unet."): state[key]},
    }
    family, window = load_part(folder, "transformer", "float32"), make_window(name)
    before = family.predict(*window, 5.0)
    for what, state in bad.items():
        artefact = put(store, tmp_path / "bad.safetensors", state)
        with pytest.raises(ValueError, match="of another model: 1 of its 1 keys"):
            adapt(family, [(artefact, 1.0)], store.fetch_artefact)
        assert torch.equal(family.predict(*window, 5.0), before), what


def test_a_file_that_is_no_safetensors_is_refused_at_the_rank_too(model, tmp_path):
    _, folder, _, _, store = model
    path = tmp_path / "a"
    path.write_bytes(to_bytes({})[:-1] + b"cut")
    artefact = store.put_file(path)
    with pytest.raises(ValueError, match="cannot be read"):
        adapt(load_part(folder, "transformer", "float32"), [(artefact, 1.0)], store.fetch_artefact)


def test_the_header_alone_tells_an_adapter_of_the_model_from_another(model):
    _, folder, files, _, _ = model
    check_fit(shapes_of(files["one"]), weights_of(folder))
    with pytest.raises(ValueError, match="keys fit no weight: transformer"):
        check_fit(shapes_of(files["one"]), {"blocks.0.to_q": (4, 4)})
    with pytest.raises(ValueError, match="no keys"):
        check_fit({}, weights_of(folder))
