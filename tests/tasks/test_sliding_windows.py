"""Segmentation in windows: compared with a loop in NumPy that calls the network for each window."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxcnn.tasks.sliding_windows import logits_in_windows, window_starts


def network(images):
    """Logits of 3 classes that depend on the pixel, on all pixels of the window, and on the position in the window."""
    position = jnp.broadcast_to(jnp.linspace(0, 2, images.shape[2])[None, None], images.shape[:3])
    mean = jnp.broadcast_to(images.mean(axis=(1, 2, 3))[:, None, None], images.shape[:3])
    return jnp.stack([images[..., 0], 3 * mean, position], axis=-1)


def probabilities_by_loop(images, window, stride):
    """The mean probabilities, with the grid of mmsegmentation's slide mode: the number of steps, then shifted to the border."""
    batch_size, height, width, _ = images.shape
    total, counts = np.zeros((batch_size, height, width, 3)), np.zeros((height, width))
    for row in range(max(height - window[0] + stride[0] - 1, 0) // stride[0] + 1):
        for column in range(max(width - window[1] + stride[1] - 1, 0) // stride[1] + 1):
            bottom, right = min(row * stride[0] + window[0], height), min(column * stride[1] + window[1], width)
            top, left = max(bottom - window[0], 0), max(right - window[1], 0)
            exps = np.exp(np.asarray(network(images[:, top:bottom, left:right]), np.float64))
            total[:, top:bottom, left:right] += exps / exps.sum(axis=-1, keepdims=True)
            counts[top:bottom, left:right] += 1
    assert counts.min() >= 1
    return total / counts[..., None]


@pytest.mark.parametrize(
    ("window", "stride"),
    [
        ((6, 8), (4, 5)),  # the last windows overlap more than the others
        ((5, 6), (5, 5)),  # the stride divides the side
        ((12, 4), (8, 1)),  # one row of windows
        ((20, 7), (13, 7)),  # higher than the image
    ],
)
def test_probabilities_are_means_over_the_windows_of_each_pixel(window, stride):
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 12, 16, 3)), jnp.float32)
    found = jax.nn.softmax(logits_in_windows(network, images, window, stride))
    np.testing.assert_allclose(found, probabilities_by_loop(images, window, stride), rtol=1e-5)


@pytest.mark.parametrize("window", [(12, 16), (13, 17)])
def test_one_window_gives_the_networks_logits(window):
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 12, 16, 3)), jnp.float32)
    np.testing.assert_array_equal(logits_in_windows(network, images, window, (8, 10)), network(images))


@pytest.mark.parametrize(
    ("length", "window", "stride", "expected"),
    [(10, 4, 3, [0, 3, 6]), (11, 4, 3, [0, 3, 6, 7]), (10, 4, 4, [0, 4, 6]), (10, 10, 7, [0]), (10, 9, 9, [0, 1])],
)
def test_last_window_ends_at_the_border(length, window, stride, expected):
    assert window_starts(length, window, stride) == expected


def test_tiny_probabilities_have_finite_logarithms():
    images = jnp.zeros((1, 4, 4, 1)).at[0, :, 0].set(-300.0)  # exp(-300) is 0 in float32
    found = logits_in_windows(lambda images: jnp.concatenate([images, -images], axis=-1), images, (3, 3), (1, 1))
    np.testing.assert_allclose(found[0, 2], [[-600, 0], *[[np.log(0.5)] * 2] * 3], atol=1e-4)


def test_program_calls_the_network_once_and_devices_do_not_communicate():
    by_image = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
    images = jax.device_put(jnp.zeros((8, 12, 16, 3)), by_image)
    calls = []

    def counted(images):
        calls.append(images.shape)
        return network(images)

    program = jax.jit(lambda images: logits_in_windows(counted, images, (4, 4), (2, 2))).lower(images).compile()
    assert set(calls) == {(8, 4, 4, 3)}
    assert len(calls) <= 2, "once for the shape of the logits, once in the loop"
    assert not re.search("all-reduce|all-gather|all-to-all|collective-permute", program.as_text())
    assert program(images).sharding.is_equivalent_to(by_image, 4)
