"""What several families share."""

from jaxcnn.layers.conv import conv, he_normal
from jaxcnn.layers.drop import StochasticDepth
from jaxcnn.layers.linear import linear, uniform
from jaxcnn.layers.norm import BatchNorm, LayerNorm
from jaxcnn.layers.pool import adaptive_average_pool, average_pool, global_average_pool, max_pool, sum_pool
from jaxcnn.layers.shuffle import channel_shuffle
from jaxcnn.layers.squeeze_excite import SqueezeExcite

__all__ = [
    "BatchNorm",
    "LayerNorm",
    "SqueezeExcite",
    "StochasticDepth",
    "adaptive_average_pool",
    "average_pool",
    "channel_shuffle",
    "conv",
    "global_average_pool",
    "he_normal",
    "linear",
    "max_pool",
    "sum_pool",
    "uniform",
]
