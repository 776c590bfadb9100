"""What several families share."""

from jaxcnn.layers.conv import conv, he_normal
from jaxcnn.layers.linear import linear, uniform
from jaxcnn.layers.norm import BatchNorm
from jaxcnn.layers.pool import global_average_pool, max_pool, sum_pool

__all__ = ["BatchNorm", "conv", "global_average_pool", "he_normal", "linear", "max_pool", "sum_pool", "uniform"]
