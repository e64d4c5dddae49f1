"""Accuracies over many clips: by axis, by attribute and by kind.

Decides what is counted together. Does not decide which clips are counted or who drew them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.chalk.oracle.reading import LANDSCAPE, Reading, read
from engine.chalk.oracle.score import AXES, Score, score
from engine.chalk.scenes import Figure, Scene


@dataclass(frozen=True)
class Count:
    """How many of those asked for were right."""

    right: int
    asked: int

    @property
    def share(self) -> float:
        """From 0 to 1; NaN where nothing was asked for."""
        return self.right / self.asked if self.asked else float("nan")


@dataclass(frozen=True)
class Case:
    """One clip: what was asked for, what was read, and how far they agree."""

    scene: Scene
    reading: Reading
    score: Score


@dataclass(frozen=True)
class Table:
    """Counts of many cases."""

    cases: tuple[Case, ...]

    @property
    def axes(self) -> dict[str, Count]:
        """By axis, and "all" for clips that show all that was asked for."""
        counts = {axis: _count(getattr(case.score, axis) for case in self.cases) for axis in AXES}
        return counts | {"all": _count(case.score.all for case in self.cases)}

    @property
    def once(self) -> dict[str, float]:
        """The axes' shares when every scene counts once, however often it was asked for; NaN for none."""
        by_scene: dict[Scene, list[Case]] = defaultdict(list)
        for case in self.cases:
            by_scene[case.scene].append(case)
        counts = [Table(tuple(cases)).axes for cases in by_scene.values()]
        shares = {name: [count[name].share for count in counts if count[name].asked] for name in self.axes}
        return {name: float(np.mean(values)) if values else float("nan") for name, values in shares.items()}

    @property
    def parts(self) -> dict[str, Count]:
        """By attribute, as "motion.clouds"."""
        names = sorted({name for case in self.cases for name in case.score.parts})
        return {name: _count(case.score.parts.get(name) for case in self.cases) for name in names}

    @property
    def kinds(self) -> dict[str, dict[str, Count]]:
        """The axes of each kind of figure, and of landscapes."""
        by_kind: dict[str, list[Case]] = defaultdict(list)
        for case in self.cases:
            by_kind[_kind(case.scene)].append(case)
        return {kind: Table(tuple(by_kind[kind])).axes for kind in sorted(by_kind)}

    @property
    def wrong(self) -> list[Case]:
        """The cases that do not show all that was asked for."""
        return [case for case in self.cases if not case.score.all]

    def __str__(self) -> str:
        """Three small tables of lines."""
        lines = [f"{len(self.cases)} clips of {len({case.scene for case in self.cases})} scenes"]
        once = {name: f"{100 * share:.1f} %, each scene once" for name, share in self.once.items()}
        lines += [f"  {name:<18}{_percent(count)}   {once[name]}" for name, count in self.axes.items()]
        lines += ["by attribute"] + [f"  {name:<18}{_percent(count)}" for name, count in self.parts.items()]
        lines += ["by kind" + " " * 11 + "".join(f"{axis:>19}" for axis in AXES)]
        for kind, counts in self.kinds.items():
            lines.append(f"  {kind:<16}" + "".join(_percent(counts[axis]) for axis in AXES))
        return "\n".join(lines)


def evaluate(clips: Iterable[tuple[npt.NDArray[np.uint8], Scene]]) -> Table:
    """Read every clip and hold it against its scene, one by one: clips may be a generator."""
    cases = []
    for f_THWC, scene in clips:
        reading = read(f_THWC)
        cases.append(Case(scene, reading, score(reading, scene)))
    return Table(tuple(cases))


def _count(verdicts: Iterable[bool | None]) -> Count:
    known = [verdict for verdict in verdicts if verdict is not None]
    return Count(sum(known), len(known))


def _kind(scene: Scene) -> str:
    return scene.kind if isinstance(scene, Figure) else LANDSCAPE


def _percent(count: Count) -> str:
    text = f"{100 * count.share:.1f} % of {count.asked}" if count.asked else "-"
    return f"{text:>19}"
