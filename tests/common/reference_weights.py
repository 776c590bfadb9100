"""Weights and inputs for comparing a model with its reference implementation.

A golden file contains the outputs of a reference implementation and, for each tensor of its state dict, the name, the shape, a
kind and a scale. The values of the tensors are not stored. They follow from these four by the rule below, so a test can rebuild
the complete state dict, convert it, run the model and compare the logits.

    golden = load("resnet18.json.gz")
    state = state_dict(golden)                        # {name: array}, in the reference's names and layouts
    x = inputs(golden)                                # NHWC float32
    logits = my_model.apply(convert(state), x)        # ~ golden["logits"], within a few golden["err32"]

golden["logits"] were computed in float64; "err32" is the largest error of the reference's own float32 run. "taps" are outputs
of inner modules, [name, shape, mean, mean of absolute values], to find the first difference of a port; "parameters" is the
reference's parameter count. With "mode": "train", batch norm used batch statistics, and "running_stats_after" contains
[name, mean, mean of absolute values] of the updated running statistics.

The rule. sha256(name) gives the 128-bit key of a Philox counter-based generator, whose raw output, 64 bits at a time
and low half first, is a stream of 32-bit words; the top 23 bits k of a word give u = (2k + 1) / 2**24, exact in
float32 and strictly between 0 and 1. The tensor, in C order, is then, in float32 arithmetic,

    weight, bias, mean   (u - 0.5) * sqrt(12) * scale     zero mean, standard deviation = scale
    gain, var            (0.5 + u) * scale                between half and one and a half times scale
    count                0                                an integer (a batch counter)

weight is a convolution or linear kernel, bias any additive parameter, gain any multiplicative vector (a norm's scale,
a layer scale, a weight-standardized convolution's gain), mean and var a batch norm's running statistics.
The scale is rounded to float32 before use; the shape () is a single number.
Only raw generator bits and single IEEE operations are used, so the values are the same everywhere.
"""

import gzip
import hashlib
import json
import math

import numpy as np

_SQRT12 = np.float32(math.sqrt(12.0))


def uniform(key, shape):
    """Returns float32 numbers in (0, 1) that are determined by the string `key`."""
    shape = tuple(shape)
    count = math.prod(shape)
    digest = hashlib.sha256(key.encode("utf-8")).digest()
    philox = np.random.Philox(key=np.frombuffer(digest[:16], "<u8").astype(np.uint64))
    raw = philox.random_raw((count + 1) // 2)  # one 64-bit integer holds two numbers
    words = np.ascontiguousarray(raw, dtype="<u8").view("<u4")[:count]
    u = ((words >> 9) * np.uint32(2) + np.uint32(1)).astype(np.float32)
    u *= np.float32(2.0**-24)
    return u.reshape(shape)


def signed(key, shape):
    """Returns float32 numbers with zero mean and unit variance."""
    u = uniform(key, shape)
    u = u - np.float32(0.5)
    return u * _SQRT12


def tensor(name, shape, kind, scale=1.0):
    """Returns the values of one tensor."""
    if kind in ("weight", "bias", "mean"):
        return np.asarray(signed(name, shape) * np.float32(scale))
    if kind in ("gain", "var"):
        return np.asarray((uniform(name, shape) + np.float32(0.5)) * np.float32(scale))
    if kind == "count":
        return np.zeros(shape, np.int64)
    raise ValueError(f"unknown kind {kind!r} of tensor {name!r}")


def state_dict(golden):
    """Returns all tensors of a golden file: {name: array}, in its order and in the reference's memory layout."""
    return {name: tensor(name, shape, kind, scale) for name, shape, kind, scale in golden["tensors"]}


def fingerprint(state):
    """Returns a hash of all names and values, which equals golden["weights_sha256"] if the rule is implemented correctly."""
    h = hashlib.sha256()
    for name, value in state.items():
        h.update(name.encode("utf-8"))
        h.update(np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes())
    return h.hexdigest()


def images(batch, height, width, channels=3, seed=0, pixels=False):
    """Returns input images, NHWC float32: roughly standardized, or with pixels=True in the range 0…255.

    Each image is a per-channel offset plus blocks of 8×8 pixels plus pixel noise. Noise alone would average out, so that the
    logits would hardly depend on the image.
    """
    key = f"images/{seed}/"
    rows, cols = -(-height // 8), -(-width // 8)
    blocks = signed(key + "blocks", (batch, rows, cols, channels))
    blocks = blocks.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    x = blocks + signed(key + "offset", (batch, 1, 1, channels)) * np.float32(0.7)
    x = x + signed(key + "noise", (batch, height, width, channels)) * np.float32(0.5)
    if pixels:
        x = np.clip(x * np.float32(50) + np.float32(128), np.float32(0), np.float32(255))
    return np.ascontiguousarray(x)


def inputs(golden):
    """Returns the images from which a golden file's outputs were computed."""
    return images(**golden["input"])


def load(path):
    """Reads a golden file (gzipped JSON)."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return json.load(file)


def resnet20():
    """Returns a random state dict with the names of akamaster's pytorch_resnet_cifar10."""
    random = np.random.default_rng(0)
    state = {"conv1.weight": random.normal(size=(16, 3, 3, 3)), "linear.weight": random.normal(size=(10, 64))}
    state["linear.bias"] = random.normal(size=10)
    norms = {"bn1": 16}
    for stage, filters in enumerate((16, 32, 64), start=1):
        for block in range(3):
            inputs = filters // 2 if stage > 1 and block == 0 else filters
            layer = f"layer{stage}.{block}."
            state[layer + "conv1.weight"] = random.normal(size=(filters, inputs, 3, 3))
            state[layer + "conv2.weight"] = random.normal(size=(filters, filters, 3, 3))
            norms |= {layer + "bn1": filters, layer + "bn2": filters}
    for norm, filters in norms.items():
        state |= {f"{norm}.{leaf}": random.normal(size=filters) for leaf in ("weight", "bias", "running_mean", "running_var")}
    return state
