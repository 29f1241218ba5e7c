"""no_grad, enable_grad, set_grad_enabled, inference_mode: each thread has its own mode, as in torch."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

GRAD, NO_GRAD, INFERENCE = 0, 1, 2


class _Mode(threading.local):
    mode = GRAD  # INFERENCE implies that nothing is recorded, unless enable_grad is nested in it
    inference = False


MODE = _Mode()


class _ModeBlock:
    """A context manager and decorator that sets the mode and restores what was there before, also on an exception."""

    def __enter__(self) -> Any:
        self._before = (*getattr(self, "_before", ()), (MODE.mode, MODE.inference))
        self._set()
        return None

    def __exit__(self, *_: object) -> None:
        *rest, (MODE.mode, MODE.inference) = self._before
        self._before = tuple(rest)

    def _set(self) -> None:
        raise NotImplementedError

    def _fresh(self) -> _ModeBlock:
        return type(self)()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.isgeneratorfunction(function):
            return self._wrap_generator(function)

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self._fresh():
                return function(*args, **kwargs)

        return wrapped

    def _wrap_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            generator = function(*args, **kwargs)
            sent = None
            while True:  # the mode holds while the generator runs, not while it waits
                with self._fresh():
                    try:
                        value = generator.send(sent)
                    except StopIteration as stop:
                        return stop.value
                sent = yield value

        return wrapped


class no_grad(_ModeBlock):
    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        block = super().__new__(cls)
        return block if function is None else block(function)

    def _set(self) -> None:
        MODE.mode = NO_GRAD


class enable_grad(_ModeBlock):
    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        block = super().__new__(cls)
        return block if function is None else block(function)

    def _set(self) -> None:
        MODE.mode = GRAD


class set_grad_enabled(_ModeBlock):
    """As in torch, the call itself already switches."""

    def __init__(self, mode: bool) -> None:
        self.enabled = bool(mode)
        self._before = ((MODE.mode, MODE.inference),)
        MODE.mode = GRAD if mode else NO_GRAD

    def __enter__(self) -> None:
        self._set()

    def _set(self) -> None:
        MODE.mode = GRAD if self.enabled else NO_GRAD

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        MODE.mode, MODE.inference = self._before[0]  # as a decorator it must not switch where it stands
        return super().__call__(function)

    def _fresh(self) -> _ModeBlock:
        return set_grad_enabled(self.enabled)


class inference_mode(_ModeBlock):
    enabled: bool

    def __new__(cls, mode: Any = True) -> Any:
        block = super().__new__(cls)
        if callable(mode):
            block.enabled = True
            return block(mode)
        block.enabled = bool(mode)
        return block

    def _set(self) -> None:
        MODE.inference = self.enabled
        MODE.mode = NO_GRAD if self.enabled else GRAD

    def _fresh(self) -> _ModeBlock:
        return inference_mode(self.enabled)


def is_grad_enabled() -> bool:
    return MODE.mode == GRAD


def is_inference_mode_enabled() -> bool:
    return MODE.inference


def _set_grad_enabled(mode: bool) -> None:
    MODE.mode = GRAD if mode else NO_GRAD
