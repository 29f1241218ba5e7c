"""``torch.optim``."""

from refgrad._attach import missing
from refgrad.optim._sgd import SGD, Optimizer

__all__ = ["SGD", "Optimizer"]

__getattr__ = missing("torch.optim.")
