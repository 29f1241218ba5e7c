"""``torch.autograd``."""

from refgrad._attach import missing
from refgrad._engine import backward, grad
from refgrad._grad_mode import enable_grad, inference_mode, no_grad, set_grad_enabled

__all__ = ["backward", "enable_grad", "grad", "inference_mode", "no_grad", "set_grad_enabled"]

__getattr__ = missing("torch.autograd.")
