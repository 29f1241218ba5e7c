"""Calling an op: promote → forward → round → wrap → record. Nothing about any single op stands here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from refgrad import _dtypes, _exact
from refgrad._dtypes import BOOL, F32, F64, FLOAT, OF, narrow, promote_types, result_type, scalar_dtype
from refgrad._errors import error, raised_in_kernel
from refgrad._exact import ExactTensor
from refgrad._grad_mode import GRAD, MODE
from refgrad._graph import SEQUENCE, Node, edge, form, save_input, save_result
from refgrad._storage import Storage, address, element_strides, is_dense, laid_out
from refgrad._tensor import (
    MULTI_OUTPUT,
    OK,
    UNDER_INFERENCE,
    UNDER_NO_GRAD,
    Tensor,
    View,
    _forbid,
    geometry,
    move_retained,
    own_storage,
    refresh,
)

np.seterr(all="ignore")  # IEEE's answers are what torch gives, and torch warns of none of them

_NUMBERS = (int, float, np.number, np.bool_)
#: dtype -> number -> array; zeros by their text, since 0.0 equals -0.0
_CONSTANTS: dict[Any, dict[Any, np.ndarray]] = {F32: {}, F64: {}}


def constant(number: float | int, dtype: np.dtype[Any]) -> np.ndarray:
    """A Python number as a 0-d array, kept: making one costs more than adding three elements."""
    known = _CONSTANTS.get(dtype)
    if known is None:
        known = _CONSTANTS[dtype] = {}
    key = number if number else str(number)
    array = known.get(key)
    if array is None:
        array = np.asarray(number, dtype)
        if len(known) < 5_000:
            known[key] = array
    return array


# --- promotion -----------------------------------------------------------------------------------------------------------


def common_dtype(values: list[Any]) -> _dtypes.dtype:
    """torch's result type of tensors and Python numbers."""
    operands = []
    for v in values:
        if isinstance(v, Tensor):
            operands.append((2 if v._data.ndim else 1, v.dtype))
        elif v is not None:
            operands.append((0, scalar_dtype(v)))
    return result_type(*operands)


def _operand(value: Any, nominal: _dtypes.dtype, compute: np.dtype[Any], rounded: bool = False) -> Any:
    """One operand as an array of the compute dtype. A Python number takes part at compute precision: float32 for floats up to 32 bits."""
    if isinstance(value, Tensor):
        data = value._data
        if data.dtype is compute:
            return data
        if nominal.np is compute or data.dtype is nominal.np:
            return narrow(data, compute)
        return narrow(data, nominal.np).astype(compute)
    if isinstance(value, (list, tuple)):
        return [_operand(v, nominal, compute) for v in value]
    if value is None:
        return None
    if nominal.category == FLOAT and nominal.itemsize <= 4:
        value = np.float32(value)
    if rounded and nominal.category == FLOAT:
        return narrow(np.asarray(value, np.float64), nominal.np).astype(compute)
    return np.asarray(value).astype(compute)  # an integer that does not fit wraps around


def _flatten(bound: tuple[Any, ...], places: tuple[int, ...]) -> list[Any]:
    values: list[Any] = []
    for p in places:
        value = bound[p]
        if isinstance(value, (list, tuple)):
            values.extend(value)
        else:
            values.append(value)
    return values


def prepare(entry: Any, bound: tuple[Any, ...]) -> tuple[list[Any], _dtypes.dtype | None]:
    """Forward's arguments, and the dtype its result is narrowed to (None: it comes as it is)."""
    arguments = list(bound)
    if entry.promote == "none":
        for p in entry.tensor_places:
            arguments[p] = _raw(bound[p])
        return arguments, None
    values = _flatten(bound, entry.promoted_places)
    nominal = _same_dtype(entry, values) if entry.promote == "same" else common_dtype(values)
    if entry.refuses is not None:
        _refuse(entry, nominal, values)
    if entry.promote == "float" and nominal.category != FLOAT:
        nominal = _dtypes.get_default_dtype()
    if entry.result_dtype is not None:
        nominal = entry.result_dtype(nominal, bound)
    half = nominal.category == FLOAT and nominal.itemsize == 2
    compute = nominal.np if entry.direct and not half else nominal.wide
    compares = entry.promote == "bool"  # which is done in the common dtype
    for p in entry.tensor_places:
        rounded = compares or p in entry.rounded_places
        arguments[p] = _operand(bound[p], nominal, compute, rounded) if p in entry.promoted_places else _raw(bound[p])
    for p in entry.scalar_places:
        arguments[p] = _operand(bound[p], nominal, compute, compares)
    return arguments, (None if entry.promote == "bool" else nominal)


def _refuse(entry: Any, nominal: _dtypes.dtype, values: list[Any]) -> None:
    try:
        entry.refuses(nominal, values)
    except RuntimeError as raised:
        if entry.error == "elementwise" and raised_in_kernel(raised):
            check_broadcast([v for v in values if isinstance(v, Tensor)])
        raise


def _raw(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value._data
    return [_raw(v) for v in value] if isinstance(value, (list, tuple)) else value


def _same_dtype(entry: Any, values: list[Any]) -> _dtypes.dtype:
    dtypes = [v.dtype for v in values if isinstance(v, Tensor)]
    for d in dtypes[1:]:
        if d is not dtypes[0]:
            first, other = (_dtypes.CPP_NAMES[kind.name] for kind in (dtypes[0], d))
            raise RuntimeError(f"expected m1 and m2 to have the same dtype, but got: {first} != {other}")
    return dtypes[0]


# --- out of place ----------------------------------------------------------------------------------------------------------


def call(entry: Any, bound: tuple[Any, ...]) -> Any:
    """The op on its bound arguments, in the order of its signature."""
    # otherwise nobody asks for a view's node, and a stale one may stay so
    recording = MODE.mode == GRAD and not MODE.inference and (entry.differentiated or (entry.node is not None and entry.promote != "bool"))
    inference = False
    for p in entry.tensor_places:
        value = bound[p]
        if value.__class__ is ExactTensor:
            return _exact.call(entry, bound)
        if isinstance(value, Tensor):
            inference = inference or value._inference
            if recording and value._view is not None:
                refresh(value)
        elif isinstance(value, (list, tuple)):
            for v in value:
                if v.__class__ is ExactTensor:
                    return _exact.call(entry, bound)
                inference = inference or (v is not None and v._inference)
                if recording and v is not None and v._view is not None:
                    refresh(v)
        elif value is not None and (p in entry.never_numbers or not isinstance(value, _NUMBERS)):
            raise _no_tensor(entry, p, value)
    if entry.tensor_only:
        check_tensors(entry, bound)
    if inference and recording and entry.node is not None and entry.promote != "bool":
        _refuse_saving(entry, bound)
    if entry.check is not None:
        entry.check(*bound)
    outs = run_forward(entry, bound)
    if entry.iterates:
        outs = [_laid_out(r, bound, entry) for r in outs]
    tensors = [_wrap(entry, r, bound[0]) for r in outs]
    if recording and entry.node is not None and entry.promote != "bool":
        _record(entry, bound, tensors)
    if entry.multi:
        return tuple(tensors)
    return tensors[0] if len(tensors) == 1 else entry.result_tuple(*tensors)


def _no_tensor(entry: Any, place: int, value: Any) -> Exception:
    name = entry.params[place]
    return error("must_be_tensor", name=entry.name, argument=name, position=place + 1, found=type(value).__name__)


def check_tensors(entry: Any, bound: tuple[Any, ...], inplace: bool = False) -> None:
    """Raises torch's error where a number stands for an argument that must be a tensor."""
    for name in entry.tensor_only:
        value = bound[entry.place[name]]
        if not isinstance(value, Tensor) and value is not None:
            place, suffix = (entry.place[name], "_") if inplace else (entry.place[name] + 1, "")
            raise error("must_be_tensor", name=entry.name + suffix, argument=name, position=place, found=type(value).__name__)


def _laid_out(result: np.ndarray, bound: tuple[Any, ...], entry: Any) -> np.ndarray:
    if entry.memory_order == "contiguous":
        return np.asarray(result, order="C")
    arrays = [v._data for v in _flatten(bound, entry.tensor_places) if isinstance(v, Tensor)]
    if all(a.flags.c_contiguous and a.shape == arrays[0].shape for a in arrays):  # where one is stretched, dims of one element tell, too
        return result
    if entry.memory_order in entry.place:
        arrays = [bound[entry.place[entry.memory_order]]._data]
    promoted = [bound[p] for p in entry.promoted_places]
    common = common_dtype(_flatten(bound, entry.promoted_places)).np
    # an operand of another dtype is converted first, into memory of its own, which is dense
    converted = [v._data for v in promoted if isinstance(v, Tensor) and v._data.dtype is not common and not is_dense(v._data)]
    if entry.memory_order == "last first":
        arrays.reverse()
    arrays = [laid_out(np.empty(a.shape, common), [a]) if any(a is c for c in converted) else a for a in arrays]
    return laid_out(result, arrays)


def run_forward(entry: Any, bound: tuple[Any, ...]) -> list[np.ndarray]:
    arguments, nominal = prepare(entry, bound)
    result = _forward(entry, arguments, bound)
    results = list(result) if entry.multi or len(entry.outputs) > 1 else [result]
    if nominal is None:
        return [r if r.__class__ is np.ndarray else np.asarray(r) for r in results]
    return [
        narrow(np.asarray(r), nominal.np) if np.asarray(r).dtype.kind not in "b" or nominal.category == BOOL else np.asarray(r)
        for r in results
    ]


def _forward(entry: Any, arguments: list[Any], bound: tuple[Any, ...]) -> Any:
    try:
        return entry.forward(
            *arguments[: entry.positional], **dict(zip(entry.params[entry.positional :], arguments[entry.positional :], strict=True))
        )
    except ValueError:
        check_broadcast([v for v in _flatten(bound, entry.tensor_places) if isinstance(v, Tensor)])
        raise


def check_broadcast(tensors: list[Tensor]) -> tuple[int, ...]:
    """The broadcast shape of the tensors. Raises torch's error where there is none."""
    shape: tuple[int, ...] = ()
    for t in tensors:
        shape = broadcast_shapes(shape, t._data.shape)
    return shape


def broadcast_shapes(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    ndim = max(len(a), len(b))
    left, right = (1,) * (ndim - len(a)) + tuple(a), (1,) * (ndim - len(b)) + tuple(b)
    for dim in range(ndim - 1, -1, -1):
        if left[dim] != right[dim] and 1 not in (left[dim], right[dim]):
            raise error("broadcast", a=left[dim], b=right[dim], dim=dim)
    return tuple([m if n == 1 else n for n, m in zip(left, right, strict=True)])


def _wrap(entry: Any, array: np.ndarray, source: Any) -> Tensor:
    out = Tensor.__new__(Tensor)
    out._data = array
    if not entry.view:
        out._inference = MODE.inference
        return out
    return as_view(out, source, entry.multi)


def as_view(out: Tensor, source: Tensor, multi: bool) -> Tensor:
    """Makes ``out`` share the storage of ``source`` and be a view of its base."""
    storage = source._storage
    if storage is None:
        storage = own_storage(source)
    out._storage = storage
    if source._inference:
        out._inference = True
        return out
    view = source._view
    kind = UNDER_INFERENCE if MODE.inference else UNDER_NO_GRAD if MODE.mode != GRAD else MULTI_OUTPUT if multi else OK
    if view is not None and kind == OK:
        kind = view.kind
    base = source if view is None else view.base
    out._view = View(base, kind, storage.version)
    return out


def _edges(entry: Any, bound: tuple[Any, ...]) -> tuple[Any, ...]:
    if entry.list_place is not None:
        return tuple([edge(t) if t.dtype.category == FLOAT else None for t in bound[entry.list_place]])
    edges = []
    for name in entry.vjp:
        value = bound[entry.place[name]]
        edges.append(edge(value) if isinstance(value, Tensor) and value._rg else None)
    return tuple(edges)


def reaches_autograd(values: list[Any]) -> bool:
    """Inference tensors alone do not. A number that stands for a tensor is made one, and no inference tensor."""
    return not all(v._inference if isinstance(v, Tensor) else v is None for v in values)


def _operands(entry: Any, bound: tuple[Any, ...]) -> list[Any]:
    """What stands where this overload takes tensors."""
    return _flatten(bound, tuple([p for p in entry.tensor_places if entry.params[p] not in entry.number_only]))


def _is_recorded(entry: Any, bound: tuple[Any, ...]) -> bool:
    return reaches_autograd(_operands(entry, bound)) and any(
        t.requires_grad for t in _flatten(bound, entry.differentiable_places) if isinstance(t, Tensor)
    )


def _refuse_saving(entry: Any, bound: tuple[Any, ...]) -> None:
    """Raises for an inference tensor that a node would keep; inputs are kept before anything is computed."""
    if not _is_recorded(entry, bound):
        return
    edges = dict(zip(entry.vjp, _edges(entry, bound), strict=True)) if entry.list_place is None else {}
    for name in entry.saves:
        user = entry.sole_user[name]
        if name not in entry.outputs and (user is None or edges[user] is not None):
            save_input(bound[entry.place[name]])


def _record(entry: Any, bound: tuple[Any, ...], outs: list[Tensor]) -> None:
    if not _is_recorded(entry, bound):
        return
    differentiable = [
        o
        for o, name in zip(outs, entry.outputs if not entry.multi else ("",) * len(outs), strict=True)
        if name not in entry.nondifferentiable
    ]
    if not differentiable or differentiable[0].dtype.category != FLOAT:
        return
    node = make_node(entry, bound, outs, _edges(entry, bound))
    for nr, out in enumerate(outs):
        if any(out is d for d in differentiable) and out.dtype.category == FLOAT:
            out._node, out._nr, out._rg = node, nr, True
    save_outputs(node, outs)


def make_node(
    entry: Any, bound: tuple[Any, ...], outs: list[Tensor], edges: tuple[Any, ...], before: Tensor | None = None, inplace: bool = False
) -> Node:
    """A node for this call, with what torch's rule keeps; ``before`` is the written tensor's clone from before an in-place write."""
    node: Node = (entry.inplace_node if inplace else entry.node)()
    node.next = edges
    node.outs = tuple([form(o) for o in outs])
    node.seq = next(SEQUENCE)
    places = {name: i for i, name in enumerate(entry.vjp)}
    saved: list[Any] = []
    for name in entry.saves:
        user = entry.sole_user[name]
        if name in entry.outputs:
            saved.append(_OUTPUT[entry.outputs.index(name)])
        elif user is not None and edges[places[user]] is None:
            saved.append(None)
        else:
            value = bound[entry.place[name]]
            saved.append(save_input(before if before is not None and entry.place[name] == 0 else value))
    node.saved = tuple(saved)
    node.plain = tuple([_plain_value(n, entry, bound) for n in entry.plain_names])
    return node


class _Output:
    """Stands in ``saved`` for an output that does not exist yet."""

    def __init__(self, place: int) -> None:
        self.place = place


_OUTPUT = [_Output(i) for i in range(8)]


def save_outputs(node: Node, outs: list[Tensor]) -> None:
    if node.saved:
        node.saved = tuple([save_result(outs[s.place]) if s.__class__ is _Output else s for s in node.saved])


def _plain_value(name: str, entry: Any, bound: tuple[Any, ...]) -> Any:
    if name in entry.place:
        return bound[entry.place[name]]
    tensor, kind = name.rsplit("_", 1)
    value = bound[entry.place[tensor]]
    if kind == "geometry":
        return geometry(value)
    if isinstance(value, (list, tuple)):
        return [t._data.shape if kind == "shape" else t.dtype for t in value]
    if not isinstance(value, Tensor):
        return () if kind == "shape" else None
    return value._data.shape if kind == "shape" else value.dtype


# --- in place ---------------------------------------------------------------------------------------------------------------


class CopySlices(Node):
    """A base's history after a write through a view: inside the view's region the write's own node, outside the gradient itself."""

    def __init__(self, base: Any, view: Any, function: Node, base_edge: Any) -> None:
        self.base, self.view = base, view
        self.function: Node | None = function
        self.next = (base_edge, *function.next[1:])
        self.seq = next(SEQUENCE)

    def apply(self, grads: list[Any]) -> tuple[Any, ...]:
        from refgrad._table import TABLE

        if self.function is None:
            raise error("freed_graph")
        (grad,) = grads
        if grad is None:
            return (None,) * len(self.next)
        result = TABLE["as_contiguous_like"].public(grad, self.base)
        region = TABLE["as_strided"].public(result, self.view[0], self.view[1], self.view[2] - self.base[2])
        inner, *others = self.function.apply([region.clone()])
        if self.next[0] is not None:
            region.zero_() if inner is None else region.copy_(inner)
        return (result if self.next[0] is not None else None, *others)

    def release(self) -> None:
        """As torch's: the write's node goes, so a second backward through it always raises."""
        self.function = None


def call_inplace(entry: Any, bound: tuple[Any, ...]) -> Tensor:
    """``op_``: the op's result written over its first argument, the version bumped, the history moved."""
    target: Tensor = bound[0]
    if entry.tensor_only:
        check_tensors(entry, bound, inplace=True)
    enabled = MODE.mode == GRAD and not MODE.inference
    recording = enabled and entry.node is not None and _is_recorded(entry, bound)
    operands = [v for v in _flatten(bound, entry.tensor_places)[1:] if isinstance(v, Tensor)]
    if entry.node is not None and reaches_autograd(_operands(entry, bound)):  # without a derivative, no concern of autograd's
        check_inplace(target, recording)
    if recording and target.dtype.category == FLOAT and any(t._inference for t in operands):
        _refuse_saving(entry, (_clone_of(target), *bound[1:]))
    for value in _flatten(bound, entry.tensor_places):
        if enabled and entry.node is not None and isinstance(value, Tensor) and value._view is not None:
            refresh(value)
    if entry.check is not None:
        entry.check(*bound)
    if entry.promote in ("common", "float"):
        _refuse_before_memory(entry, bound)
    try:
        _check_written_memory(entry, bound)
    except RuntimeError:
        if entry.arguments_first:
            _refuse_arguments(entry, bound)
        raise
    result = inplace_result(entry, bound)
    if target._inference and not MODE.inference:  # it is the version, which comes last, that cannot be told
        raise error("inference_inplace")
    node = None
    if recording and target.dtype.category == FLOAT:
        before = None
        if entry.params[0] in entry.saves:
            before = _clone_of(target)
        edges = _edges(entry, bound)
        node = make_node(entry, bound, [target], edges, before, inplace=True)
    write(target, result, node)
    return target


def _clone_of(target: Tensor) -> Tensor:
    """What a node keeps of a tensor that is about to be written."""
    before = Tensor.__new__(Tensor)
    before._data = target._data.copy()
    before._node, before._nr, before._rg = target._node, target._nr, target._rg
    return before


def _refuse_before_memory(entry: Any, bound: tuple[Any, ...]) -> None:
    """Raises for dtypes where torch does so before it looks at memory: not where a kernel is missing or fails."""
    values = _flatten(bound, entry.promoted_places)
    nominal = common_dtype(values)
    if entry.refuses is not None:
        try:
            entry.refuses(nominal, values)
        except RuntimeError as raised:
            if not raised_in_kernel(raised):
                raise
    if entry.casts_first and nominal.category > bound[0].dtype.category:
        raise error("result_cast", result=nominal.scalar_type, output=_dtypes.CPP_NAMES[bound[0].dtype.name])


def _refuse_arguments(entry: Any, bound: tuple[Any, ...]) -> None:
    """Raises what the op itself raises before it looks at memory."""
    from refgrad._random import Generator

    if "generator" in entry.place:  # nothing is drawn from the stream
        bound = tuple([Generator() if name == "generator" else value for name, value in zip(entry.params, bound, strict=True)])
    try:
        inplace_result(entry, bound)
    except (RuntimeError, IndexError) as raised:
        if not raised_in_kernel(raised) or isinstance(raised, NotImplementedError):
            raise raised from None


def _check_written_memory(entry: Any, bound: tuple[Any, ...]) -> None:
    """Raises where the memory to be written is such that the order of writes would tell."""
    target, *operands = [v for v in _flatten(bound, entry.tensor_places) if isinstance(v, Tensor)]
    if entry.apart:
        if entry.checks_overlap and entry.copies_over is None:
            check_repeats(target)
        check_apart(target, operands)
    if entry.copies_over is not None:
        if entry.copies_over(*bound):
            check_repeats(target)
    elif entry.checks_overlap and not (entry.name == "copy" and _same_memory(target, bound[1])):  # a copy onto itself does nothing
        check_memory(target, operands)


def _same_memory(a: Tensor, b: Any) -> bool:
    return isinstance(b, Tensor) and a._storage is not None and a._storage is b._storage and geometry(a) == geometry(b)


def inplace_result(entry: Any, bound: tuple[Any, ...]) -> np.ndarray:
    target: Tensor = bound[0]
    values = _flatten(bound, entry.tensor_places)
    if entry.promote in ("common", "float"):
        nominal = common_dtype(_flatten(bound, entry.promoted_places))
        if entry.promote == "float" and nominal.category != FLOAT:
            nominal = _dtypes.get_default_dtype()
        shape = check_broadcast([v for v in values if isinstance(v, Tensor)])
        if shape != target._data.shape:
            raise error("inplace_broadcast", output=list(target._data.shape), broadcast=list(shape))
        if nominal.category > target.dtype.category:
            raise error("result_cast", result=nominal.scalar_type, output=target.dtype.scalar_type)
    arguments, _ = prepare(entry, bound)
    result = np.asarray(_forward(entry, arguments, bound))
    if entry.inplace_refuses is not None and result.size:
        entry.inplace_refuses(target.dtype, values)
    if result.shape != target._data.shape:
        if _broadcast_to(values, result.shape):
            raise error("inplace_broadcast", output=list(target._data.shape), broadcast=list(result.shape))
        raise error("inplace_size", input=list(target._data.shape), output=list(result.shape))
    return result


def _broadcast_to(values: list[Any], shape: tuple[int, ...]) -> bool:
    try:
        return check_broadcast([v for v in values if isinstance(v, Tensor)]) == shape
    except RuntimeError:
        return False


def no_kernel(kernel: str, *categories: int) -> Callable[[_dtypes.dtype, list[Any]], None]:
    """For an entry's ``refuses``: torch's error for the dtypes of these categories, which its kernel of that name lacks."""

    def refuse(nominal: _dtypes.dtype, values: list[Any]) -> None:
        if nominal.category in categories:
            raise error("no_kernel", kernel=kernel, dtype=nominal.scalar_type)

    return refuse


def check_inplace(target: Tensor, recording: bool) -> None:
    """Raises where torch forbids writing to ``target``."""
    if MODE.mode != GRAD or MODE.inference or not (target.requires_grad or recording):
        return
    view = target._view
    if view is not None:
        _forbid(target, view, stale=False)
        if target._rg and view.base._node is None:
            raise error("view_of_leaf_inplace")
    elif target._rg and target._node is None:
        raise error("leaf_inplace")


def repeats(array: np.ndarray) -> bool:
    """Whether the array names a place twice, as torch tells it: by a stride of 0."""
    return array.size > 0 and any(s == 0 and n > 1 for s, n in zip(array.strides, array.shape, strict=True))


def check_repeats(target: Tensor) -> None:
    """Raises where the written memory repeats itself."""
    if repeats(target._data):
        raise error("overlap_inplace")


def check_memory(target: Tensor, operands: list[Tensor]) -> None:
    """Raises where the written memory repeats itself or partly overlaps an operand."""
    check_repeats(target)
    for operand in operands:
        if (
            operand is not target
            and operand._storage is not None
            and operand._storage is target._storage
            and _partly(target._data, operand._data)
        ):
            raise error("partial_overlap")


def check_apart(target: Tensor, operands: list[Any]) -> None:
    """Raises where an operand has any of the memory that is to be written."""
    for operand in operands:
        if (
            isinstance(operand, Tensor)
            and operand._data.size
            and (operand is target or (operand._storage is target._storage is not None and _meet(target._data, operand._data)))
        ):
            raise error("partial_overlap")


def _meet(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether dense memory intersects; what torch calls too hard to tell does not."""
    start_a, start_b = address(a), address(b)
    return a.size > 0 and b.size > 0 and _dense(a) and _dense(b) and start_a < start_b + b.nbytes and start_b < start_a + a.nbytes


def _partly(a: np.ndarray, b: np.ndarray) -> bool:
    """torch's test: dense memory that intersects without being the same elements; what it calls too hard passes."""
    if a.size == 0 or b.size == 0 or not (_dense(a) and _dense(b)):
        return False
    start_a, start_b = address(a), address(b)
    if start_a == start_b and a.size == b.size:
        return element_strides(a) != element_strides(b)
    return start_a < start_b + b.nbytes and start_b < start_a + a.nbytes


def _dense(a: np.ndarray) -> bool:
    expected = a.itemsize
    for stride, size in sorted((s, n) for s, n in zip(a.strides, a.shape, strict=True) if n > 1):
        if stride != expected:
            return False
        expected *= size
    return True


def write(target: Tensor, result: np.ndarray, node: Node | None) -> None:
    """Puts ``result`` into the memory of ``target``, bumps the version and makes ``node`` its history."""
    data = target._data
    if result.dtype is not data.dtype:
        result = narrow(result, data.dtype)
    data[...] = result
    own_storage(target).version += 1
    if node is not None:
        rebase(target, node)


def rebase(target: Tensor, node: Node) -> None:
    view = target._view
    if view is None:
        move_retained(target, node)
        target._node, target._nr, target._rg = node, 0, True
        save_outputs(node, [target])
        return
    base = view.base
    base_edge = edge(base)
    save_outputs(node, [target])
    slices = CopySlices(geometry(base), geometry(target), node, base_edge)
    slices.outs = ((base._data.shape, base._data.dtype),)
    move_retained(base, slices)
    base._node, base._nr, base._rg = slices, 0, True
    refresh(target)


# --- overloads --------------------------------------------------------------------------------------------------------------


def overloaded(name: str, overloads: list[Any], inplace: bool = False) -> Callable[..., Any]:
    """One public function over several entries: the first whose ``accepts`` takes the call."""

    known: dict[Any, Callable[..., Any]] = {}  # which entry takes a call depends on its types alone

    def find(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[..., Any]:
        for entry in overloads:
            if entry.accepts(args, kwargs):
                return entry.inplace_python if inplace else entry.python
        kinds = ", ".join([type(a).__name__ for a in args] + [f"{k}={type(v).__name__}" for k, v in kwargs.items()])
        expected = "".join(f" * {o.signature}\n" for o in overloads)
        raise TypeError(f"{name}() received an invalid combination of arguments - got ({kinds}), but expected one of:\n{expected}")

    def choose(*args: Any, **kwargs: Any) -> Any:
        kinds: Any = (
            args[0].__class__
            if len(args) == 1
            else (args[0].__class__, args[1].__class__)
            if len(args) == 2
            else tuple([a.__class__ for a in args])
        )
        if kwargs:
            kinds = (kinds, tuple([(k, v.__class__) for k, v in kwargs.items()]))
        python = known.get(kinds)
        if python is None:
            python = known[kinds] = find(args, kwargs)
        return python(*args, **kwargs)

    return choose


__all__ = ["F64", "OF", "Storage", "call", "call_inplace", "constant", "promote_types"]
