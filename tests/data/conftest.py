"""Fixtures of several files in this folder."""

import pytest


@pytest.fixture(scope="session")
def tiny_tfds(tmp_path_factory):
    """The data_dir in which every config of the small TFDS data set is prepared."""
    from common.tiny_tfds import prepare_all  # importing TFDS takes seconds

    root = tmp_path_factory.mktemp("tfds")
    prepare_all(root)
    return root
