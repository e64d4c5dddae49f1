"""Shots that cost alike, and how long they take a farm at least. Pure.

A step of a shot ends when its last window is predicted, so one shot alone leaves gangs idle; windows of
several open shots fill the pool. Its pixels are made by one GPU, whatever gangs there are.
Decides: how long windows and pixels take together. Does not decide: what one takes (cost, decoding), or which
gangs there are (choose).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cluster.cost import Memory, Shape, Step, memory
from cluster.decoding import Pixels
from cluster.machine import Machine
from engine.parallel.axes import Axes
from engine.phases import Course


@dataclass(frozen=True)
class Strand:
    """Shots that cost alike: each step of their course predicts its windows, then waits for all of them.

    pixels are those that a decoder makes beside a rank, on its GPU; None where it does that elsewhere.
    `plain` steps of each leg of the course have one branch, though guidance is on at the others.
    """

    shape: Shape
    course: Course
    pixels: Pixels | None = None
    plain: tuple[int, ...] = ()

    @property
    def runs(self) -> list[tuple[Shape, int, int]]:
        """Steps that cost alike: their window, how many they are, and the windows that each has."""
        if not self.plain:
            return [(self.shape, *leg) for leg in self.course.legs]
        name = f"{self.shape.name} without guidance"
        shapes = self.shape, replace(self.shape, guided=False, name=name)
        return [
            (shape, steps, windows)
            for (in_all, windows), plain in zip(self.course.legs, self.plain, strict=True)
            for shape, steps in zip(shapes, (in_all - plain, plain), strict=True)
            if steps
        ]

    def chain_s(self, steps: Mapping[Shape, Step], gangs: int) -> float:
        """Seconds of one shot's steps, one after another, on so many gangs."""
        return sum(n * -(-windows // gangs) * steps[shape].seconds for shape, n, windows in self.runs)

    def gang_s(self, steps: Mapping[Shape, Step]) -> float:
        """Seconds of a gang for all windows of one shot."""
        return sum(n * windows * steps[shape].seconds for shape, n, windows in self.runs)

    def decoding_s(self, machine: Machine) -> float:
        """Seconds that one GPU takes to make a shot's pixels; 0 where they are made elsewhere."""
        return self.pixels.seconds(machine) if self.pixels else 0.0

    def memory(self, axes: Axes, batch: int = 0) -> Memory:
        """What a rank's GPU must hold, as a run counts it before it begins a film (cluster.sketch).

        That is with a forward of `batch` windows; 0 is the widest of the course.
        """
        of_rank = memory(self.shape, axes, batch or self.course.widest)
        return replace(of_rank, pixels_gib=self.pixels.gib) if self.pixels else of_rank


Work = Mapping[Strand, int]  # how many shots of each


def span(work: Work, steps: Mapping[Shape, Step], gangs: int, open_shots: int) -> float:
    """Seconds until all windows are predicted, by the larger of two bounds that hold for any order.

    No shot is quicker than its steps one after another; and all together are no quicker than the windows that
    open shots have ready keep gangs at work. One shot at a time has no other's windows to fill up with.
    """
    chains = {strand: strand.chain_s(steps, gangs) for strand in work}
    longest = max(chains.values(), default=0.0)
    open_shots = min(open_shots, sum(work.values()))
    if open_shots <= 1:
        return sum(n * chains[strand] for strand, n in work.items())
    gang_s = sum(n * strand.gang_s(steps) for strand, n in work.items())
    alone_s = sum(n * strand.chain_s(steps, strand.course.n_windows) for strand, n in work.items())
    ready = open_shots * gang_s / alone_s  # windows of the open shots, by how long they are open
    return max(longest, gang_s / min(gangs, ready))


def shown_s(
    work: Work, steps: Mapping[Shape, Step], axes: Axes, machine: Machine, open_shots: int, decoders: int
) -> float:
    """Seconds until all pixels are there, by the largest of bounds that hold for any order.

    One GPU makes a shot's, when its windows are done: the last shot's after all windows, all of them at most
    so many at a time, and on GPUs that ranks share.
    """
    gangs = machine.nodes * (machine.gpus // axes.ranks)
    denoised_s = span(work, steps, gangs, open_shots)
    decoding = {strand: strand.decoding_s(machine) for strand in work}
    in_all = sum(n * decoding[strand] for strand, n in work.items())
    if not in_all:
        return denoised_s
    chains = {strand: strand.chain_s(steps, gangs) for strand in work}
    gang_s = sum(n * strand.gang_s(steps) for strand, n in work.items())
    return max(
        denoised_s + min(decoding.values()),
        max(chains[strand] + decoding[strand] for strand in work),
        min(chains.values()) + in_all / min(decoders, sum(work.values())),
        (gang_s * axes.ranks + in_all) / machine.n_gpus,
    )
