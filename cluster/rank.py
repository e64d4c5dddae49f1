"""A rank: one process, usually one GPU, that predicts windows alone or as one of a gang."""

import time
from collections import OrderedDict
from typing import Any

from cluster.conductor import Request
from cluster.events import Fared
from cluster.once import found_file
from cluster.stages import LoadedPart
from engine.batch import predict_windows
from engine.families.adapters import adapt
from engine.numerics import device_name
from engine.parallel.attention import load_ulysses
from engine.parallel.axes import ALONE, DEEPSPEED, Axes
from engine.parallel.gang import Mesh, form_mesh
from engine.parallel.spread import parallelise
from engine.parallel.zero import share_weights
from engine.takes import BESIDE
from engine.tensors import Packed, from_bytes, pack, unpack
from manifests.store import open_store

EMBEDDINGS = 256  # kept in memory; a film has a few, a night thousands


class Rank:
    """Loads the transformer once and predicts any window of any film."""

    def __init__(
        self,
        store_url: str,
        device: str = "cpu",
        threads: int = 1,
        exchange: str = DEEPSPEED,
        cache: str = "auto",
    ) -> None:
        self.store, self.device = open_store(store_url), device_name(device)
        self.transformer = LoadedPart("transformer", device, threads, cache=cache)
        self.exchange = exchange
        self.embeddings: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.mesh: Mesh | None = None  # None is a gang of one

    def form(
        self, host: str, port: int, prefix: str, rank: int, axes: Axes, timeout_s: float, *living: object
    ) -> None:
        """Become `rank` of a gang with these axes; all its ranks are called, once all are `living`."""
        if self.transformer.model is not None and self.transformer.model.zero:
            self.transformer.forget()  # a lost rank took its part of the weights with it
        self.mesh = form_mesh(host, port, prefix, rank, axes, timeout_s, self.exchange)
        if self.mesh is not None and self.mesh.ulysses is not None and self.exchange == DEEPSPEED:
            load_ulysses()  # seconds of imports, which no peer should wait for in a collective

    def predict(self, request: Request) -> tuple[Fared, Packed]:
        """How it went, and the prediction of a request's windows; a gang's ranks are all asked at once."""
        began = time.monotonic()
        family = self.transformer.of(request.model)
        # An adapter's loading replaces modules, to which a gang's hooks must then be tied anew.
        if adapt(family, request.adapters, self.store.fetch_artefact) or family.mesh is not self.mesh:
            parallelise(family, self.mesh)
            if request.model.zero:
                share_weights(family, self.transformer.device)
        negative, given = self._embedding("prompt", request.negative), self._given(request)
        prediction = predict_windows(
            family,
            unpack(request.latents),
            unpack(request.timestep),
            [self._embedding("prompt", key) | seen for key, seen in zip(request.prompts, given, strict=True)],
            [negative | seen for seen in given],
            request.guidance_scale,
            prompted=request.prompted,
        )
        packed = pack(prediction)  # a GPU has computed it only when it is copied
        axes = self.mesh.axes if self.mesh else ALONE
        return Fared(time.monotonic() - began, self.device, axes), packed

    def _given(self, request: Request) -> list[dict[str, Any]]:
        """What the shot is given, as far as it is part of both texts, for each window."""
        given: dict[str, Any] = {}
        for key in request.given:
            given |= self._embedding("given", key)
        if request.beside is None:
            return [given] * len(request.prompts)
        return [given | {BESIDE: window[None]} for window in unpack(request.beside)]

    def _embedding(self, kind: str, key: str) -> dict[str, Any]:
        """The embedding that a task of this kind left, from the store or from memory."""
        if key in self.embeddings:
            self.embeddings.move_to_end(key)
            return self.embeddings[key]
        data = self.store.read_artefact(found_file(self.store, kind, key, "embedding"))
        embedding = from_bytes(data)
        self.embeddings[key] = embedding
        if len(self.embeddings) > EMBEDDINGS:
            self.embeddings.popitem(last=False)
        return embedding
