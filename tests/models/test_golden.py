"""Every golden file: the reference's parameter count, logits and running statistics, on weights rebuilt from a rule.

Many minutes, so all of them only where JAXCNN_ALL_GOLDEN is set; each family's own tests take one or two.
"""

import os

import pytest
from promises import GOLDEN, check_golden

FILES = sorted(str(path.relative_to(GOLDEN)).removesuffix(".json.gz") for path in GOLDEN.glob("*/*.json.gz"))


@pytest.mark.skipif(not os.environ.get("JAXCNN_ALL_GOLDEN"), reason="JAXCNN_ALL_GOLDEN is not set: minutes")
@pytest.mark.parametrize("file", FILES)
def test_network_is_that_of_the_reference(file):
    check_golden(file)
