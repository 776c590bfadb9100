"""The benchmark's networks in PyTorch: torchvision's and timm's, and LeNet-5 and the CIFAR ResNets, which neither has."""

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

# LeNet-5, table I: the maps of S2 to which each map of C3 is connected.
C3_INPUTS = (
    *[tuple((i + k) % 6 for k in range(3)) for i in range(6)],
    *[tuple((i + k) % 6 for k in range(4)) for i in range(6)],
    *[tuple((i + k) % 6 for k in (0, 1, 3, 4)) for i in range(3)],
    tuple(range(6)),
)

CIFAR_RESNETS = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18, "resnet1202": 200}


def create(name: str, classes: int, arguments: dict[str, Any]) -> nn.Module:
    """Returns the same network as jaxcnn.create_model(name, num_classes=classes, **arguments)."""
    if name == "lenet5":
        return LeNet5(classes)
    if name in CIFAR_RESNETS:
        return CifarResNet(CIFAR_RESNETS[name], classes)
    torchvision = _torchvision()  # timm needs it too
    if name.startswith("timm/"):
        import timm

        return timm.create_model(name.removeprefix("timm/"), num_classes=classes)
    name = name.removeprefix("torchvision/")
    if name in torchvision.list_models(torchvision.segmentation):
        network = torchvision.get_model(name, weights=None, weights_backbone=None, num_classes=classes, **arguments)
        return Segmentation(network)
    model = torchvision.get_model(name, weights=None, num_classes=classes)
    if arguments.get("stem") == "small":
        model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return model


def _torchvision() -> Any:
    """Returns torchvision.models. If its extension does not fit this build of PyTorch, declares the extension's operations."""
    spec = importlib.util.find_spec("torchvision")
    assert spec is not None
    try:
        torch.ops.load_library(str(Path(str(spec.origin)).parent / "_C.so"))
    except OSError:
        for operation in ("nms", "qnms"):
            _DECLARED.define(f"{operation}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import models

    return models


_DECLARED = torch.library.Library("torchvision", "FRAGMENT")  # its operations exist as long as this object


class Segmentation(nn.Module):
    """A segmentation network of torchvision, without the dictionary around its logits."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, classes, H, W)."""
        return self.network(x)["out"]


class Subsampling(nn.Module):
    """The sum of each 2×2 window, times a coefficient, plus a bias, one of each per map."""

    def __init__(self, maps: int):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(maps, 1, 1))
        self.bias = nn.Parameter(torch.zeros(maps, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, H/2, W/2)."""
        return functional.avg_pool2d(x, 2, divisor_override=1) * self.scale + self.bias


class C3(nn.Module):
    """A 5×5 convolution in which each map is connected only to some input maps."""

    def __init__(self) -> None:
        super().__init__()
        pairs = [(target, source) for target, sources in enumerate(C3_INPUTS) for source in sources]
        self.targets, self.sources = zip(*pairs, strict=True)
        self.kernel = nn.Parameter(torch.randn(len(pairs), 5, 5) / 10)
        self.bias = nn.Parameter(torch.zeros(len(C3_INPUTS)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 6, H, W) -> (N, 16, H-4, W-4)."""
        kernel = self.kernel.new_zeros(len(C3_INPUTS), 6, 5, 5)
        kernel[self.targets, self.sources] = self.kernel
        return functional.conv2d(x, kernel, self.bias)


class LeNet5(nn.Module):
    """The network of 1998, equal to jaxcnn's, for images of 28×28 pixels, zero-padded to 32×32."""

    def __init__(self, classes: int):
        super().__init__()
        self.layers = nn.ModuleList([
            nn.Conv2d(1, 6, 5, padding=2), Subsampling(6), C3(), Subsampling(16),
            nn.Sequential(nn.Conv2d(16, 120, 5), nn.Flatten()), nn.Linear(120, 84),
        ])  # fmt: skip
        self.head = nn.Linear(84, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1, 28, 28) -> (N, classes)."""
        for layer in self.layers:
            x = 1.7159 * torch.tanh(2 / 3 * layer(x))
        return self.head(x)


class Block(nn.Module):
    """Two 3×3 convolutions and the shortcut around them, which has no parameters."""

    def __init__(self, inputs: int, filters: int, stride: int):
        super().__init__()
        self.new, self.stride = filters - inputs, stride
        self.conv1 = nn.Conv2d(inputs, filters, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(filters), nn.BatchNorm2d(filters)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, filters, H/stride, W/stride)."""
        y = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        if self.new:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.new // 2, self.new - self.new // 2))
        return functional.relu(y + x, inplace=True)


class CifarResNet(nn.Module):
    """He et al. 2016, section 4.2, option A: 6·depth + 2 layers."""

    def __init__(self, depth: int, classes: int):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        blocks, inputs = [], 16
        for stage, filters in enumerate((16, 32, 64)):
            for index in range(depth):
                blocks.append(Block(inputs, filters, 2 if stage and not index else 1))
                inputs = filters
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, 32, 32) -> (N, classes)."""
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))
