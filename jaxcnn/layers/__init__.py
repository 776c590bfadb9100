"""What several families share."""

from jaxcnn.layers.branches import AVERAGE_POOL, Branches, Conv, Pool, conv_numbers, sequence
from jaxcnn.layers.conv import conv, he_normal
from jaxcnn.layers.drop import StochasticDepth
from jaxcnn.layers.linear import linear, uniform
from jaxcnn.layers.norm import BatchNorm
from jaxcnn.layers.pool import adaptive_average_pool, average_pool, global_average_pool, max_pool, sum_pool
from jaxcnn.layers.squeeze_excite import SqueezeExcite

__all__ = [
    "AVERAGE_POOL",
    "BatchNorm",
    "Branches",
    "Conv",
    "Pool",
    "SqueezeExcite",
    "StochasticDepth",
    "adaptive_average_pool",
    "average_pool",
    "conv",
    "conv_numbers",
    "global_average_pool",
    "he_normal",
    "linear",
    "max_pool",
    "sequence",
    "sum_pool",
    "uniform",
]
