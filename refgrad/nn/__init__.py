"""``torch.nn``: so far its functional form."""

from refgrad._attach import missing
from refgrad.nn import functional as functional

__getattr__ = missing("torch.nn.")
