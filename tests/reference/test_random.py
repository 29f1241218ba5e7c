"""refgrad's random streams without torch: values that torch 2.13 drew once, and what must hold of any stream.

The values are the bytes of the array as hexadecimal, little-endian, drawn by torch 2.13.0 with its default kernels on glibc 2.36.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from refgrad import _random
from refgrad._random import Generator

# (seed, draw, arguments, dtype); the arguments are a size, or low, high and size for randint
DRAWN_BY_TORCH: dict[tuple[int, str, tuple[Any, ...], str], str] = {
    (0, "rand", (3,), "float16"): "f137253aaa2d",
    (0, "rand", (3,), "bfloat16"): "fe3e453fb53d",
    (0, "rand", (3,), "float32"): "5815fe3e2faa443fa833b53d",
    (0, "rand", (2,), "float64"): "2faac497ac0aef3fc0cc21d875a6e63f",
    (0, "randn", (3,), "float16"): "2a3eb2b45cc0",
    (0, "randn", (3,), "float32"): "5c3fc53f503c96be49710bc0",
    (0, "randn", (3,), "float64"): "3abe0289eba7f83fea6f7c088ac7d2bfe50ea720296e01c0",
    (0, "randn", (17,), "float16"): "81bc69bdc9be8938593aca3838be76b5693f003aafb88cb1df318f3d583e923bc0ba",
    (0, "randn", (17,), "bfloat16"): "90bfadbfd9bf113f4b3f193fc7bfafbeed3f403f16bf32be3c3eb23fcb3f723f58bf",
    (0, "randn", (17,), "float32"): (
        "851b90bf4714d9bf0210113f5e234b3f8b4d193f5b0dc7bfc7c6aebe4e2fed3f55aaef3e24e315bffd8e31bea3e13b3ec0d6b13f010dcb3f"
        "9c40723f34fb57bf318c6e3f"
    ),
    (0, "randn", (17,), "float64"): (
        "dc62922eb97b02c00224cf1cc943e4bf8e8ff054bf2cf4bf07a1abdf2e43e7bf2af2e2c0a37194bf046a2b571bebca3f2bb6b70224aec63f"
        "1d9482d08993eabf6d016636508ece3fad8189351e10cfbf5b976d2582bce8bff0b12706dd85f9bf3bbec42beffbe5bf66ca860327cff73f"
        "71b10f34d8b2dcbfe53d16cc1883ecbf983ee6d86e98e53f"
    ),
    (0, "randint", (0, 10, 8), "uint8"): "0409030003090703",
    (0, "randint", (-5, 1099511627776, 2), "int64"): "f82e0695ac0000007d5b8ed475000000",
    (0, "randperm", (9,), "int8"): "080002030701040506",
    (0, "bernoulli", (0.4,), "int8"): "000000000000010100010001",
    (42, "rand", (3,), "float16"): "0f3b523b2036",
    (42, "rand", (3,), "bfloat16"): "623f6a3fc43e",
    (42, "rand", (3,), "float32"): "66dc613fb33d6a3fb806c43e",
    (42, "rand", (2,), "float64"): "30dba3be6cc6ad3f70a8ac77e11ab03f",
    (42, "randn", (3,), "float16"): "63351f308133",
    (42, "randn", (3,), "float32"): "ae62ac3e9de6033ee716703e",
    (42, "randn", (3,), "float64"): "cc443db3558cd53f854b3d9bd37cc03f41ec63dbdc02ce3f",
    (42, "randn", (17,), "float16"): "b53f923e1bb1f5b7093711ba503c683ab93e1e3d303de238573d69b3582906b4e13a",
    (42, "randn", (17,), "bfloat16"): "f73fd23f23beffbee13e42bf8a3f4d3fd73fa43fa63f1c3fab3f6dbe2b3d81be5c3f",
    (42, "randn", (17,), "float32"): (
        "27a5f63f7b6d23bee2aafebed711e13ee21442bf50068a3f43014d3f931ed73f4133b63e2ff1a53f88471c3fb0d8aa3fed2e6dbe000c2b3d"
        "7ace80beb01f5c3f87949ebe"
    ),
    (42, "randn", (17,), "float64"): (
        "03b5cc22ee2bd33fbd23e860ba12f83fb42503c56f58f43ff82ad80325cce33fbe5a14c7450ca3bf92774f785f90f03fc741ffceb7a784bf"
        "8731d7fa2be8b63f6accb596c8ada33f6ad1d92bd1f5d83f8c0e04ab0f8ee2bf808caa9c5207ec3f00cad151d51cd93fc582b3ca41bcf13f"
        "b6bf094380afeb3f284d31dded5deb3fb72d417dbaeccf3f"
    ),
    (42, "randint", (0, 10, 8), "uint8"): "0207060406050004",
    (42, "randint", (-5, 1099511627776, 2), "int64"): "62d40aca66000000faaa342a5c000000",
    (42, "randperm", (9,), "int8"): "060400070508030201",
    (42, "bernoulli", (0.4,), "int8"): "010101010000000001010101",
    (18446744073709551615, "rand", (3,), "float16"): "f33b92388f38",
    (18446744073709551615, "rand", (3,), "bfloat16"): "7e3f123f123f",
    (18446744073709551615, "rand", (3,), "float32"): "a3697e3f2241123f0cec113f",
    (18446744073709551615, "rand", (2,), "float64"): "2241921ca369ee3f47ac0c900cece13f",
    (18446744073709551615, "randn", (3,), "float16"): "e13c4ab6183c",
    (18446744073709551615, "randn", (3,), "float32"): "32219c3f9b34c9be20f4823f",
    (18446744073709551615, "randn", (3,), "float64"): "a63569392684f33f9a22a56b9326d9bf78ce4d05845ef03f",
    (18446744073709551615, "randn", (17,), "float16"): "54c12c3f03bb96be4eb8e634c93640344cc2c3aa40bd72b537b597a7223627b1df3f",
    (18446744073709551615, "randn", (17,), "bfloat16"): "2bc0e63f60bfd3bf0abf9d3ed93e883e4ac058bda8bfaebea7bef3bcc43e25befc3f",
    (18446744073709551615, "randn", (17,), "float32"): (
        "da832ac0ec6760bf69b1d2bf51cb09bfc4c89c3eed16d93e7601883e0e8e49c03b0036c0fd0ba8bf8f3aaebe89eaa6be07d9f2bc0635c43e"
        "ead024bedce3fb3fd0ebcf3f"
    ),
    (18446744073709551615, "randn", (17,), "float64"): (
        "94ee0db3d2bfffbfdbd8cf650ce4e63f7fead8eacee0dd3f9614ab260e71e13f192616b30241adbfcd8a26773f1a02c074a71e48d1b8f33f"
        "8c32fe092f24f3bf2f8148ba6dd2d7bf1b7703aef1c6d9bf74de0a115520ebbf0dfcf213fb70fbbf228ae33d6a7ecc3f0895c58cf61b96bf"
        "44f9a9c23288e7bf6844a47eaff9fc3f9b433e2837829c3f"
    ),
    (18446744073709551615, "randint", (0, 10, 8), "uint8"): "0108060900000204",
    (18446744073709551615, "randint", (-5, 1099511627776, 2), "int64"): "1049151ca3000000a6d27c8b0c000000",
    (18446744073709551615, "randperm", (9,), "int8"): "000304060205070108",
    (18446744073709551615, "bernoulli", (0.4,), "int8"): "000000000000000100010101",
}


def draw(generator: Generator, name: str, arguments: tuple[Any, ...], dtype: str) -> np.ndarray:
    of_type = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    if name == "randint":
        return _random.randint(generator, arguments[0], arguments[1], (arguments[2],), of_type)
    if name == "bernoulli":
        return _random.bernoulli(generator, np.full(12, arguments[0]), (12,), of_type)
    if name == "randperm":
        return _random.randperm(generator, arguments[0], of_type)
    return np.asarray(getattr(_random, name)(generator, (arguments[0],), of_type))


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def randn(generator: Generator, *shape: int, dtype: str = "float32") -> list[Any]:
    return list(_random.randn(generator, shape, np.dtype(dtype)).tolist())


@pytest.mark.parametrize(("seed", "name", "arguments", "dtype"), DRAWN_BY_TORCH)
def test_a_draw_gives_the_bytes_that_torch_drew(seed: int, name: str, arguments: tuple[Any, ...], dtype: str) -> None:
    assert draw(seeded(seed), name, arguments, dtype).tobytes().hex() == DRAWN_BY_TORCH[seed, name, arguments, dtype]


def test_the_second_normal_of_a_pair_is_kept_for_the_next_scalar_draw() -> None:
    one_by_one, at_once = seeded(), seeded()
    assert [randn(one_by_one, 1)[0] for _ in range(7)] == randn(at_once, 7)


def test_a_kept_normal_serves_a_draw_of_another_dtype() -> None:
    narrow, wide = seeded(), seeded()
    first = randn(narrow, 1)
    second = randn(narrow, 1, dtype="float64")
    pair = randn(wide, 2, dtype="float64")
    assert [*first, *second] == [np.float32(pair[0]), pair[1]]


def test_a_block_draw_leaves_the_kept_normal_alone() -> None:
    generator, undisturbed = seeded(), seeded()
    randn(generator, 1)
    randn(generator, 16)
    randn(undisturbed, 1)
    assert randn(generator, 1) == randn(undisturbed, 1)


def test_an_empty_draw_takes_nothing_from_the_stream() -> None:
    generator = seeded()
    randn(generator, 1)
    before = generator.get_state()
    for name, arguments in (("rand", (0,)), ("randn", (0,)), ("randint", (0, 9, 0)), ("randperm", (0,)), ("randperm", (1,))):
        draw(generator, name, arguments, "float32")
    assert generator.get_state() == before


def test_seeding_drops_the_kept_normal() -> None:
    generator = seeded()
    randn(generator, 1)
    assert randn(generator.manual_seed(0), 3) == randn(seeded(), 3)


def test_only_the_low_32_bits_of_a_seed_count() -> None:
    assert randn(seeded(2**32 + 5), 20) == randn(seeded(5), 20)


def test_a_negative_seed_stands_for_itself_plus_two_to_the_64() -> None:
    assert seeded(-3).initial_seed() == 2**64 - 3
    assert randn(seeded(-3), 4) == randn(seeded(2**64 - 3), 4)


def test_a_restored_state_continues_the_stream() -> None:
    generator = seeded(9)
    randn(generator, 5)
    state = generator.get_state()
    ahead = randn(generator, 6) + randn(generator, 40)
    other = Generator().set_state(state)
    assert (other.initial_seed(), randn(other, 6) + randn(other, 40)) == (9, ahead)


def test_two_generators_do_not_disturb_each_other() -> None:
    left, right = seeded(1), seeded(2)
    mixed = [randn(g, 3) for g in (left, right, left, right)]
    left, right = seeded(1), seeded(2)
    assert mixed == [*(x for pair in zip([randn(left, 3) for _ in "ab"], [randn(right, 3) for _ in "ab"], strict=True) for x in pair)]


def test_a_generator_seeded_by_the_system_can_be_seeded_again_by_its_number() -> None:
    generator = Generator()
    number = generator.seed()
    assert 0 <= number < 2**53
    assert randn(generator, 4) == randn(seeded(number), 4)


def test_the_module_functions_seed_the_default_generator() -> None:
    assert _random.manual_seed(7) is _random.default_generator
    assert _random.initial_seed() == 7
    assert randn(_random.default_generator, 5) == randn(seeded(7), 5)
    assert _random.seed() == _random.initial_seed() != 7


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_a_uniform_never_reaches_its_upper_end(dtype: Any) -> None:
    values = _random.uniform(seeded(), 1.0, 1.5, (50_000,), dtype)
    assert values.min() >= 1 and values.max() < 1.5


@pytest.mark.parametrize("n", [0, 1, 2, 17, 127])
def test_a_permutation_holds_each_number_once(n: int) -> None:
    assert sorted(_random.randperm(seeded(n), n, np.int8).tolist()) == list(range(n))


@pytest.mark.parametrize(("span", "words"), [(2**28 - 1, 1), (2**28, 2), (2**63, 2)])
def test_an_integer_from_a_wide_range_takes_two_words(span: int, words: int) -> None:
    generator, reference = seeded(), seeded()
    _random.randint(generator, -5, span - 5, (1,))
    reference.words32(words)
    assert generator.get_state() == reference.get_state()


def test_a_layout_that_is_not_contiguous_takes_the_scalar_path_whatever_its_size() -> None:
    pairs = seeded()
    assert _random.randn(seeded(), (20,), np.float64, contiguous=False).tolist() == [randn(pairs, 1, dtype="float64")[0] for _ in range(20)]


def test_normal_scales_and_shifts_the_standard_normal() -> None:
    standard = _random.randn(seeded(), (32,), np.float64)
    assert _random.normal(seeded(), 0.0, 4.0, (32,), np.float64).tolist() == (standard * 4).tolist()
    assert _random.normal(seeded(), 3.0, 1.0, (32,), np.float64).tolist() == (standard + 3).tolist()


def test_a_block_draw_with_mean_and_deviation_rounds_once() -> None:
    standard = _random.randn(seeded(), (1600,), np.float32).astype(np.float64)
    once = (standard * np.float64(np.float32(1.7)) + np.float64(np.float32(3.3))).astype(np.float32)
    twice = standard.astype(np.float32) * np.float32(1.7) + np.float32(3.3)
    drawn = _random.normal(seeded(), 3.3, 1.7, (1600,), np.float32)
    assert (drawn == once).all() and (drawn != twice).any()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda g: g.manual_seed(2**64), ValueError, "Overflow when unpacking long long"),
        (lambda g: g.manual_seed(-(2**63) - 1), ValueError, "Overflow when unpacking long long"),
        (lambda g: g.manual_seed("3"), RuntimeError, "manual_seed expected a long, but got str"),
        (lambda g: g.manual_seed(True), RuntimeError, "manual_seed expected a long, but got bool"),
        (lambda g: Generator("cuda"), RuntimeError, "refgrad has generators for the CPU only, not for 'cuda'; use Generator('cpu')"),
        (lambda g: _random.rand(g, (2, -1)), RuntimeError, "Trying to create tensor with negative dimension -1: [2, -1]"),
        (lambda g: _random.randn(g, (3,), np.int64), NotImplementedError, "\"normal_kernel_cpu\" not implemented for 'Long'"),
        (lambda g: _random.randint(g, 0, 257, (3,), np.uint8), RuntimeError, "to - 1 is out of bounds for unsigned char"),
        (lambda g: _random.bernoulli(g, 1.5, (3,)), RuntimeError, "bernoulli_ expects p to be in [0, 1], but got p=1.5"),
        (lambda g: _random.normal(g, 0.0, -1.0, (3,)), RuntimeError, "normal expects std >= 0.0, but found std -1"),
        (lambda g: _random.randperm(g, 2**31), NotImplementedError, "refgrad's randperm ends at n = 214748363, got n = 2147483648"),
    ],
)
def test_a_refusal_says_what_torch_says_and_draws_nothing(call: Any, error: type[Exception], text: str) -> None:
    generator = seeded()
    with pytest.raises(error) as refusal:
        call(generator)
    assert (str(refusal.value), generator.get_state()) == (text, seeded().get_state())
