"""Where draws come from: Hypothesis (shrinking, ``@example``) or a plain seeded stream (long runs). One contract, tested over both."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Provider(Protocol):
    """Few, cheap draws. All bounds are inclusive; the first choice and the lower bound are the simplest."""

    def draw_integer(self, low: int, high: int) -> int: ...

    def draw_choice(self, options: Sequence[T]) -> T: ...

    def draw_chance(self, percent: int) -> bool: ...

    def draw_weighted(self, cumulative: Sequence[int], options: Sequence[T]) -> T: ...


class Stream:
    """A plain stream: the same seed gives the same draws, on every machine."""

    def __init__(self, seed: int) -> None:
        random = Random(seed)
        self._random = random.random

    def draw_integer(self, low: int, high: int) -> int:
        return low + int(self._random() * (high - low + 1))

    def draw_choice(self, options: Sequence[T]) -> T:
        return options[int(self._random() * len(options))]

    def draw_chance(self, percent: int) -> bool:
        return self._random() * 100 < percent

    def draw_weighted(self, cumulative: Sequence[int], options: Sequence[T]) -> T:
        at = int(self._random() * cumulative[-1])
        for bound, option in zip(cumulative, options, strict=True):
            if at < bound:
                return option
        return options[-1]


class FromHypothesis:
    """Draws through a Hypothesis ``data`` object."""

    def __init__(self, data: Any) -> None:
        from hypothesis import strategies

        self._draw = data.draw
        self._integers = strategies.integers

    def draw_integer(self, low: int, high: int) -> int:
        return int(self._draw(self._integers(low, high)))

    def draw_choice(self, options: Sequence[T]) -> T:
        return options[self.draw_integer(0, len(options) - 1)]

    def draw_chance(self, percent: int) -> bool:
        return self.draw_integer(0, 99) >= 100 - percent

    def draw_weighted(self, cumulative: Sequence[int], options: Sequence[T]) -> T:
        at = self.draw_integer(0, cumulative[-1] - 1)
        return next(o for bound, o in zip(cumulative, options, strict=True) if at < bound)
