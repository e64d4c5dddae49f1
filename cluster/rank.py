"""A rank: one process, usually one GPU, that predicts windows alone or as one of a gang."""

import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import Any

from cluster.conductor import Request
from cluster.copies import whole
from cluster.cost import Shape
from cluster.events import Fared
from cluster.identity import Model
from cluster.loaded import LoadedPart
from cluster.logs import reporting
from cluster.once import found_file
from cluster.shortage import Place, Shortage, Stage, cheaper, place_on, shortage
from cluster.sketch import Sketch, sketch_of, window_shape
from engine.anchors import Anchor
from engine.batch import predict_anchored, predict_windows
from engine.families.adapters import KEPT, adapt
from engine.families.first_block import first_blocks
from engine.memory import ran_out
from engine.numerics import device_name
from engine.parallel.attention import load_ulysses
from engine.parallel.axes import ALONE, DEEPSPEED, Axes
from engine.parallel.gang import Mesh, form_mesh, together
from engine.parallel.spread import parallelise
from engine.parallel.zero import load_zero, share_weights
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
        check_memory: bool = True,
        loading_s: float = 1800.0,
    ) -> None:
        self.loading_s = loading_s  # that ranks of a gang wait for the last to have its weights
        self.store, self.device, self.exchange = open_store(store_url), device_name(device), exchange
        self.transformer = LoadedPart("transformer", device, threads, check_memory=check_memory, cache=cache)
        self.embeddings: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.mesh: Mesh | None = None  # None is a gang of one
        self.agreed: Model | None = None  # what all ranks of the gang have loaded, and which adapters
        self.met: frozenset[str] = frozenset()
        self.sketches: dict[Model, Sketch] = {}
        self.checked: Shape | None = None  # the window that was last found to fit

    def form(
        self, host: str, port: int, prefix: str, rank: int, axes: Axes, timeout_s: float, *living: str
    ) -> str:
        """Become `rank` of a gang with these axes; all its ranks are called, once all are `living`.

        Those are the nodes on which they live, of which the first is returned.
        """
        self.agreed = None
        if self.transformer.model is not None and self.transformer.model.zero:
            self.transformer.forget()  # a lost rank took its part of the weights with it
        device = self.transformer.device
        self.mesh = form_mesh(host, port, prefix, rank, axes, timeout_s, self.exchange, device)
        if self.mesh is not None and self.mesh.ulysses is not None and self.exchange == DEEPSPEED:
            load_ulysses()  # seconds of imports, which no peer should wait for in a collective
        return living[0] if living else ""

    @reporting
    def predict(self, request: Request) -> tuple[Fared, Packed]:
        """How it went, and the prediction of a request's windows; a gang's ranks are all asked at once.

        Raises Shortage for a window that would not fit. An error of torch's that there is no memory left has,
        as `hint`, what would need less.
        """
        try:
            return self._predict(request)
        except Exception as error:
            shape = self._shape(request) if ran_out(error) else None
            if shape is not None:
                error.hint = cheaper(shape, self.axes, self._place())  # type: ignore[attr-defined]
            raise

    @property
    def axes(self) -> Axes:
        """Of its gang."""
        return self.mesh.axes if self.mesh else ALONE

    def _predict(self, request: Request) -> tuple[Fared, Packed]:
        began = time.monotonic()
        family = self._family(request)
        negative, given = self._embedding("prompt", request.negative), self._given(request)
        texts = (
            [self._embedding("prompt", key) | seen for key, seen in zip(request.prompts, given, strict=True)],
            [negative | seen for seen in given],
        )
        latents, timestep = unpack(request.latents), unpack(request.timestep)
        full: tuple[tuple[bool, ...], ...] = ()
        if blocks := first_blocks(family, request.threshold):
            anchors = [[Anchor(*map(unpack, each)) for each in branches] for branches in request.anchors]
            prediction, full = predict_anchored(
                blocks, latents, timestep, *texts, request.guidance_scale, anchors, prompted=request.prompted
            )
        else:
            prediction = predict_windows(
                family, latents, timestep, *texts, request.guidance_scale, prompted=request.prompted
            )
        packed = replace(pack(prediction), full=full)  # a GPU has computed it only when it is copied
        return Fared(time.monotonic() - began, self.device, self.axes), packed

    def _family(self, request: Request) -> Any:
        """The model, ready for the request; ranks of a gang wait for each other where any has to load for it.

        Whether they meet is for all to decide alike, so it follows from their requests, not from what each
        has: after a meeting that failed, some have what others lack.
        """
        if request.model.zero and self.mesh is None:
            raise ValueError("model.zero=true shares weights out over a gang, and this one has a single rank")
        if self.transformer.model == request.model:
            self._check(request, "loaded")
        adapters = frozenset(artefact for artefact, _ in request.adapters)
        meets = request.model != self.agreed or not adapters <= self.met
        with self._meeting(request.model, adapters) if meets else nullcontext():
            family = self.transformer.of(request.model, lambda _: self._check(request, "started"))
            adapt(family, request.adapters, self.store.fetch_artefact)
            if request.model.zero:
                load_zero()
        if meets:  # an adapter's loading replaces modules, to which hooks must be tied anew
            first_blocks(family, 0.0)
            parallelise(family, self.mesh)
            if request.model.zero:
                share_weights(family, self.transformer.device)
        return family

    @contextmanager
    def _meeting(self, model: Model, adapters: frozenset[str]) -> Iterator[None]:
        """All ranks of the gang load these; none has agreed to anything where one of them fails."""
        met = self.met if model == self.agreed else frozenset()
        self.agreed, self.met = None, frozenset()
        with together(self.mesh, self.loading_s):
            yield
        # Of more adapters than are kept, those that are asked for are the last that go.
        sets = (met | adapters, adapters, self.met)
        self.agreed, self.met = model, next(each for each in sets if len(each) <= KEPT)

    def _check(self, request: Request, stage: Stage) -> None:
        """Raise Shortage where a window would not fit, before anything of it is begun."""
        shape = self._shape(request) if self.transformer.check_memory else None
        if shape is None or shape == self.checked:
            return
        if failure := shortage(shape, self.axes, self._place(), stage):
            raise Shortage(failure)
        self.checked = shape

    def _place(self) -> Place:
        """Where this rank computes, with what is free there now."""
        return place_on(self.transformer.device, self.axes.ranks)

    def _shape(self, request: Request) -> Shape | None:
        """The window as the cost model sees it; None where the folder is broken, which loading tells."""
        model = request.model
        if model not in self.sketches:
            with suppress(OSError, ValueError):
                self.sketches[model] = sketch_of(whole(model, self.transformer.cache))
        sketch = self.sketches.get(model)
        if sketch is None:
            return None
        together, frames, _, height, width = request.latents.values.shape
        sides = (frames, height, width)
        shape = window_shape(model, sketch, sides, sketch.text_tokens, request.guidance_scale > 1)
        return replace(shape, batch=together, first_block=request.threshold > 0)

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
