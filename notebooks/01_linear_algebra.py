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
# # 1. Linear algebra: the language
#
# A network is made of tables of numbers. It does only a few kinds of operations on them. This notebook shows each one
# on real signals:
#
# | operation | what a network does with it |
# |---|---|
# | dot product | one neuron; one step of a convolution; one score of attention |
# | matrix product | a whole layer |
# | transpose | makes two shapes fit |
# | norm | the size of a vector: of a gradient, of the weights, of a heart vector |
# | eigenvectors | the natural axes of the data: principal components |
#
# Each formula is followed by the code that computes it. A second, independent way computes the same number, and the
# notebook prints the difference. The functions are those that `einthoven train` uses.

# %%
# %matplotlib inline
import numpy as np
import torch
from ecgs import FS, clear_record, read_ecgs
from scipy.spatial.transform import Rotation
from sklearn import decomposition
from torch import nn

from einthoven.functional.leads import LEADS, derive_limb_leads
from einthoven.functional.pca import PCA
from einthoven.functional.vectorcardiogram import INDEPENDENT_LEADS, inverse_dower_matrix
from einthoven.models.attention import SelfAttention
from einthoven.models.frontend import ROUNDING_MV
from einthoven.models.mlp import DenseLayer
from einthoven.predict import load_bundle
from einthoven.report.ecg_paper import ecg_paper_figure
from einthoven.report.figures import pca_scree_figure
from einthoven.report.style import BLUE, FAINT, GREEN, INK, ORANGE, VERMILLION, new_figure, use_style

ecgs = read_ecgs(200)
print(ecgs.source)

# %% [markdown]
# ## Scalars, vectors, matrices, tensors
#
# One sample of one lead is a number: a *scalar*. A lead is a list of 1,000 numbers: a *vector*. The twelve leads of a
# record are a table with 12 rows and 1,000 columns: a *matrix*. A batch of 32 records is a stack of 32 such tables.
# Every table with any number of dimensions is called a *tensor*.

# %%
number = clear_record(ecgs)
record = ecgs.signals[number].astype(np.float64)
lead = record[LEADS.index("II")]
batch = torch.from_numpy(ecgs.signals[:32])
print("scalar", lead[250], "mV")
print("vector", lead.shape)
print("matrix", record.shape)
print("tensor", tuple(batch.shape), "records, leads, samples")

# %% [markdown]
# A physician reads the matrix as a picture. On paper, 25 mm are a second and 10 mm are a millivolt.

# %%
ecg_paper_figure(record, FS, title=ecgs.names[number], subtitle=" ".join(sorted(ecgs.statements[number])), dpi=80)

# %% [markdown]
# ## The dot product
#
# Multiply two lists of the same length, number by number, and add up the products:
#
# > a · b = Σᵢ aᵢ bᵢ
#
# The result is one number. It is large if the two lists have the same shape, and near zero if they have nothing in
# common.

# %%
first, second = lead[:100], lead[100:200]
by_hand = sum(float(a) * float(b) for a, b in zip(first, second, strict=True))
dot_error = abs(by_hand - first @ second)
print(f"{by_hand:.6f} mV² by hand; the difference from numpy is {dot_error:.1e}")

# %% [markdown]
# ### Slide it, and it is a convolution
#
# Take a short piece of the lead, here one QRS complex, and subtract its mean. Lay it over the lead at every position,
# and compute the dot product each time. Where the lead looks like the piece, the result is large: it finds the beats.

# %%
centred = lead - np.median(lead)
peak = 100 + int(np.abs(centred[100:-100]).argmax())
piece = centred[peak - 6 : peak + 7]
pattern = piece - piece.mean()
positions = range(len(centred) - len(pattern) + 1)
sliding = np.array([pattern @ centred[start : start + len(pattern)] for start in positions])

tensor, kernel = torch.from_numpy(centred), torch.from_numpy(pattern)
by_layer = nn.functional.conv1d(tensor[None, None], kernel[None, None])[0, 0].numpy()
sliding_error = float(np.abs(sliding - by_layer).max())
print(f"the loop and the convolution of torch differ by {sliding_error:.1e} mV²")

# %%
with use_style():
    figure = new_figure(10, 4.2)
    above, below = figure.subplots(2, 1, sharex=True)
    seconds = np.arange(len(centred)) / FS
    above.plot(seconds, centred, color=BLUE, linewidth=1)
    above.plot(seconds[peak - 6 : peak + 7], piece, color=VERMILLION, linewidth=4)
    above.set(ylabel="mV", title="Lead II, and the thick piece that slides along it")
    below.plot(seconds[6:-6], sliding, color=VERMILLION, linewidth=1)
    below.set(xlabel="s", ylabel="mV²", title="Dot product at every position")
figure

# %% [markdown]
# A convolutional network does this with many pieces, which it learns.
#
# ## The matrix product: many dot products at once
#
# A *neuron* is a dot product of its input with its weights, plus a number, the bias. A *layer* of 256 neurons has 256
# lists of weights. As the rows of a matrix W, they need one operation:
#
# > Y = X Wᵀ + b: (32 × 1000) (1000 × 256) = (32 × 256)
#
# The inner numbers must be equal, and they disappear. `W.T` is the *transpose* of W: its rows become columns, so that
# the shapes fit.

# %%
torch.manual_seed(0)
layer = DenseLayer(1000, 256, activation="relu", norm="none", dropout=0.0, skip=False).double()
X = batch[:, LEADS.index("II")].double()
W, b = layer.linear.weight, layer.linear.bias
with torch.no_grad():
    Y = X @ W.T + b
    one_neuron = X[3] @ W[17] + b[17]
    matrix_error = float((layer.linear(X) - Y).abs().max() + (one_neuron - Y[3, 17]).abs())
print(tuple(X.shape), "@", tuple(W.T.shape), "=", tuple(Y.shape))
print(f"largest difference from torch's layer, and from one neuron by itself: {matrix_error:.1e}")
print(f"this needs {X.shape[0] * X.shape[1] * len(W):,} multiplications: a GPU does them at the same time")

# %% [markdown]
# ### Twelve leads are eight leads times a matrix
#
# An electrocardiograph has nine electrodes for the heart, so it measures eight voltages. The other four leads are
# computed: III = II − I (Einthoven's law), and aVR, aVL and aVF by Goldberger's equations. Each is a sum of leads
# with fixed weights, so all of it is one matrix with 12 rows and 8 columns.

# %%
M = np.zeros((12, 8))
M[LEADS.index("III"), [0, 1]] = -1, 1
M[LEADS.index("aVR"), [0, 1]] = -1 / 2, -1 / 2
M[LEADS.index("aVL"), [0, 1]] = 1, -1 / 2
M[LEADS.index("aVF"), [0, 1]] = -1 / 2, 1
for column, name in enumerate(INDEPENDENT_LEADS):
    M[LEADS.index(name), column] = 1

eight = record[[LEADS.index(name) for name in INDEPENDENT_LEADS]]
law_error_mv = float(np.abs(M @ eight - record).max())
limb_error = float(np.abs((M @ eight)[:6] - derive_limb_leads(eight[0], eight[1])).max())
print(
    f"largest difference from the twelve leads in the file: {1000 * law_error_mv:.2f} µV (they are rounded to whole µV)"
)
print(f"largest difference from the package's function: {limb_error:.1e} mV")

# %%
with use_style():
    figure = new_figure(11, 4.6)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.5])
    left.imshow(M, cmap="PuOr_r", vmin=-1.2, vmax=1.2, aspect="auto")
    for (row, column), weight in np.ndenumerate(M):
        if weight:
            color = "white" if abs(weight) == 1 else INK
            text = f"{weight:g}".replace("-", "−")
            left.text(column, row, text, ha="center", va="center", fontsize=9, color=color)
    left.set_xticks(range(8), INDEPENDENT_LEADS)
    left.set_yticks(range(12), LEADS)
    left.grid(visible=False)
    left.set(xlabel="eight measured leads", ylabel="twelve leads", title="The matrix")
    time = np.arange(400) / FS
    right.plot(time, record[LEADS.index("aVR"), :400], color=FAINT, linewidth=5, label="aVR in the file")
    right.plot(time, (M @ eight)[LEADS.index("aVR"), :400], color=VERMILLION, linewidth=1.2, label="−I/2 − II/2")
    right.set(
        xlabel="s",
        ylabel="mV",
        title="One row of the product",
        ylim=(None, record[LEADS.index("aVR"), :400].max() + 0.5),
    )
    right.legend(loc="upper right", ncols=2)
figure

# %% [markdown]
# ## Norms: the size of a vector
#
# At each moment, the electrical activity of the heart is nearly one arrow in the chest: the heart vector d, with the
# parts x (to the left), y (to the feet) and z (to the back). It is again a matrix product, of a fixed 3 × 12 matrix
# and the record (the inverse Dower transform).
#
# Its length is the L2 norm. The L1 norm adds the sizes of the parts:
#
# > ‖d‖₂ = √(Σ dᵢ²) and ‖d‖₁ = Σ |dᵢ|

# %%
d = inverse_dower_matrix() @ (record - np.median(record, axis=1, keepdims=True))
l2 = np.linalg.norm(d, axis=0)
l1 = np.linalg.norm(d, ord=1, axis=0)
norm_error = float(np.abs(l2 - np.sqrt((d**2).sum(axis=0))).max() + np.abs(l1 - np.abs(d).sum(axis=0)).max())
print(f"norms by their formulas and by numpy differ by {norm_error:.1e} mV")

# %% [markdown]
# Now turn the heart in the plane of x and y, until the largest vector of the QRS complex points to the left. A
# rotation is a matrix R whose transpose undoes it: RᵀR = 1. It changes the parts of the vector, and keeps its length.
# The L2 norm stays the same. The L1 norm changes, because it depends on the axes.

# %%
angle = float(np.arctan2(d[1, peak], d[0, peak]))
R = Rotation.from_euler("z", -angle).as_matrix()
turned = R @ d
transpose_error = float(np.abs(R.T @ turned - d).max())
l2_change = float(np.abs(np.linalg.norm(turned, axis=0) - l2).max())
l1_change = float(np.abs(np.linalg.norm(turned, ord=1, axis=0) - l1).max())
print(f"Rᵀ R d and d differ by {transpose_error:.1e} mV")
print(f"largest change of the L2 norm: {l2_change:.1e} mV; of the L1 norm: {l1_change:.2f} mV")

# %%
with use_style():
    figure = new_figure(11, 3.8)
    around = slice(max(0, peak - 10), peak + 15)
    time = np.arange(len(lead))[around] / FS
    left, right = figure.subplots(1, 2, sharex=True)
    for name, part, after, color in zip("xyz", d, turned, (BLUE, ORANGE, GREEN), strict=True):
        left.plot(time, part[around], color=color, label=name)
        left.plot(time, after[around], color=color, linestyle=":")
    left.set(xlabel="s", ylabel="mV", title=f"Heart vector; dotted: turned by {np.degrees(angle):.0f}°")
    left.legend()
    for size, after, color, name in (
        (l1, np.linalg.norm(turned, ord=1, axis=0), VERMILLION, "L1 norm"),
        (l2, np.linalg.norm(turned, axis=0), INK, "L2 norm"),
    ):
        right.plot(time, size[around], color=color, label=name)
        right.plot(time, after[around], color=color, linestyle=":", linewidth=3)
    right.set(xlabel="s", ylabel="mV", title="Its norms: the turn changes only L1")
    right.legend()
figure

# %% [markdown]
# The same two norms measure the weights of a network. A penalty on the L2 norm makes all weights smaller, and a
# penalty on the L1 norm makes many of them zero (notebook 3).
#
# ## Eigenvectors: the natural axes of the leads
#
# Each sample of time is a point with twelve coordinates, one per lead. The *covariance matrix* C (12 × 12) says which
# leads move together. An *eigenvector* v of C is a direction that C only stretches, by the *eigenvalue* λ:
#
# > C v = λ v
#
# The eigenvector with the largest eigenvalue is the direction in which the points are spread most. These directions
# are the *principal components*.

# %%
samples = ecgs.signals.transpose(0, 2, 1).reshape(-1, 12).astype(np.float64)
pca = PCA().fit(samples)
C = np.cov(samples.T)
v, eigenvalue = pca.components_[0], pca.explained_variance_[0]
print("C v", np.round(C @ v, 4))
print("λ v", np.round(eigenvalue * v, 4))
identity_error = float(np.abs(C @ pca.components_.T - pca.components_.T * pca.explained_variance_).max())
other = decomposition.PCA().fit(samples)
sklearn_error = float(np.abs(other.explained_variance_ - pca.explained_variance_).max())
print(f"largest difference over all 12: {identity_error:.1e} mV²; from scikit-learn: {sklearn_error:.1e} mV²")

# %% [markdown]
# Eight measured voltages cannot spread in twelve directions. So four eigenvalues must be zero, up to the rounding to
# whole microvolts. To find the rank, count the eigenvalues above the rounding.

# %%
deviation_uv = 1000 * np.sqrt(pca.explained_variance_)
rank = int((pca.explained_variance_ > ROUNDING_MV**2).sum())
print("standard deviation along each component, µV:", np.round(deviation_uv, 1))
print("rank:", rank)

# %%
pca_scree_figure(pca.explained_variance_ratio_, pca.components_[:rank], LEADS)

# %% [markdown]
# On the right, each row is an eigenvector. In the first one, many chest leads have the same sign: it is a broad view
# of the heart. In the later ones, neighbouring chest leads have opposite signs: they are differences between
# electrodes.
#
# Small does not mean useless. The figure shows the same four seconds along all eight components. Each panel has its
# own scale, and its range is written above it. The last components are smaller than the first, and still show every
# beat.

# %%
scores = pca.transform(record.T)[:, :rank].T
with use_style():
    figure = new_figure(11, 6.2)
    places = figure.subplots(rank // 2, 2, sharex=True).T.ravel()
    for number, (axes, score) in enumerate(zip(places, scores, strict=False), 1):
        shown = 1000 * (score[:400] - np.median(score[:400]))
        axes.plot(np.arange(400) / FS, shown, color=BLUE, linewidth=0.9)
        axes.set_title(f"component {number}: {np.ptp(shown):,.0f} µV from lowest to highest", fontsize=11)
        axes.set_yticks([])
    for axes in places[rank // 2 - 1 :: rank // 2]:
        axes.set_xlabel("s")
figure

# %% [markdown]
# ### Fewer components: what is lost
#
# Keep k components, and go back to twelve leads. The mean squared error is exactly the sum of the eigenvalues that
# were dropped. So the eigenvalues say in advance what k components cost.

# %%
errors, promised = [], []
for k in range(1, 13):
    few = PCA(k).fit(samples)
    back = few.inverse_transform(few.transform(samples))
    errors.append(float(((back - samples) ** 2).sum(axis=1).mean()))
    promised.append(float(pca.explained_variance_[k:].sum()) * (len(samples) - 1) / len(samples))
dropped_error = float(np.abs(np.array(errors) - promised).max())
print(f"mean squared errors and sums of the dropped eigenvalues differ by {dropped_error:.1e} mV²")

# %%
with use_style():
    figure = new_figure(11, 3.6)
    left, right = figure.subplots(1, 2, width_ratios=[1, 2])
    left.semilogy(range(1, 9), 1000 * np.sqrt(np.array(errors[:8]) / 12), "o-", color=INK)
    left.set(xlabel="components kept, k", ylabel="RMS error (µV)", title="Error of a sample")
    time = np.arange(300) / FS
    backs = {}
    for k in (1, 3, 8):
        few = PCA(k).fit_covariance(pca.mean_, C)
        backs[k] = few.inverse_transform(few.transform(record.T)).T
    # Draw the lead that gains most from the components between 1 and 8, at each of the two steps.
    size = {k: ((record - back) ** 2).mean(axis=1) for k, back in backs.items()}
    gaining = int(np.minimum(size[1] - size[3], size[3] - size[8]).argmax())
    right.plot(time, record[gaining, :300], color=FAINT, linewidth=5, label=f"lead {LEADS[gaining]}")
    for (k, back), color in zip(backs.items(), (ORANGE, BLUE, VERMILLION), strict=True):
        right.plot(time, back[gaining, :300], color=color, linewidth=1.2, label=f"from k = {k}")
    top = record[gaining, :300].max() + 0.35 * np.ptp(record[gaining, :300])
    right.set(xlabel="s", ylabel="mV", title="Twelve leads → k numbers → twelve leads", ylim=(None, top))
    right.legend(loc="upper right", ncols=2, fontsize=9)
figure

# %% [markdown]
# In a run, `pca=leads` makes this projection the first layer of the network, with eight components. The figure
# `pca_scree` of a run is the one above.
#
# ## Attention: a table of dot products
#
# A network with attention first makes short pieces of the signal into vectors, the *tokens*. From each token it
# computes a query q and a key k, with matrix products. The score of two tokens is the dot product q · k. A softmax
# turns each row of scores into weights that add up to 1, and the token becomes the mean of the values v with these
# weights:
#
# > softmax(Q Kᵀ / √d) V
#
# The network in the package was trained on real ECGs. Here are its weights for the first seconds of the record.

# %%
model = load_bundle("ptbxl").bundles[0].model.eval()
attention = next(module for module in model.modules() if isinstance(module, SelfAttention))
window = torch.from_numpy(ecgs.signals[number : number + 1, :, : model.network.window])
seen = {}
hook = attention.register_forward_hook(lambda _, inputs, out: seen.update(tokens=inputs[0], out=out))
with torch.no_grad():
    model(window)
    tokens = seen["tokens"]
    heads, size = attention.heads, tokens.shape[-1] // attention.heads
    projected = tokens @ attention.qkv.weight.T + attention.qkv.bias
    Q, K, V = projected.view(*tokens.shape[:2], 3, heads, size).permute(2, 0, 3, 1, 4)
    weights = (Q @ K.transpose(-1, -2) / size**0.5).softmax(dim=-1)
    mixed = (weights @ V).transpose(1, 2).reshape(tokens.shape)
    attention_error = float((attention.out(mixed) - seen["out"]).abs().max())
hook.remove()
print(f"{tokens.shape[1]} tokens of {tokens.shape[2]} numbers, {heads} heads; rows sum to {weights.sum(-1).mean():.6f}")
print(f"softmax(QKᵀ/√d) V by hand and by the layer differ by {attention_error:.1e}")

# %%
with use_style():
    figure = new_figure(11, 5.4)
    columns = figure.subplots(2, 4, sharex=True, height_ratios=[1, 2.4], sharey="row")
    time = np.arange(window.shape[2]) / FS
    for head in range(4):
        above, below = columns[:, head]
        above.plot(time, window[0, LEADS.index("II")], color=INK, linewidth=0.9)
        above.set_title(f"head {head + 1}", fontsize=12)
        end = time[-1]
        below.imshow(weights[0, head % heads], cmap="viridis", extent=(0, end, end, 0), aspect="auto")
        below.grid(visible=False)
        below.set_xlabel("read (s)")
    columns[0, 0].set_ylabel("II (mV)")
    columns[1, 0].set_ylabel("token (s)")
figure

# %% [markdown]
# Each row of a table is one token. Bright columns are the moments that many tokens read. Different heads read
# different moments.
#
# ## What is where in a run
#
# | here | in a run |
# |---|---|
# | `Y = X @ W.T + b` | `model=mlp` |
# | the sliding dot product | `model=fcn_wang`, `model=xresnet1d18` |
# | the table of attention | `model=conv_attention`, figure `attention` |
# | the components | `pca=leads`, figure `pca_scree`, metric `watch/pca/explained` |
# | the norms | metrics `watch/grad/norm`, `watch/weight/norm` |
#
# Next: [2. Calculus](02_calculus.py), the learning mechanism.
