"""Tensor: storage, leaf-ness, ``.grad``. No op is written here; the table attaches methods."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from refgrad import _dtypes
from refgrad._errors import error, warn_once
from refgrad._grad_mode import MODE
from refgrad._graph import SEQUENCE, Node, accumulator, edge, short_name
from refgrad._storage import Storage, element_strides, storage_offset

#: name -> Op, filled by the table; here because a stale view's node is made from the entry of as_strided
TABLE: dict[str, Any] = {}
OK, UNDER_NO_GRAD, MULTI_OUTPUT, UNDER_INFERENCE = "ok", "no_grad", "multi_output", "inference"
_HOOK_IDS = itertools.count()


class Size(tuple[int, ...]):
    """``torch.Size``: a tuple of dims with ``numel``."""

    def numel(self) -> int:
        count = 1
        for n in self:
            count *= n
        return count

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"

    def __getitem__(self, index: Any) -> Any:
        got = super().__getitem__(index)
        return Size(got) if isinstance(index, slice) else got


class device:
    """``torch.device``: refgrad has the CPU only."""

    def __init__(self, kind: Any = "cpu", index: int | None = None) -> None:
        self.type: str = kind.type if isinstance(kind, device) else str(kind).split(":")[0]
        self.index = index
        if self.type == "cuda":
            raise error("no_cuda")
        if self.type != "cpu":
            raise NotImplementedError(f"refgrad computes on the CPU only, not on {kind!r}")

    def __repr__(self) -> str:
        return f"device(type='{self.type}')"

    def __str__(self) -> str:
        return self.type

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and other.type == self.type

    def __hash__(self) -> int:
        return hash(self.type)


CPU = device("cpu")

_NONLEAF_GRAD = (
    "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute won't be populated during "
    "autograd.backward(). If you indeed want the .grad field to be populated for a non-leaf Tensor, use .retain_grad() on the non-leaf "
    "Tensor. If you access the non-leaf Tensor by mistake, make sure you access the leaf Tensor instead. See "
    "github.com/pytorch/pytorch/pull/30531 for more information."
)
_SCALAR_OF_GRAD = (
    "Converting a tensor with requires_grad=True to a scalar may lead to unexpected behavior.\nConsider using tensor.detach() first."
)

if TYPE_CHECKING:
    fixed = property
else:

    def fixed(getter: Callable[[Any], Any]) -> property:
        """A property with torch's error for who writes to it."""

        def refuse(self: Any, value: Any) -> None:
            raise AttributeError(f"attribute '{getter.__name__}' of 'torch._C.TensorBase' objects is not writable")

        return property(getter, refuse)


class View:
    """How a tensor views its base: the base, the storage version its node was made for, and what in-place writes it forbids."""

    __slots__ = ("base", "kind", "version")

    def __init__(self, base: Any, kind: str, version: int) -> None:
        self.base = base
        self.kind = kind
        self.version = version


class RemovableHandle:
    """What ``register_hook`` returns: ``remove()`` takes the hook away; a context manager too."""

    def __init__(self, hooks: dict[int, Any]) -> None:
        self._hooks = hooks
        self.id = next(_HOOK_IDS)

    def remove(self) -> None:
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class Tensor:
    """A tensor. The class attributes are the defaults of what most tensors never have, which keeps making one cheap.

    ``_data``: the elements, a strided view of the storage. ``_storage`` is None until somebody shares or writes (then the version is 0).
    ``_rg``: requires grad, leaf or not. ``_node``, ``_nr``: grad_fn and output number. Read these three through ``refresh`` where the
    tensor may be a view whose base was written to.
    """

    _data: np.ndarray
    _storage: Storage | None = None
    _rg = False
    _node: Node | None = None
    _nr = 0
    _grad: Any = None
    _view: View | None = None
    _acc: Any = None
    _leaf_hooks: dict[int, Any] | None = None
    _retains = False
    _hooked = False
    _inference = False
    _exact: Any = None  # the exact mode's (dtype, radius)
    _placed: Any = None  # (data, storage, storage offset) when the offset was last asked for: numpy takes microseconds to tell an address

    __array_priority__ = 1000

    # --- state ------------------------------------------------------------------------------------------------------------

    @fixed
    def shape(self) -> Size:
        return Size(self._data.shape)

    def size(self, dim: int | None = None) -> Any:
        if dim is None:
            return Size(self._data.shape)
        ndim = self._data.ndim
        if not -max(ndim, 1) <= dim < max(ndim, 1):
            raise error("dim_range", low=-max(ndim, 1), high=max(ndim, 1) - 1, dim=dim)
        return self._data.shape[dim]

    def dim(self) -> int:
        return self._data.ndim

    ndimension = dim

    @fixed
    def ndim(self) -> int:
        return self._data.ndim

    def numel(self) -> int:
        return int(self._data.size)

    nelement = numel

    @fixed
    def dtype(self) -> _dtypes.dtype:
        return _dtypes.OF[self._data.dtype] if self._exact is None else self._exact[0]

    @fixed
    def device(self) -> device:
        return CPU

    @fixed
    def itemsize(self) -> int:
        return self._data.itemsize

    element_size = lambda self: self._data.itemsize  # noqa: E731 - one expression, as a method

    @fixed
    def nbytes(self) -> int:
        return self._data.size * self._data.itemsize

    @fixed
    def is_cpu(self) -> bool:
        return True

    @fixed
    def is_cuda(self) -> bool:
        return False

    def is_signed(self) -> bool:
        return self.dtype.is_signed

    def is_floating_point(self) -> bool:
        return self.dtype.category == _dtypes.FLOAT

    def is_complex(self) -> bool:
        return False

    def stride(self, dim: int | None = None) -> Any:
        strides = element_strides(self._data)
        return strides if dim is None else strides[dim]

    def storage_offset(self) -> int:
        data, storage = self._data, self._storage
        if storage is None or storage.owner is data:
            return 0
        placed = self._placed
        if placed is None or placed[0] is not data or placed[1] is not storage:
            self._placed = placed = (data, storage, storage_offset(data, storage))
        return placed[2]

    def is_contiguous(self) -> bool:
        return bool(self._data.flags.c_contiguous)

    @fixed
    def _version(self) -> int:
        if self._inference:
            raise error("inference_version")
        return 0 if self._storage is None else self._storage.version

    @property
    def requires_grad(self) -> bool:
        """Also of a view of a tensor that requires grad; asking does not rebuild the view's node."""
        return self._rg or (self._view is not None and self._view.base._rg)

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise error("requires_grad_bool")
        self.requires_grad_(value)

    @fixed
    def is_leaf(self) -> bool:
        if self._view is not None:
            refresh(self)
        return self._node is None

    @fixed
    def grad_fn(self) -> Node | None:
        if self._view is not None:
            refresh(self)
        return self._node

    @fixed
    def output_nr(self) -> int:
        return self._nr

    @fixed
    def retains_grad(self) -> bool:
        return self._retains and self._node is not None

    @fixed
    def _base(self) -> Any:
        return self._view.base if self._view is not None else None

    def _is_view(self) -> bool:
        return self._view is not None

    def is_inference(self) -> bool:
        return self._inference

    @property
    def grad(self) -> Any:
        if self._grad is None and self._node is not None and not self._retains:
            warnings.warn(_NONLEAF_GRAD, UserWarning, stacklevel=2)
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise error("grad_no_tensor", found=type(value).__name__)
            if value._data.dtype is not self._data.dtype:
                raise error("grad_wrong_type", grad=value.dtype.scalar_type.lower(), dtype=self.dtype.scalar_type)
            if value._data.shape != self._data.shape:
                raise error("grad_wrong_shape", grad=list(value._data.shape), size=list(self._data.shape))
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    @property
    def data(self) -> Tensor:
        """Shares memory, not the version counter, and is never a view."""
        out = Tensor.__new__(Tensor)
        out._data = self._data
        out._storage = Storage(self._data)
        return out

    @data.setter
    def data(self, value: Any) -> None:
        """The memory of another tensor, of any shape and dtype; the graph, the version and what the node saved by name stay."""
        if not isinstance(value, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
        if self.requires_grad and value.dtype.category != _dtypes.FLOAT:
            raise RuntimeError("data set to a tensor that requires gradients must be floating point or complex dtype")
        version = 0 if self._storage is None else self._storage.version
        self._data, self._exact, self._storage = value._data, value._exact, Storage(value._data, version)

    def untyped_storage(self) -> Storage:
        return own_storage(self)

    def data_ptr(self) -> int:
        return int(self._data.__array_interface__["data"][0])

    # --- autograd ---------------------------------------------------------------------------------------------------------

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        if self._inference and requires_grad and not MODE.inference:
            raise error("inference_requires_grad")
        if self._node is not None:
            if not requires_grad:
                raise error("requires_grad_nonleaf")
            return self
        if requires_grad and self.dtype.category != _dtypes.FLOAT:
            raise error("requires_grad_dtype")
        self._rg = bool(requires_grad)
        return self

    def register_hook(self, hook: Callable[[Any], Any]) -> RemovableHandle:
        if not self.requires_grad:
            raise error("hook_needs_grad")
        if not self._hooked:  # torch asks for the node when it makes the tensor's list of hooks, not for later ones
            self.grad_fn  # noqa: B018 - raises for a view that torch forbids to be used
            self._hooked = True
        hooks = self._hooks_here()
        handle = RemovableHandle(hooks)
        hooks[handle.id] = hook
        return handle

    def _hooks_here(self) -> dict[int, Any]:
        if self._node is None:
            if self._leaf_hooks is None:
                self._leaf_hooks = {}
                node = self._acc() if self._acc is not None else None
                if node is not None:
                    node.pre_hooks = {0: self._leaf_hooks}
            return self._leaf_hooks
        if self._node.pre_hooks is None:
            self._node.pre_hooks = {}
        return self._node.pre_hooks.setdefault(self._nr, {})

    def retain_grad(self) -> None:
        import weakref

        if not self.requires_grad:
            raise error("retain_needs_grad")
        if self._node is None or self.grad_fn is None or self._retains:  # a leaf's node is not asked for
            return
        self._retains = True
        if self._node.retaining is None:
            self._node.retaining = {}
        self._node.retaining[self._nr] = weakref.ref(self)

    # --- Python's protocols -----------------------------------------------------------------------------------------------

    def item(self) -> Any:
        if self._data.size != 1:
            raise error("item_size", numel=self._data.size)
        return to_python(self._data.reshape(()))

    def tolist(self) -> Any:
        if self._data.ndim == 0:
            return to_python(self._data)
        return (self._data if self._data.dtype is not _dtypes.BF16 else self._data.astype(np.float32)).tolist()

    def numpy(self) -> np.ndarray:
        if self.requires_grad:
            raise error("numpy_grad")
        if self._data.dtype is _dtypes.BF16:
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self._data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def __len__(self) -> int:
        if self._data.ndim == 0:
            raise error("len_0d")
        return self._data.shape[0]

    def __bool__(self) -> bool:
        if self._data.size != 1:
            raise error("bool_ambiguous", count="more than one") if self._data.size else error("bool_empty")
        return bool(self._data.reshape(()))

    def __float__(self) -> float:
        if self.requires_grad and self._data.size == 1:
            warn_once("scalar_of_grad", _SCALAR_OF_GRAD, level=2)
        return float(self._only_element())

    def __int__(self) -> int:
        return int(self._only_element())

    def __complex__(self) -> complex:
        return complex(self._only_element())

    def _only_element(self) -> Any:
        if self._data.size != 1:
            raise error("python_scalar")
        return self.item()

    def __delitem__(self, index: Any) -> None:
        raise TypeError("Tensor does not support deleting items")

    def __index__(self) -> int:
        if self.dtype.category == _dtypes.FLOAT or self._data.size != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __iter__(self) -> Iterator[Any]:
        if self._data.ndim == 0:
            raise error("iter_0d")
        return iter(self.unbind(0))  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return id(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """A leaf's values in new memory that its views and detached forms, copied beside it, share; no graph, no hooks, no version."""
        if not self.is_leaf:
            raise error("deepcopy_nonleaf")
        made = memo.get(id(self))
        if made is None:
            made = memo[id(self)] = self.__class__.__new__(self.__class__)
            made._data, made._storage = _copied_memory(self, memo)
            made._exact, made._inference, made._rg = self._exact, MODE.inference, self.requires_grad
            if self._grad is not None:
                made._grad = copy.deepcopy(self._grad, memo)
        return cast(Tensor, made)

    def __contains__(self, element: Any) -> bool:
        return bool((self == element).any())

    def __repr__(self) -> str:
        from refgrad._printing import tensor_repr

        node = self.grad_fn
        return tensor_repr(
            self._data,
            dtype_name=self.dtype.name,
            requires_grad=self._rg,
            grad_fn_name=None if node is None else node.name().rsplit("::", 1)[-1],
        )

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self._data.ndim == 0 else object.__format__(self, spec)


def make(data: np.ndarray) -> Tensor:
    """A new leaf around an array that nobody else holds."""
    tensor = Tensor.__new__(Tensor)
    tensor._data = data
    if MODE.inference:
        tensor._inference = True
    return tensor


def _copied_memory(tensor: Tensor, memo: dict[int, Any]) -> tuple[np.ndarray, Storage]:
    """The tensor's elements in a copy of its whole storage, one copy for all that share the storage."""
    storage = own_storage(tensor)
    if id(storage) not in memo:
        memo[id(storage)] = Storage(storage.owner.copy(order="K"))
    copied = memo[id(storage)]
    elements = copied.owner.ravel(order="K")[storage_offset(tensor._data, storage) :].view(tensor._data.dtype)
    return np.lib.stride_tricks.as_strided(elements, tensor._data.shape, tensor._data.strides), copied


def own_storage(tensor: Tensor) -> Storage:
    """The tensor's storage, made when it is first shared or written."""
    storage = tensor._storage
    if storage is None:
        storage = tensor._storage = Storage(tensor._data)
    return storage


def to_python(array: np.ndarray) -> Any:
    """A 0-d array as a Python number."""
    return float(array) if array.dtype is _dtypes.BF16 else array.item()


# --- views whose base was written to ---------------------------------------------------------------------------------------


def refresh(tensor: Tensor) -> None:
    """Rebuilds the node of a view whose storage was written to since the node was made."""
    view = tensor._view
    assert view is not None and tensor._storage is not None
    base = view.base
    if tensor._node is None and not base._rg:
        return
    version = tensor._storage.version
    if view.version == version:
        return
    _forbid(tensor, view, stale=True)
    as_strided = TABLE["as_strided"].node
    node = as_strided()
    node.next = (edge(base),)
    node.plain = (*geometry(tensor), geometry(base))
    node.outs = ((tensor._data.shape, tensor._data.dtype),)
    node.seq = next(SEQUENCE)
    move_retained(tensor, node)
    tensor._node, tensor._nr, tensor._rg = node, 0, True
    view.version = version


def move_retained(tensor: Tensor, node: Node) -> None:
    """``retain_grad`` follows the tensor to its new node."""
    old = tensor._node
    if tensor._retains and old is not None and old.retaining:
        held = old.retaining.pop(tensor._nr, None)
        if held is not None:
            node.retaining = {0: held}


def _forbid(tensor: Tensor, view: View, stale: bool) -> None:
    """Raises where torch forbids a write: through this view, or (stale) through another alias of its base."""
    how = "stale" if stale else "inplace"
    if view.kind == MULTI_OUTPUT:
        if tensor._node is None:
            raise error(f"multi_output_nograd_{how}")
        raise error(f"multi_output_view_{how}", place=tensor._nr, node=short_name(tensor._node))
    mode = {UNDER_NO_GRAD: "nograd", UNDER_INFERENCE: "inference"}.get(view.kind)
    if mode is not None and tensor._node is not None:
        raise error(f"{mode}_view_of_view_{how}", place=tensor._nr, node=short_name(tensor._node))
    if mode is not None:
        raise error(f"{mode}_view_{how}")


def geometry(tensor: Tensor) -> tuple[Any, ...]:
    """(shape, strides, offset), strides and offset in elements."""
    return (tensor._data.shape, element_strides(tensor._data), tensor.storage_offset())


__all__ = ["MODE", "Size", "Tensor", "accumulator", "device", "edge", "make"]
