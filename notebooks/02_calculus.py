# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. Calculus: how a network learns
#
# A network learns by small changes of its weights. Calculus says which change of which weight makes the loss smaller.
# This notebook shows:
#
# | idea | what it is for |
# |---|---|
# | derivative | how fast one number changes with another |
# | gradient | the derivatives with respect to all weights: the direction of a step |
# | chain rule | derivatives of functions inside functions: backpropagation |
# | vanishing gradients | what the chain rule does in deep networks, and what helps |
# | second derivative | curvature: how long a step may be |
#
# Every derivative is computed twice: by its formula or by backpropagation, and by a small change of a number.

# %%
# %matplotlib inline
import numpy as np
import torch
from ecgs import CLASSES, FS, clear_record, read_ecgs
from scipy.interpolate import CubicSpline

from einthoven.diagnostics.curvature import Hessian, sharpness
from einthoven.diagnostics.gradients import gradient_norms
from einthoven.diagnostics.stages import stages
from einthoven.functional.beats import detect_beats
from einthoven.functional.leads import LEADS
from einthoven.functional.qrs_edges import qrs_duration
from einthoven.functional.representative_beat import representative_beat
from einthoven.losses.classification import binary_cross_entropy
from einthoven.models.activations import activation_layer
from einthoven.models.mlp import MLP
from einthoven.report.style import BLUE, FAINT, INK, ORANGE, VERMILLION, new_figure, panels, use_style

ecgs = read_ecgs(200)
print(ecgs.source)

# %% [markdown]
# ## A derivative: how fast the voltage changes
#
# If y is a function of x, the derivative dy/dx says how much y changes for a small change of x. The voltage of a lead
# is a function of time. Its derivative is the slope of the trace, in mV per second. A QRS complex is steep, a T wave
# is not.
#
# The samples are joined by a smooth curve (a cubic spline). Its derivative is exact, and the integral of the
# derivative brings the voltage back.

# %%
lead = ecgs.signals[clear_record(ecgs), LEADS.index("II"), :300].astype(np.float64)
time = np.arange(len(lead)) / FS
curve = CubicSpline(time, lead)
slope = curve.derivative()
small = 1e-5
nudged = (curve(time[1:-1] + small) - curve(time[1:-1] - small)) / (2 * small)
slope_error = float(np.abs(nudged - slope(time[1:-1])).max())
integral_error = abs(slope.integrate(0, time[-1]) - (lead[-1] - lead[0]))
print(f"derivative by formula and by a small change differ by {slope_error:.1e} mV/s")
print(f"the integral of the derivative misses the difference of the ends by {integral_error:.1e} mV")

# %%
with use_style():
    figure = new_figure(10, 4.4)
    above, below = figure.subplots(2, 1, sharex=True)
    fine = np.linspace(0, time[-1], 3000)
    above.plot(fine, curve(fine), color=BLUE, linewidth=1.2)
    # In the middle, so that the tangent does not hide the end
    middle = fine[(fine > 1.0) & (fine < 2.0)]
    steepest = middle[np.abs(slope(middle)).argmax()]
    near = np.array([-1.0, 1.0]) / abs(slope(steepest))
    above.plot(steepest + near, curve(steepest) + slope(steepest) * near, color=VERMILLION, linewidth=3)
    above.set(ylabel="mV", title=f"Lead II, and a tangent with a slope of {slope(steepest):.0f} mV/s")
    below.plot(fine, slope(fine), color=VERMILLION, linewidth=1)
    below.set(xlabel="s", ylabel="mV/s", title="Its derivative")
figure

# %% [markdown]
# ## The derivative of a loss
#
# Now x is a weight, and y is the loss. Take one measurement of each record, the duration of the QRS complex, and one
# weight w. The model says that the record is normal with the probability p = σ(w s + b), where s is the duration
# minus 100 ms, in units of 20 ms. The loss is the cross-entropy (notebook 3 says why). Its derivative has a simple
# formula:
#
# > ∂L/∂w = 1/n Σᵢ (pᵢ − yᵢ) sᵢ and ∂L/∂b = 1/n Σᵢ (pᵢ − yᵢ)

# %%
beats = detect_beats(ecgs.signals.astype(np.float64), FS)
duration_ms = 1000 * qrs_duration(representative_beat(ecgs.signals.astype(np.float64), beats, FS), FS)
known = np.isfinite(duration_ms)
s = torch.from_numpy((duration_ms[known] - 100) / 20)
y = torch.from_numpy(ecgs.labels[known, CLASSES.index("NORM")])


def loss(w, b):
    """Return the mean cross-entropy of logistic regression on the QRS duration."""
    return binary_cross_entropy((w * s + b)[:, None], y[:, None]).mean()


w, b = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.5, 0.3))
loss(w, b).backward()
p = torch.sigmoid(w * s + b).detach()
formula = torch.stack([((p - y) * s).mean(), (p - y).mean()])
automatic = torch.stack([w.grad, b.grad])
with torch.no_grad():
    nudged = torch.stack([loss(w + small, b) - loss(w - small, b), loss(w, b + small) - loss(w, b - small)]) / (
        2 * small
    )
formula_error = float((formula - automatic).abs().max())
nudge_error = float((nudged - automatic).abs().max())
print("gradient by autograd:", automatic.numpy().round(5))
print(f"its formula differs by {formula_error:.1e}, a small change by {nudge_error:.1e}")

# %% [markdown]
# `loss.backward()` is *automatic differentiation*: torch has recorded every operation, and applies the chain rule to
# the record. Two derivatives together are the *gradient*. It is an arrow that points to where the loss grows fastest.
# A step of *gradient descent* goes the other way:
#
# > w ← w − η ∂L/∂w

# %%
ws, bs = np.linspace(-4, 1.5, 56), np.linspace(-2.5, 3.5, 61)
with torch.no_grad():
    surface = np.array([[float(loss(torch.tensor(i), torch.tensor(j))) for i in ws] for j in bs])

path = [(1.0, -2.0)]
for _ in range(60):
    point = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in path[-1]]
    loss(*point).backward()
    path.append(tuple(float(value.detach() - 1.0 * value.grad) for value in point))
descent = [float(loss(torch.tensor(i), torch.tensor(j))) for i, j in path]

with use_style():
    figure = new_figure(11, 4.6)
    left, right = figure.subplots(1, 2)
    at = float(w.detach())
    values = [float(loss(torch.tensor(value), b.detach())) for value in ws]
    left.plot(ws, values, color=BLUE, label="loss")
    near = np.array([-0.9, 0.9])
    height = float(loss(w, b).detach())
    left.plot(at + near, height + float(w.grad) * near, color=VERMILLION, label="tangent: the derivative")
    left.plot(at, height, "o", color=VERMILLION)
    left.set(xlabel="w", ylabel="loss", title="One weight: a slope")
    left.legend()
    right.contour(ws, bs, surface, levels=18, cmap="cividis")
    right.plot(*np.array(path).T, ".-", color=VERMILLION, linewidth=1.2)
    right.plot(*path[0], "s", color=INK)
    right.set(xlabel="w", ylabel="b", title="Two weights: 60 steps downhill", aspect="equal")
figure

# %% [markdown]
# ## The chain rule: backpropagation
#
# A network is a chain of functions. The derivative of a chain is the product of the derivatives:
#
# > y = f(g(x)) ⇒ dy/dx = f′(g(x)) · g′(x)
#
# Here is a network with two hidden layers on the samples of a record, and its backward pass by hand. It starts at the
# loss, where the derivative with respect to the logits is p − y. Then it goes back through one layer at a time: it
# multiplies with the derivative of the activation (for tanh: 1 − h²), and with the transposed weights.

# %%
rows = ecgs.signals[:, [LEADS.index(name) for name in ("I", "II", "V1", "V2", "V5")], :250]
x = torch.from_numpy(rows).double()
labels = torch.from_numpy(ecgs.labels)
torch.manual_seed(0)
network = MLP(5, len(CLASSES), samples=250, width=32, depth=2, activation="tanh", norm="none", dropout=0.0).double()
network_loss = binary_cross_entropy(network(x), labels).mean()
network_loss.backward()

W1, W2, W3 = network.layer1.linear.weight, network.layer2.linear.weight, network.head.weight
with torch.no_grad():
    # Forward, and keep what each layer puts out.
    h0 = x.flatten(1)
    h1 = torch.tanh(h0 @ W1.T + network.layer1.linear.bias)
    h2 = torch.tanh(h1 @ W2.T + network.layer2.linear.bias)
    p = torch.sigmoid(h2 @ W3.T + network.head.bias)

    # Backward: from the loss to the first layer.
    back3 = (p - labels) / labels.numel()
    back2 = (back3 @ W3) * (1 - h2**2)
    back1 = (back2 @ W2) * (1 - h1**2)
    by_hand = {"layer1": back1.T @ h0, "layer2": back2.T @ h1, "head": back3.T @ h2}
chain_error = max(
    float((by_hand[name] - weight.grad).abs().max()) for name, weight in (("layer1", W1), ("layer2", W2), ("head", W3))
)
print(f"the backward pass by hand and loss.backward() differ by {chain_error:.1e}")

# %% [markdown]
# One backward pass gives the derivatives of all weights, and costs about as much as two forward passes. Without the
# chain rule, each weight would have to be moved by itself, with two forward passes for each. Let us do that for 60 of
# them.

# %%
weights = sum(parameter.numel() for parameter in network.parameters())
picks = np.random.default_rng(0).choice(W1.numel(), 60, replace=False)
moved = []
with torch.no_grad():
    flat = W1.view(-1)
    for pick in picks.tolist():
        sides = []
        for step in (small, -2 * small):
            flat[pick] += step
            sides.append(float(binary_cross_entropy(network(x), labels).mean()))
        flat[pick] += small
        moved.append((sides[0] - sides[1]) / (2 * small))
derived = W1.grad.view(-1)[picks].numpy()
moved_error = float(np.abs(np.array(moved) - derived).max())
print(f"{weights:,} weights would need {2 * weights:,} forward passes; 60 of them agree within {moved_error:.1e}")

# %%
with use_style():
    figure = new_figure(5.6, 4.6)
    axes = figure.add_subplot()
    limit = 1.1 * float(np.abs(derived).max())
    axes.plot([-limit, limit], [-limit, limit], color=FAINT, linewidth=4)
    axes.plot(derived, moved, "o", color=BLUE, markersize=5)
    axes.set(
        xlabel="derivative by backpropagation", ylabel="by moving the weight", title="60 weights of the first layer"
    )
    axes.locator_params(nbins=5)
figure

# %% [markdown]
# ## Activations, and gradients that vanish
#
# Each layer multiplies the gradient with the derivative of its activation. The derivative of the sigmoid is at most
# 1/4. That of ReLU is exactly 1 for positive inputs.

# %%
z = torch.linspace(-5, 5, 401, dtype=torch.float64, requires_grad=True)
with use_style():
    figure, places = panels(6, 3.6, 2.4, sharey=True)
    largest = {}
    for axes, name in zip(places, ("sigmoid", "tanh", "relu", "leaky_relu", "gelu", "silu"), strict=True):
        out = activation_layer(name)(z * 1)
        (derivative,) = torch.autograd.grad(out.sum(), z)
        largest[name] = float(derivative.max())
        axes.plot(z.detach(), out.detach(), color=FAINT)
        axes.plot(z.detach(), derivative, color=VERMILLION)
        axes.set(title=f"{name}: at most {largest[name]:.2f}", ylim=(-1.1, 1.6))
    figure.supxlabel("input; grey: activation, red: its derivative", fontsize=12)
figure

# %% [markdown]
# In a network of 20 layers, 20 such factors are multiplied. With sigmoids the product is nearly zero: the first
# layers get no gradient, so they do not learn. ReLU helps. *Skip connections* help more: y = x + F(x) has the
# derivative 1 + F'(x), so there is always a path with the factor 1.

# %%
profiles = {}
for name, activation, skip in (("sigmoid", "sigmoid", False), ("ReLU", "relu", False), ("ReLU, skip", "relu", True)):
    torch.manual_seed(1)
    deep = MLP(5, 5, samples=250, width=64, depth=20, activation=activation, norm="none", dropout=0.0, skip=skip)
    binary_cross_entropy(deep.double()(x), labels).mean().backward()
    norms = {key.rpartition("/")[2]: float(value) for key, value in gradient_norms(stages(deep)).items()}
    profiles[name] = [norms[f"layer{number}"] for number in range(1, 21)]

direct = float(torch.cat([p.grad.flatten() for p in deep.layer1.parameters()]).norm())
norm_error = abs(direct - profiles["ReLU, skip"][0]) / direct
print(f"the package's norm of the first layer and the formula √Σg² differ by {norm_error:.1e} of it")

with use_style():
    figure = new_figure(9, 4)
    axes = figure.add_subplot()
    for (name, profile), color in zip(profiles.items(), (VERMILLION, ORANGE, BLUE), strict=True):
        axes.semilogy(range(1, 21), profile, "o-", color=color, markersize=4, label=name)
    last = profiles["sigmoid"][-1]
    axes.semilogy(range(1, 21), [last / 4 ** (20 - k) for k in range(1, 21)], "--", color=FAINT, label="1/4 a layer")
    axes.set(
        xlabel="layer, from the input", ylabel="gradient norm", title="The gradient that reaches each of 20 layers"
    )
    axes.set_xticks(range(1, 21))
    axes.legend(ncols=2)
figure

# %% [markdown]
# `einthoven train experiment=vanishing_gradients` draws this figure for networks that are trained, and shows which of
# them learn. Every run measures these norms (`watch/grad/norm/<stage>`), and the ratio of first to last
# (`watch/grad/vanishing`).
#
# ## The second derivative: how long may a step be?
#
# The gradient says where down is, for a very short step. For a longer step, the slope itself changes. The second
# derivatives are a matrix, the *Hessian*. For logistic regression it has a formula, with the inputs φ = (s, 1):
#
# > H = 1/n Σᵢ pᵢ (1 − pᵢ) φᵢ φᵢᵀ
#
# Its eigenvectors are the directions of largest and smallest curvature. A large network never writes its Hessian
# down: it has as many rows as the network has weights. The package multiplies it with vectors, and finds the largest
# eigenvalue (the *sharpness*) from a few products.

# %%
point = torch.zeros(2, dtype=torch.float64, requires_grad=True)
phi = torch.stack([s, torch.ones_like(s)], dim=1)
p = torch.sigmoid(phi @ point.detach())
H = (phi * (p * (1 - p))[:, None]).T @ phi / len(phi)
by_autograd = torch.autograd.functional.hessian(lambda v: loss(v[0], v[1]), point)
hessian_error = float((H - by_autograd).abs().max())
curvatures, directions = torch.linalg.eigh(H)
found = sharpness(Hessian(loss(point[0], point[1]), [point]), torch.Generator().manual_seed(0), tolerance=1e-9)
sharpness_error = abs(found - float(curvatures[-1]))
print(
    f"formula and autograd differ by {hessian_error:.1e}; largest eigenvalue {found:.4f}, error {sharpness_error:.1e}"
)

# %% [markdown]
# Go from the point w = b = 0 along the gradient. The straight line is what the gradient promises. The parabola also
# knows the curvature, L − η‖g‖² + ½ η² gᵀHg. The loss follows the line for short steps, the parabola for longer ones,
# and in the end neither of them.

# %%
g = torch.autograd.grad(loss(point[0], point[1]), point)[0]
start = float(loss(point[0], point[1]).detach())
bend = float(g @ H @ g)
rates = np.linspace(0, 12, 121)
with torch.no_grad():
    true = [float(loss(*(point - rate * g))) for rate in rates]
line = start - rates * float(g @ g)
parabola = line + rates**2 / 2 * bend
best = float(g @ g) / bend
near = rates < 0.3
taylor_errors = float(np.abs(true - line)[near].max()), float(np.abs(true - parabola)[near].max())
print(f"for η < 0.3 the line is wrong by up to {taylor_errors[0]:.1e}, the parabola by up to {taylor_errors[1]:.1e}")

with use_style():
    figure = new_figure(9, 4)
    axes = figure.add_subplot()
    axes.plot(rates, true, color=BLUE, linewidth=3, label="the loss")
    axes.plot(rates, line, "--", color=FAINT, label="promised by the gradient")
    axes.plot(rates, parabola, "--", color=VERMILLION, label="with the curvature")
    axes.axvline(best, color=INK, linewidth=1, label=f"bottom of the parabola: η = {best:.1f}")
    axes.set(xlabel="learning rate η of one step", ylabel="loss", ylim=(min(true) - 0.05, start + 0.12))
    axes.set_title("One step, and how long it may be")
    axes.legend(loc="upper left", fontsize=10)
figure

# %% [markdown]
# In a run, `diagnostics.sharpness=1` measures this largest eigenvalue. [Notebook 4](04_optimization.py) shows why 2
# divided by it is the limit of the learning rate.
#
# Next: [3. Probability](03_probability.py), what outputs and losses mean.
