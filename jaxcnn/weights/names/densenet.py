"""Layer names of DenseNet."""

from jaxcnn.models.densenet import DenseNet

TABLES = {
    (DenseNet, "torchvision"): (
        ("stem_conv", "features.conv0"),
        ("stem_norm", "features.norm0"),
        ("stage{s}_layer{n}/{L}", "features.denseblock{s}.denselayer{n}.{L}"),
        ("transition{s}_{L}", "features.transition{s}.{L}"),
        ("final_norm", "features.norm5"),
        ("head", "classifier"),
    ),
    (DenseNet, "keras"): (
        ("stem_conv", "conv1_conv"),
        ("stem_norm", "conv1_bn"),
        ("stage{s}_layer{n}/norm{i}", "conv{s+1}_block{n}_{i-1}_bn"),
        ("stage{s}_layer{n}/conv{i}", "conv{s+1}_block{n}_{i}_conv"),
        ("transition{s}_norm", "pool{s+1}_bn"),
        ("transition{s}_conv", "pool{s+1}_conv"),
        ("final_norm", "bn"),
        ("head", "predictions"),
    ),
}
