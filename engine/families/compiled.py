"""A transformer's blocks as torch.compile makes them: fused kernels, other low bits, seconds to begin.

Compiled are blocks rather than the whole: they are most of the time and alike, so that one compilation serves
all of them, where a whole transformer of 40 blocks takes 40 times as long. Shapes are static: windows of a
job have one shape, or two where a shot's windows cannot all be of one length, and a kernel that knows its
sizes is faster, and sooner there, than one for any. So each shape is compiled once, on each rank, when it is
first met, in seconds to minutes; a job of many sizes pays for each of them.
Decides: what is compiled. Does not decide: whether that pays (a profile's model.compile).
"""

import os
import shutil
import sysconfig
from pathlib import Path
from typing import Any

SHAPES = 64  # compilations of a kind of block, beyond which torch would go on without, in silence


class NoCompiler(RuntimeError):
    """This worker lacks what torch.compile builds kernels with; another one may have it."""

    code = "E625_COMPILER"
    hint = (
        "install it on every worker (Debian: apt install g++ python3-dev), "
        "or set profiles.NAME.model.compile=false"
    )


def need_compiler() -> None:
    """Raise NoCompiler where there is no C++ compiler, which is $CXX or g++, or no headers of Python's."""
    compiler = os.environ.get("CXX") or "g++"
    if shutil.which(compiler) is None:
        raise NoCompiler(f"model.compile=true needs a C++ compiler, and there is no {compiler} in PATH")
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.is_file():
        raise NoCompiler(f"model.compile=true needs Python's headers, and {header} is missing")


def compile_blocks(family: Any, backend: str = "inductor") -> None:
    """Compile the blocks of a family's transformers, each when it first meets a shape; backend is torch's.

    Raises ValueError for a family whose transformer is not made of repeated blocks.
    """
    if family.parallel is None:
        raise ValueError(f"{type(family).__name__} is not made of repeated blocks: leave model.compile false")
    for transformer in family.transformers:
        for name in family.parallel.blocks:
            for block in getattr(transformer, name):
                block.compile(backend=backend, dynamic=False, recompile_limit=SHAPES)
