"""Layer names of torchvision's segmentation networks: those of the encoder, with a prefix, and those of the heads."""

from jaxcnn.models.mobile_network import MobileNetwork
from jaxcnn.models.registry import find
from jaxcnn.models.segmentation.deeplab_v3 import DeepLabV3
from jaxcnn.models.segmentation.fcn import FCN
from jaxcnn.models.segmentation.lraspp import LRASPP
from jaxcnn.weights.names import mobile, resnet

_AUXILIARY = (("aux_conv", "aux_classifier.0"), ("aux_norm", "aux_classifier.1"), ("aux_logits", "aux_classifier.4"))
_FCN = (("head_conv", "classifier.0"), ("head_norm", "classifier.1"), ("head_logits", "classifier.4"))
_DEEPLAB = (
    ("pyramid5_conv", "classifier.0.convs.4.1"),  # 4.0 is the mean
    ("pyramid5_norm", "classifier.0.convs.4.2"),
    ("pyramid{b}_conv", "classifier.0.convs.{b-1}.0"),
    ("pyramid{b}_norm", "classifier.0.convs.{b-1}.1"),
    ("project_conv", "classifier.0.project.0"),
    ("project_norm", "classifier.0.project.1"),
    ("head_conv", "classifier.1"),
    ("head_norm", "classifier.2"),
    ("head_logits", "classifier.4"),
)
_LRASPP = (
    ("head_conv", "classifier.cbr.0"),
    ("head_norm", "classifier.cbr.1"),
    ("scale_conv", "classifier.scale.1"),
    ("low_logits", "classifier.low_classifier"),
    ("high_logits", "classifier.high_classifier"),
)


def _with_encoder(head):
    def table(fields):
        module, encoder_fields, *_ = find(fields["encoder"])
        lines = (mobile if issubclass(module, MobileNetwork) else resnet).TABLES[module, "torchvision"]
        if callable(lines):
            lines = lines({"name": fields["encoder"], **encoder_fields})
        encoder = ((f"backbone/{ours}", f"backbone.{theirs.removeprefix('features.')}", *ones) for ours, theirs, *ones in lines)
        return (*encoder, *head, *_AUXILIARY)

    return table


TABLES = {
    (FCN, "torchvision"): _with_encoder(_FCN),
    (DeepLabV3, "torchvision"): _with_encoder(_DEEPLAB),
    (LRASPP, "torchvision"): _with_encoder(_LRASPP),
}
