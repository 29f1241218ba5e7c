"""Joining and parting against torch: dtypes, layouts, empty tensors, parts without a gradient, errors, and views."""

import numpy as np
import pytest
import torch

import refgrad
from tests.against_torch.comparing import ALL, assert_same, attempt, to_refgrad, to_torch, values

LISTS = [
    ((2, 3), (2, 3)),
    ((2, 3), (1, 3)),
    ((2, 3), (2, 1)),
    ((2, 3), (2, 4)),
    ((2,), (3,)),
    ((0,), (2, 2)),
    ((2, 2), (0,), (2, 2)),
    ((0,), (0,)),
    ((0, 2), (2, 2)),
    ((0, 3), (2, 2)),
    ((2,), ()),
    ((), ()),
    ((2,), (2, 2)),
    ((2, 3), (2, 3, 1)),
    ((2, 0), (2, 2)),
    ((2, 3, 4), (2, 3, 4)),
    ((1,),),
]
JOINS = {
    "cat 0": lambda t, *x: t.cat(x),
    "cat 1": lambda t, *x: t.cat(list(x), 1),
    "cat -1": lambda t, *x: t.cat(x, dim=-1),
    "cat 5": lambda t, *x: t.cat(x, 5),
    "stack 0": lambda t, *x: t.stack(x),
    "stack 1": lambda t, *x: t.stack(list(x), dim=1),
    "stack -1": lambda t, *x: t.stack(x, -1),
    "stack 4": lambda t, *x: t.stack(x, 4),
    "hstack": lambda t, *x: t.hstack(x),
    "vstack": lambda t, *x: t.vstack(x),
    "dstack": lambda t, *x: t.dstack(x),
}


@pytest.mark.parametrize("name", JOINS)
def test_joining_agrees_for_every_list_of_shapes(name):
    for shapes in LISTS:
        assert_same(JOINS[name], *[values("float32", s, i) for i, s in enumerate(shapes)], label=f"{name} {shapes}")


@pytest.mark.parametrize("name", ("cat 0", "stack -1", "hstack"))
def test_joining_promotes_dtypes(name):
    for a in ALL:
        for b in ALL:
            assert_same(JOINS[name], values(a, (2, 2), 1), values(b, (2, 2), 2), label=f"{name} {a} {b}")


@pytest.mark.parametrize("name", JOINS)
def test_joining_gives_contiguous_results_whatever_the_layout(name):
    a, b = values("float32", (3, 2), 1), values("float32", (6, 4), 2)
    assert_same(JOINS[name], a.T, b[::3, 1:], label=name)
    assert_same(JOINS[name], a.T, a.T, label=name)


@pytest.mark.parametrize("name", ("cat", "stack", "hstack", "vstack"))
def test_joining_nothing_or_no_list_raises_what_torch_raises(name):
    for argument in ([], ()):
        assert_same(lambda t, x=argument: getattr(t, name)(x), label=name)
    assert_same(lambda t, x: getattr(t, name)(x), values("float32", (2, 3)), label=name)


def test_the_same_tensor_twice_collects_both_gradients():
    assert_same(lambda t, x: t.cat([x, x * 2, x]), values("float32", (2, 3)))
    assert_same(lambda t, x: t.stack([x, x]), values("float32", (2, 3)))


PARTS = {
    "split 2": lambda t, x: t.split(x, 2),
    "split 2, -1": lambda t, x: x.split(2, -1),
    "split 10": lambda t, x: x.split(10),
    "split 0": lambda t, x: x.split(0),
    "split -1": lambda t, x: t.split(x, -1),
    "split sizes": lambda t, x: t.split(x, [2, 3]),
    "split sizes 1": lambda t, x: x.split([1, 0, 3], 1),
    "split bad sizes": lambda t, x: t.split(x, [2, 2]),
    "split negative sizes": lambda t, x: t.split(x, [2, -1, 4]),
    "split by keyword": lambda t, x: t.split(x, split_size_or_sections=2, dim=1),
    "split method by keyword": lambda t, x: x.split(split_size=3),
    "split_with_sizes": lambda t, x: t.split_with_sizes(x, [4, 1]),
    "split dim": lambda t, x: x.split(2, 2),
    "chunk 2": lambda t, x: t.chunk(x, 2),
    "chunk 3": lambda t, x: x.chunk(3),
    "chunk 4, 1": lambda t, x: x.chunk(4, dim=1),
    "chunk 10": lambda t, x: x.chunk(10),
    "chunk 0": lambda t, x: x.chunk(0),
    "unbind": lambda t, x: t.unbind(x),
    "unbind -1": lambda t, x: x.unbind(-1),
    "unbind 2": lambda t, x: x.unbind(2),
    "tensor_split 2": lambda t, x: t.tensor_split(x, 2),
    "tensor_split 3, 1": lambda t, x: x.tensor_split(3, 1),
    "tensor_split at": lambda t, x: x.tensor_split([1, 3]),
    "tensor_split backwards": lambda t, x: x.tensor_split((3, 1)),
    "tensor_split beyond": lambda t, x: x.tensor_split([10]),
    "tensor_split negative": lambda t, x: x.tensor_split([-1]),
    "tensor_split 0": lambda t, x: x.tensor_split(0),
    "tensor_split by keyword": lambda t, x: t.tensor_split(x, sections=2),
}
SHAPES = ((5, 4), (0, 3), (5, 0), (), (1, 4))


def _count(call, array):
    parts, _ = attempt(call, torch, to_torch(array))
    return len(parts) if parts is not None else 1


@pytest.mark.parametrize("name", PARTS)
def test_every_part_agrees(name):
    for shape in SHAPES:
        for array in (values("float32", shape, 1), values("float32", shape[::-1], 1).T):
            for place in range(_count(PARTS[name], array)):
                assert_same(lambda t, x, i=place: PARTS[name](t, x)[i], array, label=f"{name} {shape} {place}")


@pytest.mark.parametrize("name", PARTS)
def test_the_number_of_parts_and_their_places_in_memory_agree(name):
    for shape in SHAPES:
        array = values("float32", shape, 1)
        theirs, raised = attempt(PARTS[name], torch, to_torch(array))
        ours, ours_raised = attempt(PARTS[name], refgrad, to_refgrad(array))
        assert (raised is None) == (ours_raised is None)
        if raised is None:
            assert type(ours) is tuple
            assert [(tuple(p.shape), p.storage_offset(), p._is_view()) for p in ours if p.numel()] == [
                (tuple(p.shape), p.storage_offset(), p._is_view()) for p in theirs if p.numel()
            ]


@pytest.mark.parametrize("dtype", ALL)
def test_parts_keep_every_dtype(dtype):
    for name in ("split 2", "split sizes", "unbind", "tensor_split 2"):
        assert_same(lambda t, x, name=name: PARTS[name](t, x)[1], values(dtype, (5, 4)), label=f"{name} {dtype}")


@pytest.mark.parametrize("name", ("split 2", "split sizes", "chunk 2", "unbind", "tensor_split 2"))
def test_writing_to_one_of_several_views_raises_what_torch_raises(name):
    assert_same(lambda t, x: PARTS[name](t, x * 1)[0].mul_(2), np.ones((5, 4), np.float32), label=name)


def test_second_derivatives_agree():
    def gradient(t, x):
        a, _, c = t.stack([x * x, x, x * 3]).unbind(0)
        y = t.cat([a * c, c.split(1)[0] ** 2])
        return t.autograd.grad(y, x, t.ones_like(y), create_graph=True)[0] * 1

    assert_same(gradient, values("float64", (2, 3)))
