"""Every view, and every copy that only rearranges elements: values, strides, offsets, bases, gradients, errors, writes through views."""

import numpy as np
import pytest
import torch

import refgrad
from tests.against_torch.comparing import ALL, FLOATS, assert_same, assert_same_second, attempt, from_torch, to_refgrad, to_torch, values

#: name -> call on a tensor of shape (2, 3, 4); those of VIEWS share memory wherever torch's do
VIEWS = {
    "view": lambda t, x: x.view(x.shape[0], -1),
    "view same": lambda t, x: x.view(x.shape),
    "reshape": lambda t, x: x.reshape(4, 6),
    "reshape -1": lambda t, x: t.reshape(x, (-1,)),
    "view_as": lambda t, x: x.view_as(t.zeros(2, 3, 2, 2)) if x.is_contiguous() else x.view_as(x),
    "reshape_as": lambda t, x: x.reshape_as(t.zeros(8, 3)),
    "flatten": lambda t, x: x.flatten(),
    "flatten inner": lambda t, x: t.flatten(x, 1, -1),
    "flatten one dim": lambda t, x: x.flatten(1, 1),
    "unflatten": lambda t, x: x.unflatten(0, (1, -1)),
    "ravel": lambda t, x: x.ravel(),
    "contiguous": lambda t, x: x.contiguous(),
    "transpose": lambda t, x: x.transpose(0, -1),
    "transpose itself": lambda t, x: x.transpose(1, 1),
    "swapaxes": lambda t, x: t.swapaxes(x, 0, 1),
    "swapdims": lambda t, x: x.swapdims(1, 2),
    "t": lambda t, x: x[0].t(),
    "T": lambda t, x: x[0].T,
    "mT": lambda t, x: x.mT,
    "mH": lambda t, x: x.mH,
    "H": lambda t, x: x[0].H,
    "adjoint": lambda t, x: t.adjoint(x),
    "permute": lambda t, x: x.permute(2, 0, 1),
    "permute tuple": lambda t, x: x.permute((-1, 0, 1)),
    "movedim": lambda t, x: x.movedim(0, 2),
    "moveaxis": lambda t, x: t.moveaxis(x, (0, 1), (2, 0)),
    "unsqueeze": lambda t, x: x.unsqueeze(1),
    "unsqueeze last": lambda t, x: x.unsqueeze(-1),
    "squeeze": lambda t, x: x[:1].squeeze(),
    "squeeze nothing": lambda t, x: x.squeeze(),
    "squeeze dim": lambda t, x: x[:1].squeeze(0),
    "squeeze other dim": lambda t, x: x.squeeze(1),
    "squeeze dims": lambda t, x: x[:1, :, :1].squeeze((0, -1)),
    "expand": lambda t, x: x[:, :1].expand(5, -1, 2, 4),
    "expand ones": lambda t, x: x.expand(1, 1, *x.shape),
    "expand_as": lambda t, x: x.expand_as(t.zeros(2, *x.shape)),
    "broadcast_to": lambda t, x: t.broadcast_to(x, (2, *x.shape)),
    "select": lambda t, x: x.select(1, -1),
    "narrow": lambda t, x: x.narrow(1, 1, 2),
    "narrow nothing": lambda t, x: x.narrow(0, 2, 0),
    "diagonal": lambda t, x: x.diagonal(),
    "diagonal above": lambda t, x: x.diagonal(1, 1, 2),
    "diagonal below": lambda t, x: t.diagonal(x, -1, 0, 2),
    "diagonal outside": lambda t, x: x.diagonal(9),
    "unfold": lambda t, x: x.unfold(2, 2, 1),
    "unfold apart": lambda t, x: x.unfold(-1, 1, 2),
    "unfold twice": lambda t, x: x.unfold(0, 2, 1).unfold(1, 2, 1),
    "as_strided": lambda t, x: x.as_strided((2, 2), (1, 3)),
    "as_strided overlapping": lambda t, x: t.as_strided(x, (3, 2), (1, 1), 2),
    "as_strided repeating": lambda t, x: x.as_strided((2, 3), (0, 4)),
}
COPIES = {
    "flip": lambda t, x: x.flip(0, -1),
    "flip nothing": lambda t, x: t.flip(x, ()),
    "fliplr": lambda t, x: x.fliplr(),
    "flipud": lambda t, x: t.flipud(x),
    "roll": lambda t, x: x.roll(1, 0),
    "roll flat": lambda t, x: t.roll(x, -2),
    "roll dims": lambda t, x: x.roll((1, 2), (0, 2)),
    **{f"rot90 {k}": lambda t, x, k=k: x.rot90(k, (0, 2)) for k in (-1, 0, 1, 2)},
    "diag of a matrix": lambda t, x: x[0].diag(1),
    "diag of a vector": lambda t, x: t.diag(x[0, 0], -1),
    "diag_embed": lambda t, x: t.diag_embed(x, 1, 0, 2),
    "repeat": lambda t, x: x.repeat(2, 1, 3),
    "repeat in front": lambda t, x: x.repeat(2, 1, 1, 1),
    "repeat no times": lambda t, x: x.repeat(0, 1, 1),
    "tile": lambda t, x: x.tile(2),
    "repeat_interleave": lambda t, x: x.repeat_interleave(2, 1),
    "repeat_interleave flat": lambda t, x: t.repeat_interleave(x, 2),
    "repeat_interleave tensor": lambda t, x: x.repeat_interleave(t.tensor([1, 0, 2, 1][: x.shape[1]]), 1),
    "tril": lambda t, x: x.tril(),
    "triu": lambda t, x: t.triu(x, 1),
}
CALLS = VIEWS | COPIES


def _layouts(dtype):
    x = values(dtype, (2, 3, 4), seed=3)
    return {"contiguous": x, "transposed": np.ascontiguousarray(x.transpose(1, 0, 2)).transpose(1, 0, 2)}


@pytest.mark.parametrize("name", CALLS)
def test_it_does_what_torch_does_for_every_dtype_and_layout(name):
    for dtype in ALL:
        for layout, x in _layouts(dtype).items():
            assert_same(CALLS[name], x, label=f"{name}, {dtype}, {layout}")


@pytest.mark.parametrize("name", CALLS)
def test_the_gradient_has_the_derivative_and_the_node_that_torch_gives_it(name):
    layouts = {layout: x for layout, x in _layouts("float32").items() if attempt(CALLS[name], torch, to_torch(x))[1] is None}
    assert "contiguous" in layouts
    for layout, x in layouts.items():
        assert_same_second(CALLS[name], x, label=f"{name}, {layout}")


@pytest.mark.parametrize(
    "call",
    [
        lambda t, x: x.view(()),
        lambda t, x: x.view(1, 1),
        lambda t, x: x.reshape(-1),
        lambda t, x: x.flatten(),
        lambda t, x: x.ravel(),
        lambda t, x: x.expand(3, 2),
        lambda t, x: x.unsqueeze(-1),
        lambda t, x: x.squeeze(),
        lambda t, x: x.squeeze(0),
        lambda t, x: x.squeeze((0,)),
        lambda t, x: x.transpose(0, -1),
        lambda t, x: x.permute(()),
        lambda t, x: x.t(),
        lambda t, x: x.T,
        lambda t, x: x.movedim(0, 0),
        lambda t, x: x.flip(0),
        lambda t, x: x.roll(1),
        lambda t, x: x.repeat(2),
        lambda t, x: x.repeat(()),
        lambda t, x: x.unfold(0, 1, 1),
        lambda t, x: x.contiguous(),
    ],
)
def test_a_tensor_without_dims_counts_as_one_dim(call):
    assert_same(call, values("float32", ()))


@pytest.mark.parametrize(
    "call",
    [
        lambda t, x: x.view(-1, 3),
        lambda t, x: x.view(5, 0),
        lambda t, x: x.reshape(3, 0),
        lambda t, x: x.flatten(),
        lambda t, x: x.t(),
        lambda t, x: x.expand(2, 0, 3),
        lambda t, x: x.flip(0),
        lambda t, x: x.roll(1, 0),
        lambda t, x: x.repeat(2, 2),
        lambda t, x: x.tril(),
        lambda t, x: x.diagonal(),
        lambda t, x: x.unfold(1, 2, 1),
        lambda t, x: x.rot90(),
        lambda t, x: x.as_strided((0, 2), (1, 1)),
        lambda t, x: x.narrow(0, 0, 0),
    ],
)
def test_an_empty_tensor_is_rearranged_too(call):
    assert_same(call, np.zeros((0, 3), np.float32))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.view(5, 5),
        lambda x: x.view(-1, -1),
        lambda x: x.view(-1, 5),
        lambda x: x.view(-2, 3),
        lambda x: x[:0].view(0, -1),
        lambda x: x.transpose(0, 1).view(24),
        lambda x: x.view(()),
        lambda x: x.reshape(7),
        lambda x: x.unflatten(2, (3, 2)),
        lambda x: x.unflatten(2, ()),
        lambda x: x.unflatten(2, (-1, -1)),
        lambda x: x.flatten(2, 1),
        lambda x: x.flatten(0, 5),
        lambda x: x.expand(2, 3, 5),
        lambda x: x.expand(3, 4),
        lambda x: x.expand(-1, 2, 3, 4),
        lambda x: x.expand(-2, 3, 4),
        lambda x: x.unsqueeze(4),
        lambda x: x.squeeze(3),
        lambda x: x.squeeze((0, 0)),
        lambda x: x.transpose(0, 3),
        lambda x: x.t(),
        lambda x: x[0, 0].mT,
        lambda x: x.H,
        lambda x: x.permute(0, 1),
        lambda x: x.permute(0, 0, 1),
        lambda x: x.permute(0, 1, 3),
        lambda x: x.movedim((0, 0), (1, 2)),
        lambda x: x.movedim((0, 1), (2, 2)),
        lambda x: x.movedim((0, 1), (2,)),
        lambda x: x.select(1, 3),
        lambda x: x.select(1, -4),
        lambda x: x.select(3, 0),
        lambda x: x[0, 0, 0].select(0, 0),
        lambda x: x.narrow(1, 1, 3),
        lambda x: x.narrow(1, 4, 0),
        lambda x: x.narrow(1, 0, -1),
        lambda x: x[0, 0, 0].narrow(0, 0, 1),
        lambda x: x.diagonal(0, 0, 0),
        lambda x: x.diagonal(0, 0, 7),
        lambda x: x.diag(),
        lambda x: x.unfold(2, 5, 1),
        lambda x: x.unfold(2, 2, 0),
        lambda x: x.unfold(2, -1, 1),
        lambda x: x.as_strided((2, 2), (1,)),
        lambda x: x.as_strided((20, 2), (1, 20)),
        lambda x: x.as_strided((2, 2), (-1, 2)),
        lambda x: x.as_strided((2, 2), (1, 2), -3),
        lambda x: x.flip(0, 0),
        lambda x: x.flip(3),
        lambda x: x[0, 0].fliplr(),
        lambda x: x.roll((1, 2), (0,)),
        lambda x: x.roll(1, 4),
        lambda x: x.roll(()),
        lambda x: x[0, 0, 0].roll(1, 0),
        lambda x: x.rot90(1, (0, 0)),
        lambda x: x.rot90(1, (0,)),
        lambda x: x.rot90(1, (0, 5)),
        lambda x: x[0, 0].rot90(),
        lambda x: x.repeat(2, 1),
        lambda x: x.repeat(-1, 1, 1),
        lambda x: x.repeat_interleave(-1, 1),
        lambda x: x[0, 0].tril(),
        lambda x: x[0].detach_(),
    ],
)
def test_an_error_is_torch_s_word_for_word(call):
    errors = [attempt(call, make(values("float32", (2, 3, 4))))[1] for make in (to_torch, to_refgrad)]
    assert (type(errors[1]), str(errors[1])) == (type(errors[0]), str(errors[0]).split("\nException raised from")[0])


def _aliasing(out, x):
    base = None if out._base is None else "itself" if out._base is x else tuple(out._base.shape)
    return out.storage_offset(), base, out.data_ptr() - out._base.data_ptr() if base and out.numel() else None


@pytest.mark.parametrize("name", CALLS)
def test_a_view_has_the_offset_and_the_base_that_torch_gives_it(name):
    for x in _layouts("float32").values():
        theirs, ours = to_torch(x), to_refgrad(x)
        expected, raised = attempt(CALLS[name], torch, theirs)
        assert raised is not None or _aliasing(CALLS[name](refgrad, ours), ours) == _aliasing(expected, theirs)


#: writes to a product, through views of it and through it while views of it live; what comes back is looked at too
WRITES = {
    "a view is scaled": lambda t, y, v: y[0].mul_(v),
    "the base is scaled": lambda t, y, v: _then(y[0], lambda: y.mul_(v)),
    "a view of a view": lambda t, y, v: y.view(6, 4)[1:4].mul_(v),
    "a transposed view": lambda t, y, v: y.transpose(0, 2)[1].add_(v[0]),
    "a diagonal": lambda t, y, v: y.diagonal().mul_(v[0]),
    "an unfolded view": lambda t, y, v: y.unfold(1, 1, 2).mul_(v[0]),
    "a strided view": lambda t, y, v: y.as_strided((4,), (5,), 2).mul_(v),
    "an expanded view is read after the base is written": lambda t, y, v: _then(y.expand(2, 2, 3, 4), lambda: y.mul_(v)),
    "an overlapping view is read after the base is written": lambda t, y, v: _then(y.unfold(2, 2, 1), lambda: y.mul_(v)),
    "every other element is read after the base is written": lambda t, y, v: _then(y[:, :, ::2], lambda: y.mul_(v)),
    "two views of one base": lambda t, y, v: _then(_then(y[0], lambda: y[1].mul_(v)), lambda: None),
    "a detached alias": lambda t, y, v: y.detach().mul_(3),
    "tril_": lambda t, y, v: y.tril_(),
    "triu_ of a view": lambda t, y, v: y[0].triu_(1),
}


def _then(tensor, write):
    write()
    return tensor


def _after_write(library, make, name):
    x, v = [make(np.rint(values("float32", shape, seed=1)), True) for shape in ((2, 3, 4), (4,))]  # so small that no sum is rounded
    y = x * 2
    w = WRITES[name](library, y, v)
    state = [(type(a.grad_fn).__name__, a._version, a.requires_grad, a.is_leaf) for a in (y, w)]
    total = (y * y).sum() + (w.sum() if w.requires_grad else 0)
    return state, [y, w], library.autograd.grad(total, [x, v], allow_unused=True)


@pytest.mark.parametrize("name", WRITES)
def test_a_write_through_a_view_moves_the_history_of_its_base(name):
    state, tensors, grads = _after_write(torch, to_torch, name)
    ours, our_tensors, our_grads = _after_write(refgrad, to_refgrad, name)
    assert ours == state
    for a, b in zip([*tensors, *grads], [*our_tensors, *our_grads], strict=True):
        assert (a is None) == (b is None) and (a is None or from_torch(a).tolist() == b.tolist())


def test_view_to_another_dtype_is_named_as_what_refgrad_lacks():
    with pytest.raises(NotImplementedError, match="view\\(dtype\\)"):
        refgrad.zeros(2).view(refgrad.int32)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_leaf_that_repeats_its_memory_gets_the_gradient_of_as_strided_in_equal_parts(dtype):
    grads = []
    for library, make in ((torch, to_torch), (refgrad, to_refgrad)):
        leaf = make(values(dtype, (3,))).expand(2, 3).detach().requires_grad_()
        grads += library.autograd.grad(leaf.as_strided((2, 2), (1, 1)), leaf, make(values(dtype, (2, 2), seed=5)))
    assert from_torch(grads[0]).tolist() == grads[1].tolist()
