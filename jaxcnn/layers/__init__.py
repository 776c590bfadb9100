"""Layers and functions that several families of networks share."""

from jaxcnn.layers.activation import Activation, identity, recomputed, relu
from jaxcnn.layers.batch_norm import BatchNorm
from jaxcnn.layers.branches import AVERAGE_POOL, Branches, ConvSpec, PoolSpec, branched, conv_numbers, sequence
from jaxcnn.layers.conv import conv, he_normal
from jaxcnn.layers.drop import StochasticDepth
from jaxcnn.layers.linear import linear, uniform
from jaxcnn.layers.norm import GroupNorm, LayerNorm
from jaxcnn.layers.onednn import convolve, cpu_convolution, random_key
from jaxcnn.layers.pool import (
    adaptive_average_pool,
    average_pool,
    blur_pool,
    global_average_pool,
    global_max_pool,
    largest,
    max_pool,
    sum_pool,
)
from jaxcnn.layers.scanned import in_sequence
from jaxcnn.layers.shuffle import channel_shuffle
from jaxcnn.layers.squeeze_excite import SqueezeExcite
from jaxcnn.layers.standardized_conv import ScaledStandardizedConv, StandardizedConv
from jaxcnn.layers.transposed_conv import TransposedConv

__all__ = [
    "AVERAGE_POOL",
    "Activation",
    "BatchNorm",
    "Branches",
    "ConvSpec",
    "GroupNorm",
    "LayerNorm",
    "PoolSpec",
    "ScaledStandardizedConv",
    "SqueezeExcite",
    "StandardizedConv",
    "StochasticDepth",
    "TransposedConv",
    "adaptive_average_pool",
    "average_pool",
    "blur_pool",
    "branched",
    "channel_shuffle",
    "conv",
    "conv_numbers",
    "convolve",
    "cpu_convolution",
    "global_average_pool",
    "global_max_pool",
    "he_normal",
    "identity",
    "in_sequence",
    "largest",
    "linear",
    "max_pool",
    "random_key",
    "recomputed",
    "relu",
    "sequence",
    "sum_pool",
    "uniform",
]
