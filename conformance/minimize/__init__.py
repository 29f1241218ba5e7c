"""A structural minimizer for programs. What failing means is handed in: nothing here knows torch or refgrad."""

from conformance.minimize.reducer import NotInteresting, minimize

__all__ = ["NotInteresting", "minimize"]
