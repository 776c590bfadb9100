"""What several files of this folder test on."""

import pytest


@pytest.fixture(scope="session")
def tiny_tfds(tmp_path_factory):
    """A data_dir with every config of the small TFDS data set prepared."""
    from common.tiny_tfds import prepare_all  # importing TFDS takes seconds

    root = tmp_path_factory.mktemp("tfds")
    prepare_all(root)
    return root
