"""Layer names of Inception v4."""

from jaxcnn.models.inception_v4 import STAGES, InceptionV4
from jaxcnn.weights.names.units import units

MODULES = tuple(name for modules in STAGES for name in modules)
TIMM = (
    *units(
        ("stem_conv", "features.0"),
        ("stem_conv{n}", "features.{n-1}"),
        ("mixed_3a/branch2_conv1", "features.3.conv"),
        ("mixed_5a/branch1_conv1", "features.5.conv"),
        ("mixed_4a/branch{b}_conv{n}", "features.4.branch{b-1}.{n-1}"),
        ("mixed_7a/branch{b}_conv{n}", "features.18.branch{b-1}.{n-1}"),
    ),
    *(
        line
        for index, name in enumerate(MODULES, start=3)
        for line in units(
            (f"{name}/branch1_conv1", f"features.{index}.branch0"),
            (f"{name}/branch4_conv1", f"features.{index}.branch3.1"),  # after the pooling
            *(
                (
                    (f"{name}/branch{{b}}_conv{{n}}", f"features.{index}.branch{{b-1}}_{{n-1}}"),
                    (f"{name}/branch{{b}}_conv{{n}}{{L}}", f"features.{index}.branch{{b-1}}_{{n-1}}{{L}}"),
                )
                if name in STAGES[2]
                else ((f"{name}/branch{{b}}_conv{{n}}", f"features.{index}.branch{{b-1}}.{{n-1}}"),)
            ),
        )
    ),
    ("head", "last_linear"),
)
TABLES = {(InceptionV4, "timm"): TIMM, (InceptionV4, ""): TIMM}
