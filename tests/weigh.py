"""How many bytes of tensors are alive at once, counted exactly: no allocator or other process has a say."""

import weakref

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves


def held_bytes(tensors):
    """Bytes that tensors hold, those in 8 bits with all that is kept beside these."""
    return sum(part.nbytes for tensor in tensors for part in _parts(tensor))


def _parts(tensor):
    names = tensor.__tensor_flatten__()[0] if is_traceable_wrapper_subclass(tensor) else ()
    return [getattr(tensor, name) for name in names] or [tensor]


class Weigh(TorchDispatchMode):
    """While it is on, `peak` is the most bytes that tensors made meanwhile held at once."""

    def __init__(self):
        super().__init__()
        self.held, self.now, self.peak = {}, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self.hold(tensor.untyped_storage())
        return out

    def hold(self, storage):
        """Count a storage from its first to its last tensor."""
        key = storage._cdata
        if key not in self.held:
            self.held[key] = storage.nbytes()
            self.now += self.held[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.drop, key)

    def drop(self, key):
        self.now -= self.held.pop(key)
