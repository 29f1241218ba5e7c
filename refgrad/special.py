"""``torch.special``, filled from the table."""

import sys

from refgrad._attach import attach_functions, missing

attach_functions(sys.modules[__name__], "special")

__getattr__ = missing("torch.special.")
