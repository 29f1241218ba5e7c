"""Op, TABLE and ``@op``: an op is declared once, by its signature, its forward on numpy arrays, and its gradient in refgrad's own ops.

``@op`` compiles, once at import, the public function and the node class of the entry. The compiled source is in ``linecache``, so a
debugger steps through it.
"""

from __future__ import annotations

import inspect
import linecache
import re
from collections import namedtuple
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from refgrad import _dispatch
from refgrad._dtypes import F32, F64, OF
from refgrad._errors import error
from refgrad._grad_mode import MODE
from refgrad._graph import SEQUENCE, Node, accumulator, load, save_input, save_result
from refgrad._storage import laid_out
from refgrad._tensor import TABLE, Tensor, geometry, refresh

#: parameter names that hold tensors unless an entry says otherwise with ``tensors=``
TENSOR_NAMES: Final = frozenset(
    (
        "input", "other", "mat2", "vec2", "index", "mask", "source", "target", "weight", "condition", "exponent", "tensor", "tensors",
        "end", "bias", "pos_weight", "batch1", "batch2", "value_tensor", "min_t", "max_t",
    )
)  # fmt: skip
PROMOTIONS: Final = ("same", "common", "float", "bool", "none")


class Op:
    """One overload of one op: what the entry says, and what is derived from it. See ``op`` for the fields."""

    def __init__(self, forward: Callable[..., Any], options: dict[str, Any]) -> None:
        self.forward = forward
        self.name: str = options.pop("name", None) or forward.__name__.rstrip("_")
        self._take_arguments(options)
        self._take_dtypes(options)
        self._take_results(options)
        self._take_forms(options)
        self._take_allowance(options)
        if options:
            raise TypeError(f"op {self.name}: unknown keyword {', '.join(options)}")
        if self.promote not in PROMOTIONS:
            raise ValueError(f"op {self.name}: promote must be one of {', '.join(PROMOTIONS)}")
        self.differentiable_places = tuple(self.place[v] for v in self.vjp)
        # places where torch takes no number for a tensor: the one operand, and operands that are not promoted together
        self.never_numbers = self.tensor_places if len(self.tensor_places) == 1 or self.promote == "same" else ()
        self.saves = _saved_names(self)
        self.plain_names = _plain_names(self)
        self.sole_user = {s: _sole_user(self, s) for s in self.saves}
        self.node = _compile_node(self, self.number) if self.vjp else None
        self.inplace_node = self.node if self.inplace_number == self.number else _compile_node(self, self.inplace_number)
        self.python: Callable[..., Any] = forward
        self.public: Callable[..., Any] = forward
        self.inplace_python: Callable[..., Any] | None = None
        self.inplace_public: Callable[..., Any] | None = None
        self.result_tuple: Any = _result_tuple(self)

    def _take_arguments(self, options: dict[str, Any]) -> None:
        """What the signature says, and what the arguments must be."""
        self.signature = inspect.signature(self.forward)
        self.params = tuple(self.signature.parameters)
        tensors = options.pop("tensors", None)
        self.tensors = tuple(p for p in self.params if (p in TENSOR_NAMES if tensors is None else p in tensors))
        self.place = {p: i for i, p in enumerate(self.params)}
        self.positional = sum(p.kind is not p.KEYWORD_ONLY for p in self.signature.parameters.values())
        self._minimum = sum(p.default is p.empty for p in self.signature.parameters.values())
        self.tensor_places = tuple(self.params.index(p) for p in self.tensors)
        self.list_place = 0 if self.params and self.params[0] == "tensors" else None
        self.variadic: str = options.pop("variadic", "")  # the argument that may be given as one sequence or as separate ints: view(2, 3)
        self.types: dict[str, Any] = options.pop("types", {})  # what non-tensor arguments of an overload must be
        self.number_only: tuple[str, ...] = options.pop("number_only", ())  # tensor names that this overload takes as Python numbers only
        self.tensor_only: tuple[str, ...] = options.pop("tensor_only", ())
        self.check: Any = options.pop("check", None)  # raises torch's errors before anything is computed

    def _take_dtypes(self, options: dict[str, Any]) -> None:
        """Which operands are promoted, to what, and what is refused."""
        unpromoted = options.pop("unpromoted", ())  # tensors whose dtype takes no part in promotion: conditions, class indices
        self.promoted_places = tuple(self.place[p] for p in self.tensors if p not in unpromoted)
        self.scalar_places = tuple(self.place[p] for p in options.pop("scalars", ()))  # Python numbers that take part at compute precision
        # tensors: a Python number there is rounded to the dtype
        self.rounded_places = tuple(self.place[p] for p in options.pop("rounded", ()))
        # (nominal dtype, operands) -> None; raises for dtypes that torch has no kernel for
        self.refuses: Any = options.pop("refuses", None)
        self.promote: str = options.pop("promote", "common")
        # (dtype of the operands, bound arguments) -> dtype to compute in and to give
        self.result_dtype: Any = options.pop("result_dtype", None)
        self.direct: bool = options.pop("direct", self.promote in ("none", "bool"))

    def _take_results(self, options: dict[str, Any]) -> None:
        """The outputs, their derivatives, and how they lie in memory."""
        self.vjp: dict[str, Callable[..., Any]] = options.pop("vjp", None) or {}
        self.outputs: tuple[str, ...] = options.pop("outputs", ("result",))
        self.named_outputs: bool = options.pop("named_outputs", True)  # several outputs come as a named tuple
        self.nondifferentiable: tuple[str, ...] = options.pop("nondifferentiable", ())
        self.view: bool = options.pop("view", False)
        self.multi: bool = options.pop("multi", False)  # a variable number of outputs (split, unbind)
        self.composite: bool = options.pop("composite", False)
        self.error: str = options.pop("error", "elementwise" if self.promote in ("common", "float") else "exact")
        elementwise = self.promote in ("common", "float", "bool") and self.error in ("elementwise", "exact")
        # an elementwise kernel, whose result keeps operands' memory order
        self.iterates: bool = options.pop("iterates", elementwise and not self.view and self.list_place is None)
        # whose memory order an elementwise result takes first: "first first", "last first", one operand's name, or "contiguous"
        self.memory_order: str = options.pop("memory_order", "first first")
        self.alias_if: Any = options.pop("alias_if", None)  # when the op returns its input itself or a view (reshape, contiguous)
        # made of differentiable ops in torch, so that a stale view's node is asked for
        self.differentiated: bool = options.pop("differentiated", False)

    def _take_forms(self, options: dict[str, Any]) -> None:
        """Where the op is found, and what its in-place form minds."""
        self.where: str = options.pop("where", "")
        self.also: tuple[str, ...] = options.pop("also", ())  # further modules below ``torch`` that have the function under the same name
        self.method: bool = options.pop("method", self.where in ("", "nn.functional:method"))
        self.function: bool = options.pop("function", True)
        self.symbol: str = options.pop("symbol", "")
        self.number: str = options.pop("node", "0")
        self.inplace: bool = options.pop("inplace", False)
        self.inplace_number: str = options.pop("inplace_node", self.number)  # where the in-place form has a node of its own
        self.apart: bool = options.pop("apart", False)  # it refuses operands that share memory with what it writes, even all of it
        self.checks_overlap: bool = options.pop("checks_overlap", True)  # it refuses memory that overlaps itself
        # (bound arguments) -> whether it computes elsewhere and copies: then, and only then, it refuses memory that repeats itself
        self.copies_over: Any = options.pop("copies_over", None)
        # it raises what is wrong with its arguments before it looks at memory (never what is found element by element)
        self.arguments_first: bool = options.pop("arguments_first", False)
        self.inplace_refuses: Any = options.pop("inplace_refuses", None)  # as refuses, with the written dtype: kernels that only op_ lacks
        self.casts_first: bool = options.pop("casts_first", False)  # it refuses a wider result type before it looks at memory

    def _take_allowance(self, options: dict[str, Any]) -> None:
        """What a correct implementation may lose, and how the balls of operands become that of the result."""
        self.ulps: Any = options.pop("ulps", None)
        self.scale: Any = options.pop("scale", None)  # the magnitude an allowance is relative to, where it is not the result
        self.accumulates: bool = options.pop("accumulates", False)
        self.reason: str = options.pop("reason", "")
        # kernels may return 0 for a result below the normal range (times a function of the arguments)
        self.flushes: Any = options.pop("flushes", False)
        self.exact: Any = options.pop("exact", None)  # (arguments of the call) -> (array, radius, nominal dtype) in the exact mode: casts
        self.radius: Any = options.pop("radius", None)  # how the radii of balls propagate, where no general rule does it
        # (argument, radius, result) -> how far the result moves, where that is no small radius
        self.moves: Any = options.pop("moves", None)
        self.undecided: Any = options.pop("undecided", None)  # (arguments, radii) -> where the truth of balls may be either

    def accepts(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a call with these arguments is a call of this overload: by count, keyword names, and which are tensors."""
        if len(args) > self.positional or len(args) + len(kwargs) < self._minimum:
            return False
        given = dict(zip(self.params, args, strict=False))
        if any(k in given or k not in self.place for k in kwargs):
            return False
        given.update(kwargs)
        if any(p.default is p.empty and p.name not in given for p in self.signature.parameters.values()):
            return False
        return all(self.takes(name, value) for name, value in given.items())

    def takes(self, name: str, value: Any) -> bool:
        """A tensor argument takes tensors, and Python numbers where promotion takes them; no other argument takes a tensor."""
        if name not in self.tensors:
            return not isinstance(value, Tensor) and (name not in self.types or isinstance(value, self.types[name]))
        if isinstance(value, Tensor):
            return name not in self.number_only
        if value is None:
            return self.signature.parameters[name].default is None
        if isinstance(value, (list, tuple)):
            return self.list_place == self.place[name]
        return isinstance(value, (int, float)) and name not in self.tensor_only

    @property
    def path(self) -> str:
        """Where the public function stands below ``torch``: ``exp``, ``nn.functional.relu``."""
        return f"{self.where}.{self.name}" if self.where else self.name

    def __repr__(self) -> str:
        return f"<Op {self.name}>"


#: every entry, overloads after the op they belong to
ENTRIES: Final[list[Op]] = []
#: name -> overloads, in the order in which they are tried
OVERLOADS: Final[dict[str, list[Op]]] = {}


def op(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declares an op (or one more overload of it). The decorated function is the forward on numpy arrays.

    Parameters named as in TENSOR_NAMES hold tensors (``tensors``: a list of them); a Python number may stand for any but the first.
    promote: how tensor operands get one dtype: ``common`` (torch's result type), ``float`` (and integers become the default float),
    ``bool`` (common to compare in, a bool comes out), ``same`` (no promotion; mixed dtypes raise), ``none`` (forward takes the arrays as
    they are). result_dtype: (common dtype, bound arguments) -> the dtype that operands are converted to and that comes out (sums of
    integers, ``dtype=``).
    direct: numpy's own result is correctly rounded; otherwise forward runs one precision up and is narrowed once. vjp: parameter ->
    formula; a formula's parameter names say what it uses and so what is saved. node: the number in the node's name.
    where: module below ``torch`` (also: more of them). unpromoted: tensors that take no part in promotion. scalars: plain numbers that
    forward gets as arrays at compute precision (float32 for floats up to 32 bits). rounded: tensors for which a number, where it is given,
    is rounded to the common dtype first, so that one beyond its range is infinite. refuses: raises for dtypes without a kernel. flushes:
    kernels may return 0 below the normal range. view / multi / composite / outputs / nondifferentiable / inplace / method: as torch has it.
    variadic: the argument that takes a sequence of ints or separate ints.
    apart: the in-place form takes no operand from the memory that it writes. check: called with the bound arguments before anything is
    computed; raises torch's errors. accepts an overload by: types (argument name -> type of a non-tensor argument), number_only,
    tensor_only (names of tensor arguments). iterates: an elementwise kernel: its result keeps the operands' memory order (default: by
    promote and error).
    error: ``elementwise`` (radii through the vjp), ``linear`` and ``bilinear`` (radii through the op itself; the rounding is relative to
    the op applied to absolute values), ``exact`` (no rounding: views, selections). ulps: roundings k in units of u, a number or a function
    of forward's arguments. scale: the magnitude the rounding is relative to, a function of forward's arguments. accumulates: float16 and
    bfloat16 accumulate in float32. radius: (arguments, radii, results, nominal dtype) -> radius, where none of these fits. moves: how far
    a function of one argument moves over a ball of any radius. undecided: where a comparison of balls may go either way. reason: why the
    allowance is what it is, with its source. Raises TypeError for an unknown option.
    """

    def declare(forward: Callable[..., Any]) -> Callable[..., Any]:
        entry = Op(forward, dict(options))
        ENTRIES.append(entry)
        overloads = OVERLOADS.setdefault(entry.name, [])
        overloads.append(entry)
        first = TABLE.setdefault(entry.name, entry)
        if not entry.composite:
            entry.python = _compile_function(entry)
        elif entry.variadic:
            entry.python = _compile_variadic(entry)
        public = entry.python if len(overloads) == 1 else _dispatch.overloaded(entry.name, overloads)
        public.__name__ = entry.name
        first.public = public
        if entry.inplace:
            entry.inplace_python = _compile_inplace(entry)
            writing = [o for o in overloads if o.inplace_python is not None]
            first.inplace_public = (
                entry.inplace_python if len(writing) == 1 else _dispatch.overloaded(entry.name + "_", writing, inplace=True)
            )
        return public

    return declare


class _Results:
    """How a named tuple of results prints."""

    __slots__ = ()
    _fields: tuple[str, ...]

    def __repr__(self) -> str:
        fields = ",\n".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"torch.return_types.{type(self).__name__}(\n{fields})"


def _result_tuple(entry: Op) -> Any:
    """The named tuple of an op with several outputs, printed as ``torch.return_types`` are; a plain tuple where torch names no fields."""
    if len(entry.outputs) < 2:
        return None
    if not entry.named_outputs:
        return lambda *outs: outs
    return type(entry.name, (_Results, namedtuple(entry.name, entry.outputs)), {"__slots__": (), "__module__": "torch.return_types"})


def _compile_inplace(entry: Op) -> Callable[..., Any]:
    signature, namespace = _signature_source(entry)
    namespace |= {"op_": entry, "call_inplace": _dispatch.call_inplace}
    source = f"def {entry.name}_({signature}):\n    return call_inplace(op_, ({''.join(p + ', ' for p in entry.params)}))\n"
    _compile(source, entry.name + "_", namespace)
    return namespace[entry.name + "_"]


# --- what a node saves -----------------------------------------------------------------------------------------------------


def _formula_names(formula: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(inspect.signature(formula).parameters)


def _saved_names(entry: Op) -> tuple[str, ...]:
    """Tensor arguments and outputs that some formula mentions, in the order of the signature, outputs last."""
    mentioned = {name for formula in entry.vjp.values() for name in _formula_names(formula)}
    names = (*entry.params, *entry.outputs)
    unknown = [n for n in mentioned if not (n in names or n.startswith("grad") or n.rsplit("_", 1)[0] in entry.tensors)]
    if unknown:
        raise TypeError(f"op {entry.name}: a formula uses {unknown[0]!r}, which is no argument, output or metadata of it")
    return tuple(n for n in names if n in mentioned and (n in entry.tensors or n in entry.outputs))


def _plain_names(entry: Op) -> tuple[str, ...]:
    """What formulas use that is no tensor: other arguments, and ``<tensor>_shape``, ``<tensor>_dtype``, ``<tensor>_geometry``."""
    mentioned = {name for formula in entry.vjp.values() for name in _formula_names(formula)}
    plain = [n for n in entry.params if n in mentioned and n not in entry.tensors]
    meta = sorted(n for n in mentioned if n not in entry.params and n not in entry.outputs and not n.startswith("grad"))
    return (*plain, *meta)


def _plain_source(name: str, entry: Op) -> str:
    if name in entry.params:
        return name
    tensor, kind = name.rsplit("_", 1)
    if kind == "geometry":
        return f"geometry({tensor})"
    if tensor == "tensors":
        return f"[t._data.{kind} for t in tensors]" if kind == "shape" else "[t.dtype for t in tensors]"
    return (
        f"(() if not isinstance({tensor}, Tensor) else {tensor}._data.shape)"
        if kind == "shape"
        else _unless_none(entry, tensor, f"{tensor}.dtype", "None")
    )


def _sole_user(entry: Op, name: str) -> str | None:
    """The one formula for which an input is kept, or None where it is kept anyway (torch's rule for dropping a saved input)."""
    users = [d for d, f in entry.vjp.items() if name in _formula_names(f)]
    droppable = name in entry.tensors and len(entry.vjp) > 1 and len(users) == 1 and entry.list_place is None
    return users[0] if droppable else None


# --- compiling -------------------------------------------------------------------------------------------------------------


def _compile(source: str, name: str, namespace: dict[str, Any]) -> None:
    filename = f"<refgrad op {name}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    exec(compile(source, filename, "exec"), namespace)


def node_name(entry: Op, number: str) -> str:
    """As torch names it: ``log1p`` gives ``Log1PBackward0``. An entry with a whole name in ``node=`` gets that."""
    if "Backward" in number:
        return number
    words = "".join(part[0].upper() + part[1:] for part in entry.name.split("_") if part)
    return re.sub(r"(?<=[0-9])[a-z]", lambda m: m[0].upper(), words) + f"Backward{number}"


def _compile_node(entry: Op, number: str) -> type[Node]:
    saves, plain = entry.saves, entry.plain_names
    namespace: dict[str, Any] = {"load": load, "error": error, "Node": Node, "op_": entry}
    multi_output = len(entry.outputs) > 1
    lines = [f"class {node_name(entry, number)}(Node):", "    op = op_", "    def apply(self, grads):"]
    lines.append(
        f"        {', '.join('grad_' + o for o in entry.outputs)}, = grads"
        if multi_output
        else ("        grad = grads" if entry.multi else "        grad, = grads")
    )
    # after the saved tensors were asked for
    nothing = [] if multi_output or entry.multi else ["        if grad is None: return (None,) * len(self.next)"]
    if saves:
        lines.append("        saved = self.saved")
        lines.append('        if saved is None: raise error("freed_graph")')
        lines.append(f"        {', '.join(saves)}, = saved")
    if plain:
        lines.append(f"        {', '.join(plain)}, = self.plain")
    differentiable = tuple(entry.vjp)
    if entry.list_place is not None:
        formula = entry.vjp["tensors"]
        namespace["rule_tensors"] = formula
        lines += [f"        {s} = load(self, {s})" for s in saves] + nothing
        lines.append(f"        return tuple(rule_tensors({', '.join(_formula_names(formula))}))")
    else:
        lines.append(f"        {', '.join('e_' + d for d in differentiable)}, = self.next")
        lines += _load_lines(entry, saves) + nothing
        for name in differentiable:
            formula = namespace[f"rule_{name}"] = entry.vjp[name]
            call = f"rule_{name}({', '.join(_formula_names(formula))})"
            lines.append(f"        g_{name} = {call} if e_{name} is not None else None")
        lines.append(f"        return ({', '.join('g_' + d for d in differentiable)},)")
    _compile("\n".join(lines) + "\n", f"{entry.name} backward {number}", namespace)
    made: type[Node] = namespace[node_name(entry, number)]
    made.__module__ = "refgrad"
    return made


def _load_lines(entry: Op, saves: tuple[str, ...]) -> list[str]:
    """What was saved is asked for, and its version checked, whether a formula needs it or not; only an input that was dropped is not."""
    lines = []
    for s in saves:
        user = entry.sole_user[s]
        guard = "" if user is None else f"if e_{user} is not None: "
        lines.append(f"        {guard}{s} = load(self, {s})" if s in entry.outputs else f"        {guard}{s} = {_loaded(s)}")
    return lines


def _loaded(saved: str) -> str:
    """Source for ``load`` of an input, without a call where it was not written to since."""
    unwritten = f"{saved}.__class__ is tuple and {saved}[1] == (0 if {saved}[0]._storage is None else {saved}[0]._storage.version)"
    return f"{saved}[0] if {unwritten} else load(self, {saved})"


def _signature_source(entry: Op) -> tuple[str, dict[str, Any]]:
    """The entry's signature as source, defaults by reference."""
    parts, defaults, star = [], {}, False
    for p in entry.signature.parameters.values():
        if p.kind is p.KEYWORD_ONLY and not star:
            parts.append("*")
            star = True
        if p.default is p.empty:
            parts.append(p.name)
        else:
            defaults[f"default_{p.name}"] = p.default
            parts.append(f"{p.name}=default_{p.name}")
        if p.name == entry.variadic:
            parts.append("*more")
            star = True
    return ", ".join(parts), defaults


def _compile_function(entry: Op, operate: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """The public function; or, given what an operator does with operands of any kind, the operator, with the same fast path before it."""
    signature, namespace = _signature_source(entry)
    bound = "".join(f"{p}, " for p in entry.params)
    lines = [f"def {entry.name}({signature}):"]
    lines += _gather_more(entry)
    lines += _indent(1, _view_path(entry) if entry.view else _fast_path(entry) or _tensor_path(entry))
    lines.append(f"    return operate({', '.join(entry.tensors)})" if operate is not None else f"    return call(op_, ({bound}))")
    namespace |= {
        "operate": operate, "known": _dispatch._CONSTANTS,
        "op_": entry, "call": _dispatch.call, "Tensor": Tensor, "MODE": MODE, "SEQUENCE": SEQUENCE, "accumulator": accumulator,
        "new": Tensor.__new__, "save_result": save_result, "save_input": save_input, "F32": F32, "F64": F64,
        "forward": _kernel(entry.forward), "NODE": entry.node, "longdouble": np.longdouble, "constant": _dispatch.constant,
        "ndarray": np.ndarray, "asarray": np.asarray, "laid_out": laid_out, "refresh": refresh, "as_view": _dispatch.as_view,
        "geometry": geometry, "check": entry.check, "OF": OF,
    }  # fmt: skip
    _compile("\n".join(lines) + "\n", entry.name if operate is None else f"{entry.name} as an operator", namespace)
    return namespace[entry.name]


def compile_operator(entry: Op, operate: Callable[..., Any]) -> Callable[..., Any]:
    """``operate`` behind the fast path of the entry, where its first overload takes tensors and numbers alike."""
    both = len(entry.tensors) == 2 and not entry.number_only and not entry.tensor_only and not entry.composite
    return _compile_function(entry, operate) if both else operate


def _kernel(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The function of numpy that ``forward`` does nothing but call with its own arguments in their order, or ``forward`` itself."""
    code, count = forward.__code__, forward.__code__.co_argcount
    arguments = ", ".join(code.co_varnames[:count])
    if code.co_names[:1] != ("np",) or len(code.co_names) != 2 or forward.__defaults__ or forward.__kwdefaults__:
        return forward
    namespace: dict[str, Any] = {}
    exec(f"import numpy as np\ndef same({arguments}):\n    return np.{code.co_names[1]}({arguments})\n", namespace)
    return getattr(np, code.co_names[1]) if namespace["same"].__code__.co_code == code.co_code else forward


def _compile_variadic(entry: Op) -> Callable[..., Any]:
    """A composite op with the argument ``variadic`` in both its forms."""
    signature, namespace = _signature_source(entry)
    lines = [
        f"def {entry.name}({signature}):",
        *_gather_more(entry),
        f"    return forward({', '.join([*entry.params[:1], *_passed_on(entry, 1)])})",
    ]
    namespace["forward"] = entry.forward
    _compile("\n".join(lines) + "\n", entry.name, namespace)
    return namespace[entry.name]


def _gather_more(entry: Op) -> list[str]:
    """Source that makes a tuple of what was given for the ``variadic`` argument."""
    v = entry.variadic
    return [f"    if more: {v} = ({v}, *more)", f"    elif {v}.__class__ is int: {v} = ({v},)"] if v else []


def _fast_path(entry: Op) -> list[str]:
    """Source for the common case: one or two plain tensors, both float32 or both float64, no views, or a Python number on the right."""
    tensors = entry.tensors
    plain = (
        not (entry.view or entry.multi or entry.check or entry.alias_if or len(entry.promoted_places) < len(tensors))
        and len(entry.outputs) == 1
        and entry.list_place is None
    )
    if (
        not plain
        or entry.promote not in ("common", "float", "same", "bool")
        or len(tensors) not in (1, 2)
        or entry.params[: len(tensors)] != tensors
    ):
        return []
    a, *others = tensors
    given = " and dtype is None" if entry.result_dtype is not None and "dtype" in entry.params else ""
    lines = [
        f"if {a}.__class__ is Tensor and {_fresh(a)} and not MODE.inference{given}:",
        f"    a = {a}._data; dt = a.dtype",
        "    if dt is F32 or dt is F64:",
    ]
    if not others:
        return [*lines, *_indent(2, _fast_body(entry, ["a"], [a]))]
    b = others[0]
    lines += [f"        if {b}.__class__ is Tensor:", f"            b = {b}._data", f"            if b.dtype is dt and {_fresh(b)}:"]
    lines += _indent(4, _fast_body(entry, ["a", "b"], [a, b]))
    if entry.promote != "same" and b not in entry.tensor_only:
        lines += [f"        elif {b}.__class__ is float or {b}.__class__ is int:", f"            b = known[dt].get({b})"]
        lines += [f"            if b is None: b = constant({b}, dt)"]
        lines += _indent(3, _fast_body(entry, ["a", "b"], [a]))
    return lines


def _tensor_path(entry: Op) -> list[str]:
    """Source for plain tensors in the other ops of one output: any number of them, optional ones, some without a part in promotion, a check
    first.

    Tensors that are promoted are all float32 or all float64 here; under ``promote="none"`` they are what they are.
    """
    promoted = [
        t for t in entry.tensors if entry.promote != "none" and entry.place[t] in entry.promoted_places and t not in entry.number_only
    ]
    if entry.multi or entry.alias_if or entry.list_place is not None or len(entry.outputs) > 1 or not entry.tensors:
        return []
    if entry.promote != "none" and (entry.result_dtype is not None or not promoted or _optional(entry, promoted[0])):
        return []
    given = [t for t in entry.tensors if t not in entry.number_only]
    plain = [_unless_none(entry, t, f"{t}.__class__ is Tensor and {_fresh(t)}", "True") for t in given]
    plain += [
        _unless_none(entry, t, f"({t}.__class__ is float or {t}.__class__ is int)", "True") for t in entry.tensors if t in entry.number_only
    ]
    lines = [f"if {' and '.join(plain)} and not MODE.inference:"]
    if not promoted:
        return [*lines, *_indent(1, _tensor_body(entry, given, promoted))]
    same = "".join(f" and {_unless_none(entry, t, f'{t}._data.dtype is dt', 'True')}" for t in promoted[1:])
    lines += [f"    dt = {promoted[0]}._data.dtype", f"    if (dt is F32 or dt is F64){same}:"]
    return [*lines, *_indent(2, _tensor_body(entry, given, promoted))]


def _tensor_body(entry: Op, given: list[str], promoted: list[str]) -> list[str]:
    """Check, forward, narrow, wrap and record; ``given`` are the parameters that hold tensors here."""
    everything = ", ".join(entry.params)
    body = [f"check({everything})"] if entry.check is not None else []
    if promoted and not entry.direct:
        body.append("wide = F64 if dt is F32 else longdouble")
    body += ["try:", f"    r = forward({', '.join(_tensor_arguments(entry, given, promoted))})", "except (ValueError, TypeError):"]
    body += [f"    return call(op_, ({everything}, ))", "if r.__class__ is not ndarray: r = asarray(r)"]
    if promoted and entry.promote != "bool":
        body.append('if r.dtype is not dt and r.dtype.kind == "f": r = r.astype(dt)')
    if entry.iterates:
        body.append(_layout_line(entry, {t: f"{t}._data" for t in given}))
    body += ["out = new(Tensor)", "out._data = r"]
    differentiable = [d for d in entry.vjp if d in given]
    if differentiable:
        needs = " or ".join(_unless_none(entry, d, f"{d}._rg", "False") for d in differentiable)
        body += ["dt = r.dtype", f"if ({needs}) and MODE.mode == 0 and OF[dt].category == 2:"]
        body += _indent(1, _record_lines(entry, differentiable, given))
    return [*body, "return out"]


def _layout_line(entry: Op, arrays: dict[str, str]) -> str:
    """Source that gives the result ``r`` its memory order; ``arrays``: operand -> source of its array, if the operand is given."""
    if entry.memory_order == "contiguous":
        return 'if r.ndim > 1: r = asarray(r, order="C")'
    ordered = [entry.memory_order] if entry.memory_order in arrays else list(arrays)
    if entry.memory_order == "last first":
        ordered.reverse()
    contiguous = " and ".join(_unless_none(entry, t, f"{a}.flags.c_contiguous", "True") for t, a in arrays.items())
    listed = f"[{', '.join(_unless_none(entry, t, arrays[t], 'None') for t in ordered)}]"
    if any(_optional(entry, t) for t in ordered):
        listed = f"[a for a in {listed} if a is not None]"
    return f"if r.ndim > 1 and not ({contiguous}): r = laid_out(r, {listed})"


def _tensor_arguments(entry: Op, given: list[str], promoted: list[str]) -> list[str]:
    """Forward's arguments: arrays for tensors, at compute precision for promoted ones and for numbers that take part in it."""
    arguments = []
    widened = "" if entry.direct or not promoted else ".astype(wide)"
    for name, p in entry.signature.parameters.items():
        source = name
        if name in given:
            source = _unless_none(entry, name, f"{name}._data{widened if name in promoted else ''}", "None")
        elif promoted and (name in entry.number_only or entry.place[name] in entry.scalar_places):
            source = f"(None if {name} is None else constant({name}, dt){widened})"
        arguments.append(f"{name}={source}" if p.kind is p.KEYWORD_ONLY else source)
    return arguments


def _optional(entry: Op, name: str) -> bool:
    return entry.signature.parameters[name].default is None


def _unless_none(entry: Op, name: str, source: str, otherwise: str) -> str:
    """``source``, or ``otherwise`` where an optional argument is not given."""
    return f"({otherwise} if {name} is None else {source})" if _optional(entry, name) else source


def _view_path(entry: Op) -> list[str]:
    """Source for a view of a plain tensor."""
    if entry.multi or entry.check or entry.promote != "none" or len(entry.tensors) != 1:
        return []
    a = entry.tensors[0]
    lines = [f"if {a}.__class__ is Tensor and not MODE.inference:", f"    if {a}._view is not None and MODE.mode == 0: refresh({a})"]
    lines += [
        "    out = new(Tensor)",
        f"    out._data = r = forward({', '.join([f'{a}._data', *_passed_on(entry)])})",
        f"    as_view(out, {a}, False)",
    ]
    if entry.vjp:
        lines += [
            # a view that was recorded nowhere requires grad as soon as its base does
            f"    if ({a}._rg or ({a}._view is not None and {a}._view.base._rg)) and MODE.mode == 0 and not {a}._inference:",
            "        dt = r.dtype",
            *_indent(2, _record_lines(entry, [a], [a])),
        ]
    return [*lines, "    return out"]


def _passed_on(entry: Op, first: int | None = None) -> list[str]:
    """The arguments after the tensors (or from place ``first``), as a call of forward writes them."""
    kinds = entry.signature.parameters
    return [
        f"{p}={p}" if kinds[p].kind is inspect.Parameter.KEYWORD_ONLY else p
        for p in entry.params[len(entry.tensors) if first is None else first :]
    ]


def _at_precision(entry: Op) -> list[str]:
    """As ``_passed_on``, with the numbers of ``scalars`` as arrays of the compute dtype."""
    sources = _passed_on(entry)
    for i, name in enumerate(entry.params[len(entry.tensors) :]):
        if entry.place[name] in entry.scalar_places:
            array = f"constant({name}, dt)" + ("" if entry.direct else ".astype(wide)")
            sources[i] = sources[i].removesuffix(name) + f"(None if {name} is None else {array})"
    return sources


def _fresh(tensor: str) -> str:
    """Source for: no inference tensor, and no view, or one whose node cannot be stale."""
    current = f"{tensor}._view.version == {tensor}._storage.version and not {tensor}._view.base._rg"
    return f"not {tensor}._inference and ({tensor}._view is None or ({current}))"


def _indent(levels: int, lines: list[str]) -> list[str]:
    return ["    " * levels + line for line in lines]


def _fast_body(entry: Op, arrays: list[str], tensors: list[str]) -> list[str]:
    """Forward, wrap and record for operands known to be plain; ``tensors`` are the parameters that hold tensors here."""
    rest = _at_precision(entry)
    everything = "".join(p + ", " for p in entry.params)
    body = []
    if entry.direct:
        body += ["try:", f"    r = forward({', '.join([*arrays, *rest])})"]
    else:
        wide = [f"{x}.astype(wide)" for x in arrays]
        body += ["wide = F64 if dt is F32 else longdouble", "try:", f"    r = forward({', '.join([*wide, *rest])})"]
        body += ["    r = r.astype(dt) if r.__class__ is ndarray else asarray(r, dt)"]
    body += ["except (ValueError, TypeError):", f"    return call(op_, ({everything}))"]
    if entry.iterates:
        body.append(_layout_line(entry, dict(zip(entry.tensors, arrays, strict=True))))
    body += ["if r.__class__ is not ndarray: r = asarray(r)", "out = new(Tensor)", "out._data = r"]
    differentiable = [d for d in entry.vjp if d in tensors and entry.promote != "bool"]  # a bool has no gradient
    if differentiable:
        body.append(f"if ({' or '.join(d + '._rg' for d in differentiable)}) and MODE.mode == 0:")
        body += _indent(1, _record_lines(entry, differentiable, tensors))
    return [*body, "return out"]


def _record_lines(entry: Op, differentiable: list[str], tensors: list[str]) -> list[str]:
    lines = ["node = NODE()"]
    for d in differentiable:
        lines.append(f"n = {_unless_none(entry, d, f'{d}._node', 'None')}")
        needs = _unless_none(entry, d, f"{d}._rg", "False")
        lines.append(f"e_{d} = (n, {d}._nr) if n is not None else ((accumulator({d}), 0) if {needs} else None)")
    lines.append(f"node.next = ({''.join(('e_' + d if d in differentiable else 'None') + ', ' for d in entry.vjp)})")
    lines += ["node.outs = ((r.shape, dt),)", "node.seq = next(SEQUENCE)", "out._node = node", "out._rg = True"]
    if entry.saves:
        saved = []
        for s in entry.saves:
            keep = "save_result(out)" if s in entry.outputs else s
            if s in tensors:
                keep = _unless_none(entry, s, f"({s}, 0 if {s}._storage is None else {s}._storage.version)", "None")
            user = entry.sole_user[s]
            if user is not None:
                keep = f"{keep} if e_{user} is not None else None" if user in differentiable else "None"
            saved.append(keep)
        lines.append(f"node.saved = ({', '.join(saved)},)")
    if entry.plain_names:
        lines.append(f"node.plain = ({', '.join(_plain_source(p, entry) for p in entry.plain_names)},)")
    return lines
