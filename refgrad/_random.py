"""torch's random streams on the CPU, bit for bit, as torch draws them with ``ATEN_CPU_CAPABILITY=default``.

The engine is the Mersenne twister MT19937 seeded by Knuth's recurrence from the low 32 bits of the seed (Matsumoto and
Nishimura 1998, ``init_genrand``), which is also how numpy seeds it for an integer; numpy therefore supplies the words.
A 64-bit word is two 32-bit words, the first one high. What is made of the words is torch's own:

* a uniform is made of the low 53 bits of a 64-bit word for float64, and of the low 24 bits of a 32-bit word for anything
  narrower, the 16-bit dtypes being rounded from float32; what rounds to the excluded upper end becomes the lower end;
* a normal is Box and Muller's (1958). Fewer than 16 elements, or a layout that is not contiguous: one pair at a time in
  float64 from 64-bit words, the second of a pair being kept in the generator for the next such call. Otherwise blocks of
  16 in float64 for float64 and float32 for anything narrower, with the last 16 elements drawn afresh where 16 does not divide
  their number; this path neither reads nor drops a kept normal;
* an integer is a word modulo the range, a 64-bit word from a range of 2**28 upwards.

Logarithm, cosine and sine decide the last bit, and torch calls the C library's, so this module calls the same ones:
``math`` for float64 and, through ctypes, ``logf``, ``cosf`` and ``sinf`` for the rest. Over all 2**24 possible arguments
glibc's float32 results differ from the correctly rounded ones for 0.7 % (log) and 1.3 % (cos, sin), with errors up to
0.79 ulp, and from numpy's float32 functions for 12 to 22 %; so neither is a substitute. Where no such library is found,
Python's functions stand in. On Intel processors a torch with MKL draws ``bernoulli`` with a number as probability from MKL's
own stream, seeded by one 32-bit word; that stream is not reproduced here.

Every function takes the generator first and returns a new contiguous array. ``shape`` is a tuple of ints, ``dtype`` a
numpy dtype (``ml_dtypes.bfloat16`` included). Errors carry torch's texts.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

__all__ = [
    "Generator",
    "GeneratorState",
    "bernoulli",
    "default_generator",
    "initial_seed",
    "manual_seed",
    "normal",
    "rand",
    "randint",
    "randn",
    "randperm",
    "seed",
    "uniform",
]

Shape = tuple[int, ...]

DEFAULT_SEED = 67280421310721
"""Seed of a new generator that nobody seeded, as in torch."""

BLOCK = 16
"""Elements per Box-Muller block; fewer than this take the scalar path."""

WIDE_RANGE = 2**28
"""Ranges from here on are drawn from 64-bit words, so that the modulo is skewed by no more than about 5 %."""

_LOW_53, _LOW_24 = np.uint64(2**53 - 1), np.uint64(2**24 - 1)
_ULP_24 = np.float32(2.0**-24)

RANDPERM_LIMIT = (2**32 - 1) // 20
"""Permutations from here on take 64-bit words in torch; they are not reproduced."""


class _Kind(NamedTuple):
    """What torch calls a dtype in its messages, in C++'s words, and its significand width (0 for integers)."""

    name: str
    c_name: str
    digits: int


_KINDS: dict[np.dtype[Any], _Kind] = {
    np.dtype(bool): _Kind("Bool", "bool", 0),
    np.dtype(np.uint8): _Kind("Byte", "unsigned char", 0),
    np.dtype(np.int8): _Kind("Char", "signed char", 0),
    np.dtype(np.int16): _Kind("Short", "short int", 0),
    np.dtype(np.int32): _Kind("Int", "int", 0),
    np.dtype(np.int64): _Kind("Long", "long int", 0),
    np.dtype(np.float16): _Kind("Half", "c10::Half", 11),
    np.dtype(ml_dtypes.bfloat16): _Kind("BFloat16", "c10::BFloat16", 8),
    np.dtype(np.float32): _Kind("Float", "float", 24),
    np.dtype(np.float64): _Kind("Double", "double", 53),
}


# ---------------------------------------------------------------------------------------------------------- generator


class GeneratorState(NamedTuple):
    """All that a generator holds. torch shows the same facts as a uint8 tensor of 5056 bytes; here they are plain."""

    initial_seed: int
    key: bytes
    position: int
    next_normal: float | None


class Generator:
    """A stream of random words, with the normal left over from the last odd-sized scalar draw.

    Invariant: ``_next_normal`` is a standard normal (mean 0, std 1) or None, and seeding clears it.
    """

    __slots__ = ("_bits", "_next_normal", "_seed", "_seeder", "device")
    _next_normal: float | None

    def __init__(self, device: str = "cpu") -> None:
        if str(device).partition(":")[0] != "cpu":
            raise RuntimeError(f"refgrad has generators for the CPU only, not for '{device}'; use Generator('cpu')")
        self.device = "cpu"
        self._bits = np.random.MT19937(0)
        self._seeder = np.random.RandomState(self._bits)
        self._reset(DEFAULT_SEED)

    def __repr__(self) -> str:
        return f"<torch._C.Generator object at {hex(id(self))}>"

    def manual_seed(self, seed: int) -> Generator:
        """Restart the stream; ``seed`` lies in [-2**63, 2**64) and a negative one stands for itself plus 2**64."""
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
            raise RuntimeError(f"manual_seed expected a long, but got {type(seed).__name__}")
        self._reset(_wrap_seed(int(seed)))
        return self

    def initial_seed(self) -> int:
        """The seed last set, as an unsigned 64-bit number."""
        return self._seed

    def seed(self) -> int:
        """Seed from the operating system with 53 random bits, and return them."""
        self._reset(int.from_bytes(os.urandom(8), "little") >> 11)
        return self._seed

    def get_state(self) -> GeneratorState:
        """Everything needed to continue the stream from here."""
        state: Any = self._bits.state["state"]
        return GeneratorState(self._seed, state["key"].tobytes(), int(state["pos"]), self._next_normal)

    def set_state(self, state: GeneratorState) -> Generator:
        """Continue from a state that ``get_state`` returned."""
        key = np.frombuffer(state.key, dtype=self._key_dtype())
        self._bits.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": state.position}}
        self._seed, self._next_normal = state.initial_seed, state.next_normal
        return self

    def words32(self, count: int) -> np.ndarray:
        """The next ``count`` words of 32 bits, as uint64."""
        return self._bits.random_raw(count)

    def words64(self, count: int) -> np.ndarray:
        """The next ``count`` words of 64 bits, each made of two of 32, the first one high."""
        words = self._bits.random_raw(2 * count)
        return (words[0::2] << np.uint64(32)) | words[1::2]

    def scalar_normals(self, count: int) -> list[float]:
        """``count`` standard normals by the scalar path; begins with the kept one, keeps what is left over."""
        kept = [] if self._next_normal is None or count == 0 else [self._next_normal]
        pairs = (count - len(kept) + 1) // 2
        uniforms = _unit_uniform(self, 2 * pairs, np.dtype(np.float64)).tolist()
        normals = kept + [z for i in range(0, 2 * pairs, 2) for z in _polar_pair(uniforms[i], uniforms[i + 1])]
        if count:
            self._next_normal = normals[count] if len(normals) > count else None
        return normals[:count]

    def _reset(self, seed: int) -> None:
        self._seed = seed
        self._next_normal = None
        self._seeder.seed(seed & 0xFFFFFFFF)

    def _key_dtype(self) -> np.dtype[Any]:
        state: Any = self._bits.state["state"]
        return state["key"].dtype


def _wrap_seed(seed: int) -> int:
    if not -(2**63) <= seed < 2**64:
        raise ValueError("Overflow when unpacking long long")
    return seed % 2**64


def _polar_pair(first: float, second: float) -> tuple[float, float]:
    radius = math.sqrt(-2.0 * math.log1p(-second))
    angle = 2.0 * math.pi * first
    return radius * math.cos(angle), radius * math.sin(angle)


default_generator = Generator()
default_generator.seed()


def manual_seed(seed: Any) -> Generator:
    """Seed the default generator, taking ``int(seed)`` as torch does, and return it."""
    return default_generator.manual_seed(int(seed))


def seed() -> int:
    """Seed the default generator from the operating system and return the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


# ---------------------------------------------------------------------------------------------------------- uniform


def rand(generator: Generator, shape: Shape, dtype: DTypeLike = np.float32) -> np.ndarray:
    """Uniform on [0, 1), for a floating dtype."""
    return uniform(generator, 0.0, 1.0, shape, dtype)


def uniform(generator: Generator, low: float, high: float, shape: Shape, dtype: DTypeLike = np.float32) -> np.ndarray:
    """Uniform on [low, high); reckoned in float64 for float64 and float32 for anything narrower.

    Raises RuntimeError for an end outside the dtype's range, for ``low > high`` and for a difference that overflows.
    """
    kind = _floating(np.dtype(dtype), "check_uniform_bounds")
    dt = np.dtype(dtype)
    count = _count(shape)
    _check_uniform(low, high, dt, kind)
    return _uniform_values(generator, low, high, count, dt).reshape(shape)


def _uniform_values(generator: Generator, low: float, high: float, count: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Flat and unchecked. A value that rounds to the excluded upper end becomes the lower one."""
    unit = _unit_uniform(generator, count, dtype)
    if unit.dtype == dtype and low == 0.0 and high == 1.0:  # nothing below would change it, and this is rand
        return unit
    start, stop = unit.dtype.type(low), unit.dtype.type(high)
    values = _narrow(unit * (stop - start) + start, dtype)
    values[values == _narrow(stop, dtype)] = _narrow(start, dtype)
    return values


def _unit_uniform(generator: Generator, count: int, dtype: np.dtype[Any]) -> np.ndarray:
    """``count`` exact multiples of 2**-53 in float64 for float64, of 2**-24 in float32 for everything narrower."""
    if dtype == np.float64:
        return (generator.words64(count) & _LOW_53) * 2.0**-53
    return (generator.words32(count) & _LOW_24).astype(np.float32) * _ULP_24


def _check_uniform(low: float, high: float, dtype: np.dtype[Any], kind: _Kind) -> None:
    top = float(ml_dtypes.finfo(dtype).max)
    for name, end in (("from", low), ("to", high)):
        if not -top <= end <= top:
            raise RuntimeError(f"{name} is out of bounds for {kind.c_name}")
    if low > high:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low:g} > to={high:g}")
    if high - low > top:
        raise RuntimeError(
            f"uniform_ expects to-from <= std::numeric_limits<{kind.name}>::max(), but found to={high:g} and from={low:g} "
            "which result in to-from to exceed the limit"
        )


# ---------------------------------------------------------------------------------------------------------- normal


def randn(generator: Generator, shape: Shape, dtype: DTypeLike = np.float32, *, contiguous: bool = True) -> np.ndarray:
    """Standard normal, for a floating dtype; see `normal` for ``contiguous``."""
    return normal(generator, 0.0, 1.0, shape, dtype, contiguous=contiguous)


def normal(
    generator: Generator, mean: float, std: float, shape: Shape, dtype: DTypeLike = np.float32, *, contiguous: bool = True
) -> np.ndarray:
    """Normal with the given mean and standard deviation.

    ``contiguous=False`` says that the result is meant for a tensor that is not contiguous, for which torch takes the
    scalar path whatever its size; the caller lays the values out in the order in which torch visits the elements.
    Raises RuntimeError for a ``std`` that is negative or nan.
    """
    if not std >= 0.0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    dt, count = np.dtype(dtype), _count(shape)
    if count == 0:  # no kernel is asked for
        return np.empty(shape, dt)
    _floating(dt, "normal_kernel_cpu")
    if contiguous and count >= BLOCK:
        return _normal_blocks(generator, mean, std, count, dt).reshape(shape)
    normals = np.array(generator.scalar_normals(count), dtype=np.float64)
    return _narrow(normals * std + mean, dt).reshape(shape)


def _normal_blocks(generator: Generator, mean: float, std: float, count: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Blocks of 16 from the front; a ragged end is overwritten by a fresh block over the last 16 elements."""
    whole = count - count % BLOCK
    unit = _block_uniforms(generator, count, dtype)
    filled = _box_muller(unit.reshape(-1, BLOCK), mean, std).reshape(-1)
    if whole < count:
        filled = np.concatenate((filled[: count - BLOCK], filled[whole:]))
    return _narrow(filled, dtype)


def _block_uniforms(generator: Generator, count: int, dtype: np.dtype[Any]) -> np.ndarray:
    """What the blocks are made of. The two wide dtypes draw for a ragged end too, before drawing its block afresh."""
    ragged = count % BLOCK
    if not ragged:
        return _unit_uniform(generator, count, dtype)
    if dtype.itemsize == 2:
        return _unit_uniform(generator, count - ragged + BLOCK, dtype)
    unit = _unit_uniform(generator, count + BLOCK, dtype)
    return np.concatenate((unit[: count - ragged], unit[count:]))


def _box_muller(unit: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Blocks (n, 16) of uniforms to normals: columns 0 to 7 give radii, 8 to 15 angles. Each operation rounds to the dtype."""
    real = unit.dtype.type
    radius = np.sqrt(real(-2) * _libm("log", real(1) - unit[:, :8]))
    angle = (2.0 * math.pi * unit[:, 8:].astype(np.float64)).astype(unit.dtype)
    normals = np.concatenate((radius * _libm("cos", angle), radius * _libm("sin", angle)), axis=1)
    return _multiply_add(normals, real(std), real(mean))


def _multiply_add(values: np.ndarray, scale: Any, shift: Any) -> np.ndarray:
    """``values * scale + shift`` rounded once, as torch's block path does it (its scalar path rounds twice)."""
    if scale == 1 or shift == 0:  # then only one of the two operations rounds
        return values * scale + shift
    return _libm("fma", values, float(scale), float(shift))


# ---------------------------------------------------------------------------------------------------------- integers


def randint(generator: Generator, low: int, high: int, shape: Shape, dtype: DTypeLike = np.int64) -> np.ndarray:
    """Integers on [low, high), of any dtype.

    Raises RuntimeError for an empty range and for an end outside the dtype's range; warns, as torch does, where a floating dtype
    cannot hold every integer of the range.
    """
    dt = np.dtype(dtype)
    count = _count(shape)
    _check_order(low, high, "")
    if _KINDS[dt].digits:
        low, high = _first_representable(low, dt), _last_representable(high, dt)
        _check_order(low, high, " casted to dtype")
    _check_integer_end("from", low, dt)
    _check_integer_end("to - 1", high - 1, dt)
    span = high - low
    words = generator.words64(count) if span >= WIDE_RANGE else generator.words32(count)
    values = (words % np.uint64(span) + np.uint64(low % 2**64)).view(np.int64)
    return _from_int64(values, dt).reshape(shape)


def randperm(generator: Generator, n: int, dtype: DTypeLike = np.int64) -> np.ndarray:
    """A permutation of 0 … n-1: Fisher-Yates from the front, one 32-bit word a step, none for the last element."""
    dt = np.dtype(dtype)
    _count((n,))
    _check_randperm(n, dt)
    steps = max(n - 1, 0)
    offsets = (generator.words32(steps) % np.arange(n, n - steps, -1).astype(np.uint64)).tolist()
    items = list(range(n))
    for i, offset in enumerate(offsets):
        items[i], items[i + offset] = items[i + offset], items[i]
    return _from_int64(np.array(items, dtype=np.int64), dt)


def _check_order(low: int, high: int, cast: str) -> None:
    if low >= high:
        raise RuntimeError(f"random_ expects 'from'{cast} to be less than 'to'{cast}, but got from={low} >= to={high}")


def _spacing(value: int, digits: int) -> int:
    return 1 << max(abs(value).bit_length() - digits, 0)


def _first_representable(low: int, dtype: np.dtype[Any]) -> int:
    """``low``, moved up to a value of the dtype if rounding ``low + 1`` to it would fall below ``low``."""
    rounded = _round_integer(low + 1, dtype)
    return low if rounded is None or rounded >= low else rounded + _spacing(low + 1, _KINDS[dtype].digits)


def _last_representable(high: int, dtype: np.dtype[Any]) -> int:
    """``high``, moved down if rounding ``high - 1`` to the dtype would reach ``high``."""
    rounded = _round_integer(high - 1, dtype)
    return high if rounded is None or rounded < high else rounded - _spacing(high - 1, _KINDS[dtype].digits)


def _round_integer(value: int, dtype: np.dtype[Any]) -> int | None:
    """``value`` rounded to the dtype, or None where that overflows."""
    rounded = float(_from_int64(np.array([value], dtype=np.int64), dtype)[0])
    return int(rounded) if math.isfinite(rounded) else None


def _check_integer_end(name: str, value: int, dtype: np.dtype[Any]) -> None:
    kind = _KINDS[dtype]
    if not _lowest(dtype) <= value <= _highest(dtype):
        raise RuntimeError(f"{name} is out of bounds for {kind.c_name}")
    if kind.digits and abs(value) > 2**kind.digits:
        warnings.warn(
            f"{name} is out of bounds [-(2^{kind.digits}), 2^{kind.digits}]. Due to precision limitations {kind.c_name} can support "
            "discrete uniform distribution only within this range. This warning will become an error in version 1.7 release, "
            "please fix the code in advance",
            UserWarning,
            stacklevel=4,
        )


def _lowest(dtype: np.dtype[Any]) -> float:
    if _KINDS[dtype].digits:
        return float(ml_dtypes.finfo(dtype).min)
    return 0 if dtype == np.bool_ else np.iinfo(dtype).min


def _highest(dtype: np.dtype[Any]) -> float:
    if _KINDS[dtype].digits:
        return float(ml_dtypes.finfo(dtype).max)
    return 1 if dtype == np.bool_ else np.iinfo(dtype).max


def _check_randperm(n: int, dtype: np.dtype[Any]) -> None:
    kind = _KINDS[dtype]
    if n >= RANDPERM_LIMIT:
        raise NotImplementedError(f"refgrad's randperm ends at n = {RANDPERM_LIMIT - 1}, got n = {n}")
    if dtype == np.bool_:
        raise NotImplementedError("\"randperm\" not implemented for 'Bool'")
    if not kind.digits and n - 1 > np.iinfo(dtype).max:
        raise RuntimeError(f"value cannot be converted to type {dtype.name}_t without overflow")
    if dtype in _RANDPERM_TOP and n > _RANDPERM_TOP[dtype][0]:
        raise RuntimeError(f"n cannot be greater than {_RANDPERM_TOP[dtype][1]} for {kind.name} type.")


# ---------------------------------------------------------------------------------------------------------- bernoulli


def bernoulli(generator: Generator, p: float | np.ndarray, shape: Shape, dtype: DTypeLike = np.float32) -> np.ndarray:
    """Ones with probability ``p`` and zeros otherwise, of any dtype.

    A number ``p`` is compared with float64 uniforms. An array ``p`` (floating, broadcast to ``shape``) is compared with
    float64 uniforms if it is float64 and with float32 uniforms otherwise. Raises RuntimeError for ``p`` outside [0, 1];
    what stands before the first wrong element of an array has been drawn by then.
    """
    count = _count(shape)
    if isinstance(p, np.ndarray):
        return _bernoulli_each(generator, np.broadcast_to(p, shape).reshape(-1)).reshape(shape).astype(dtype)
    if not 0.0 <= p <= 1.0:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")
    return (_unit_uniform(generator, count, np.dtype(np.float64)) < p).reshape(shape).astype(dtype)


def _bernoulli_each(generator: Generator, p: np.ndarray) -> np.ndarray:
    _floating(p.dtype, "bernoulli_tensor_cpu_p_")
    drawn = np.dtype(np.float64 if p.dtype == np.float64 else np.float32)
    wide = p.astype(drawn)
    wrong = np.flatnonzero(~((wide >= 0) & (wide <= 1)))
    if wrong.size:
        _unit_uniform(generator, int(wrong[0]), drawn)
        raise RuntimeError(
            "Expected p_in >= 0 && p_in <= 1 to be true, but got false.  (Could this error message be improved?  "
            "If so, please report an enhancement request to PyTorch.)"
        )
    return _unit_uniform(generator, p.size, drawn) < wide


# ---------------------------------------------------------------------------------------------------------- shared


def _count(shape: Shape) -> int:
    if min(shape, default=0) < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: [{', '.join(map(str, shape))}]")
    return math.prod(shape)


def _floating(dtype: np.dtype[Any], where: str) -> _Kind:
    kind = _KINDS[dtype]
    if not kind.digits:
        raise NotImplementedError(f"\"{where}\" not implemented for '{kind.name}'")
    return kind


def _narrow(values: Any, dtype: np.dtype[Any]) -> Any:
    """To ``dtype``, the 16-bit ones by way of float32: torch rounds twice there, and its bits are what is wanted."""
    if dtype.itemsize == 2:
        with np.errstate(over="ignore"):
            return values.astype(np.float32, copy=False).astype(dtype)
    return values.astype(dtype, copy=False)


def _from_int64(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    return _narrow(values, dtype) if _KINDS[dtype].digits else values.astype(dtype)


_RANDPERM_TOP: dict[np.dtype[Any], tuple[int, str]] = {
    np.dtype(np.float16): (2**11 + 1, "2049"),
    np.dtype(np.float32): (2**24 + 1, "2^24+1"),
}


_ARITY = {"log": 1, "cos": 1, "sin": 1, "fma": 3}
_FALLBACK: dict[str, Callable[..., float]] = {
    "log": math.log,
    "cos": math.cos,
    "sin": math.sin,
    "fma": lambda factor, scale, shift: factor * scale + shift,
}


def _load_library(suffix: str, real: Any) -> dict[str, Callable[..., float]]:
    """The C library's functions with this suffix: "f" for float32, none for float64."""
    for path in ("libm.so.6", "libSystem.B.dylib", "ucrtbase", None):
        try:
            handle = ctypes.CDLL(path)
            found = {name: getattr(handle, name + suffix) for name in _ARITY}
        except (OSError, AttributeError, TypeError):
            continue
        for name, function in found.items():
            function.argtypes, function.restype = [real] * _ARITY[name], real
        return found
    return dict(_FALLBACK)


# Python's own log, cos and sin are the C library's for float64 and quicker to call than through ctypes.
_FLOAT64_FUNCTIONS = _load_library("", ctypes.c_double) | {"log": math.log, "cos": math.cos, "sin": math.sin}
_FLOAT32_FUNCTIONS = _load_library("f", ctypes.c_float)


def _libm(name: str, values: np.ndarray, *constants: float) -> np.ndarray:
    """The C library's function on each element of a float64 or float32 array, in that precision."""
    function = (_FLOAT64_FUNCTIONS if values.dtype == np.float64 else _FLOAT32_FUNCTIONS)[name]
    results: Iterable[float] = map(function, values.ravel().tolist(), *map(itertools.repeat, constants))
    return np.fromiter(results, dtype=values.dtype, count=values.size).reshape(values.shape)
