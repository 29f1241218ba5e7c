"""What the generator must know of an op beyond its signature: at most one record per op; defaults derive from the table."""

from conformance.opinfo import creation, elementwise, indexing, joining, nn, products, reduction, views
from conformance.opinfo.records import FLOATS, INTS, Info, info

__all__ = ["FLOATS", "INTS", "Info", "creation", "elementwise", "indexing", "info", "joining", "nn", "products", "reduction", "views"]
