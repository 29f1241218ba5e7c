"""Gradients with autograd, cell by cell.

Run it on real torch as it stands; run it on refgrad with the first import replaced by ``import refgrad as torch``;
compare both with ``python -m conformance script examples/autograd_tutorial.py``.
"""

# %% Setting up: the same seed gives the same numbers on both
import torch

torch.manual_seed(0)

# %% A tensor whose gradient is wanted
x = torch.randn(3, requires_grad=True)
x

# %% Every result remembers the function that made it
y = x + 2

# %%
y

# %%
z = y * y * 2
z

# %%
z_mean = z.mean()
z_mean

# %% dz/dx; the graph is kept for another call
z_mean.backward(retain_graph=True)
x.grad

# %%
z

# %% Only a scalar has an implicit gradient
z.backward()

# %% A vector-Jacobian product; the gradient adds to what is there
v = torch.tensor([0.1, 1.0, 0.001], dtype=torch.float32)
z.backward(v)

# %%
x.grad

# %% The saved values are gone now
z.backward(v)

# %% Three ways not to record: the first changes the tensor itself
w = torch.randn(3, requires_grad=True)
w.requires_grad_(False)

# %%
x

# %% the second makes an alias that is not recorded
x.detach()

# %%
y

# %% the third switches recording off
with torch.no_grad():
    y = x + 2
    print(y)

# %% Gradients accumulate, so a loop empties them
weights = torch.ones(4, requires_grad=True)

for epoch in range(5):
    model_output = (weights * 3).sum()
    model_output.backward()
    print(weights.grad)
    weights.grad.zero_()

# %% without emptying they add up
for epoch in range(3):
    (weights * 3).sum().backward()
    print(weights.grad)

# %% An optimizer empties them too
weights = torch.ones(4, requires_grad=True)
optimizer = torch.optim.SGD([weights], lr=0.01)
optimizer.step()
optimizer.zero_grad()
weights, weights.grad

# %%
(weights * 3).sum().backward()
optimizer.step()
weights

# %% A linear regression with one sample
x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
y_true = torch.tensor([2.0], dtype=torch.float32)

w = torch.randn(3, requires_grad=True)
b = torch.randn(1, requires_grad=True)


def model(x):
    return torch.sum(w * x) + b


def loss_fn(y_pred, y_true):
    return torch.mean((y_pred - y_true) ** 2)


y_pred = model(x)
loss = loss_fn(y_pred, y_true)
loss

# %%
loss.backward()
print("Gradients w.r.t. weights (w):", w.grad)
print("Gradient w.r.t. bias (b):", b.grad)
