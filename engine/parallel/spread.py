"""Any family's transformer over a mesh: one spec says where its tokens enter, attend and leave.

Dims: B batch, L tokens of a stream, l tokens on this rank, A attention heads, K head size.
A stream is a tensor of tokens, (B, L, width): the video, and in joint attention the text beside it. Every
stream is shared out evenly where blocks begin and the video is collected behind the last projection, where a
token is narrowest. Full attention has no order, so that it does not matter in which one the tokens lie.
All is installed on one instance, as hooks, and can be taken off again; the family's own attention code runs,
and only its call of PyTorch's attention is answered by the whole mesh.
Decides: how a transformer is shared out and put together. Does not decide: how attention is (attention).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Module, ModuleList
from torch.overrides import TorchFunctionMode

from engine.parallel.attention import attend
from engine.parallel.axes import Split, shares
from engine.parallel.exchange import gather, shard
from engine.parallel.gang import Mesh


@dataclass(frozen=True)
class ParallelSpec:
    """Where a family's transformer is cut. Names are attributes of the transformer, or arguments.

    `blocks` are its lists of blocks, the first of which begins with the first block; `attention` is the self-
    attention of each; `streams` are arguments of the first block, the video's first; `rotary` is an argument
    of the transformer, or one of its modules, that holds angles of the video's tokens, along `rotary_dim`.
    `beside` is an argument of the transformer that may be (B, L): one number for each of the video's tokens.
    `modulation` is an argument of every block, and the dim along which it may have one vector for each of the
    video's tokens: (B, n, L, D) for 2, where (B, n, D) is for all of them.
    `filled` is for blocks that cut the last stream off by `[:, -n:]`, and so take all for it where a rank has
    none of a short prompt: it then gets one token of zeros, last in attention, which no other attends to.
    `numbered` names modules, or lists of them, with an argument that has one entry for each token of the only
    stream; `last` are the last projections, each of which makes another thing of the same tokens.
    """

    blocks: tuple[str, ...]
    attention: str
    streams: tuple[str, ...]
    rotary: str
    rotary_dim: int
    beside: str = ""
    last: tuple[str, ...] = ("proj_out",)
    numbered: Mapping[str, str] = field(default_factory=dict)
    modulation: tuple[str, int] | None = None
    filled: bool = False


class Spreadable(Protocol):
    """A loaded family whose predictions a gang can share."""

    parallel: ClassVar[ParallelSpec | None]
    transformers: Sequence[Any]
    mesh: Mesh | None
    spreads: Sequence[Spread]


def parallelise(family: Spreadable, mesh: Mesh | None) -> None:
    """Make `family.predict` one computation of all the mesh's ranks, called by all with equal arguments.

    Every rank gets the whole prediction, the same bits. An earlier mesh of this instance is forgotten, so
    call it again after forming anew; with None the instance is as stock made it. Others are untouched. Raises
    ValueError for ranks that share a sequence where the family's cannot be.
    """
    spec = family.parallel
    if mesh is not None and mesh.sequence is not None and spec is None:
        raise ValueError(
            f"{type(family).__name__} is not shared out over ring {mesh.axes.ring} x ulysses "
            f"{mesh.axes.ulysses} ranks: use cfg up to 2, and more gangs for more windows"
        )
    for spread in family.spreads:
        spread.remove()
    family.mesh, family.spreads = mesh, ()
    if mesh is not None and mesh.sequence is not None and spec is not None:
        family.spreads = [Spread(each, spec, mesh) for each in family.transformers]


class Spread(TorchFunctionMode):
    """One transformer shared out over a mesh, until `remove`; a torch function mode while it attends."""

    def __init__(self, transformer: Any, spec: ParallelSpec, mesh: Mesh) -> None:
        super().__init__()
        self.spec, self.mesh = spec, mesh
        self.n_heads = transformer.config.num_attention_heads
        self.video: Sequence[int] = ()
        self.split: Split | None = None
        self.filling = 0  # tokens of zeros at the end of this rank's
        self.allowed: Tensor | None = None  # a mask that was found to mask nothing
        first = getattr(transformer, spec.blocks[0])[0]
        self.signature = inspect.signature(first.forward)
        self.hooks = [
            transformer.register_forward_pre_hook(self._share_arguments, with_kwargs=True),
            first.register_forward_pre_hook(self._share_out, with_kwargs=True),
            *(getattr(transformer, name).register_forward_hook(self._collect) for name in spec.last),
        ]
        if rope := getattr(transformer, spec.rotary, None):
            self.hooks.append(rope.register_forward_hook(self._share_rope))
        for name, argument in spec.numbered.items():
            named = getattr(transformer, name)
            for module in named if isinstance(named, ModuleList) else [named]:
                self.hooks.append(_with_share(module, argument, self._share))
        for name in spec.blocks:
            for block in getattr(transformer, name):
                if spec.modulation:
                    share = block.register_forward_pre_hook(self._share_modulation, with_kwargs=True)
                    self.hooks.append(share)
                attention = getattr(block, spec.attention)
                self.hooks.append(attention.register_forward_pre_hook(self._begin, with_kwargs=True))
                self.hooks.append(attention.register_forward_hook(self._end, always_call=True))

    def remove(self) -> None:
        """Leave the transformer as it was found."""
        for hook in self.hooks:
            hook.remove()

    def _share(self, x: Tensor, dim: int) -> Tensor:
        """This rank's share of a stream, or of what lies beside it."""
        return shard(x, dim, shares(x.shape[dim], self.mesh.axes.sequence), self.mesh.sequence)

    def _share_arguments(
        self, transformer: Any, args: Any, kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        """Before the transformer: keep this rank's share of arguments that have one entry a token."""
        if (angles := kwargs.get(self.spec.rotary)) is not None:
            kwargs = {**kwargs, self.spec.rotary: self._share_rope(None, None, angles)}
        if (beside := kwargs.get(self.spec.beside)) is not None and beside.ndim == 2:
            kwargs = {**kwargs, self.spec.beside: self._share(beside, 1)}
        return args, kwargs

    def _share_rope(self, rope: Any, args: Any, angles: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Cosines and sines of this rank's tokens."""
        return tuple(self._share(x, self.spec.rotary_dim) for x in angles)

    def _share_out(self, block: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Before the first block: keep this rank's share of every stream."""
        bound = self.signature.bind(*args, **kwargs)
        size, streams = self.mesh.axes.sequence, [bound.arguments[name] for name in self.spec.streams]
        held = [shares(x.shape[1], size) for x in streams]
        self.video = held[0]
        tokens = tuple(sum(of_rank) for of_rank in zip(*held, strict=True))
        self.split = Split(tokens, self.n_heads, self.mesh.axes.ring, self.mesh.axes.ulysses)
        mine = [self._share(x, 1) for x in streams]
        self.filling = int(self.spec.filled and not mine[-1].shape[1])
        if self.filling:
            mine[-1] = mine[-1].new_zeros(len(mine[-1]), 1, mine[-1].shape[2])
        bound.arguments.update(zip(self.spec.streams, mine, strict=True))
        return bound.args, bound.kwargs

    def _share_modulation(self, block: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Before a block: keep this rank's share of what modulates each token in its own way."""
        assert self.spec.modulation is not None
        name, dim = self.spec.modulation
        bound = self.signature.bind(*args, **kwargs)
        if bound.arguments[name].ndim == dim + 2:
            bound.arguments[name] = self._share(bound.arguments[name], dim)
        return bound.args, bound.kwargs

    def _collect(self, last: Any, args: Any, video_BlD: Tensor) -> Tensor:
        """After the last projection: all video tokens, on every rank."""
        return gather(video_BlD, 1, self.video, self.mesh.sequence)

    def _begin(self, attention: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Before attention: answer for the mesh; share a mask of the text's tokens, (B, L), as they are."""
        self.__enter__()  # type: ignore[no-untyped-call]
        if (mask := kwargs.get("attention_mask")) is not None and mask.ndim == 2:
            self._allow(mask)
            kwargs = {**kwargs, "attention_mask": self._share(mask, 1)}
        return args, kwargs

    def _end(self, attention: Any, args: Any, out: Any) -> None:
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer PyTorch's attention for the whole mesh; everything else as ever."""
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        return self._attend(*args, **(kwargs or {}))

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **rest: Any
    ) -> Tensor:
        """scaled_dot_product_attention of (B, A, l, K), as far as video models call it."""
        if asked := {name: given for name, given in rest.items() if given}:
            raise ValueError(f"a gang's attention has no {', '.join(asked)}")
        if attn_mask is not None:
            self._allow(attn_mask)
        assert self.split is not None
        own = query.shape[2] - self.filling
        q_BlAK, k_BlAK, v_BlAK = (x[:, :, :own].transpose(1, 2) for x in (query, key, value))
        out_BAlK = attend(q_BlAK, k_BlAK, v_BlAK, self.mesh, self.split).transpose(1, 2)
        return F.pad(out_BAlK, (0, 0, 0, self.filling)) if self.filling else out_BAlK

    def _allow(self, mask: Tensor) -> None:
        """Refuse a mask that masks something; one that was found to mask nothing is not looked at again."""
        if mask is not self.allowed:
            if mask.dtype != torch.bool or not bool(mask.all()):
                raise ValueError("a gang attends to every token: trim the prompt rather than pass a mask")
            self.allowed = mask


def _with_share(module: Module, argument: str, share: Callable[[Tensor, int], Tensor]) -> Any:
    """A hook that keeps this rank's share of an argument with one entry a token; it can be removed."""
    signature = inspect.signature(module.forward)

    def before(module: Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        bound = signature.bind(*args, **kwargs)
        bound.arguments[argument] = share(bound.arguments[argument], 0)
        return bound.args, bound.kwargs

    return module.register_forward_pre_hook(before, with_kwargs=True)
