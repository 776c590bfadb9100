import numpy as np
import pytest

from jaxcnn.data.external import external_split
from jaxcnn.errors import UserError


def test_several_labels_are_matched_by_name(tmp_path):
    images, classes = np.zeros((3, 4, 4, 1), np.uint8), ("ant", "bee", "cat")
    rows = np.array([[1, 0, 1], [0, 0, 0], [0, 0, 1]])  # of "cat", "dog" and "ant"
    path = tmp_path / "arrays.npz"
    np.savez(path, x=images, y=rows, class_names=["cat", "dog", "ant"])
    source = external_split("arrays", path, "test", classes, 3, True)
    assert source.labels.tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert source.image_shape == (4, 4, 3)
    (tmp_path / "table.csv").write_text("path,label\n0.png,cat|ant\n1.png,\n2.png,ant\n")
    assert external_split("csv", tmp_path / "table.csv", "test", classes, 3, True).labels.tolist() == source.labels.tolist()
    for changes, message in (
        ({"y": rows[:, ::-1]}, 'y: the network has no class "dog"'),
        ({"y": rows[:, :1] * [2, 0, 0]}, r"labels of shape \(N, K\) must be zeros and ones"),
        ({"y": 2 * rows[:, 0]}, "one label per image, unlike the network's training data"),
        ({"x": np.zeros((3, 4, 4, 2), np.uint8)}, "its images have 2 channels, but the network expects 3"),
    ):
        names = ["cat", "ant", "dog"] if "dog" in message else ["cat", "dog", "ant"]
        np.savez(path, **{"x": images, "y": rows, "class_names": names} | changes)
        with pytest.raises(UserError, match=message):
            external_split("arrays", path, "test", classes, 3, True)
    with pytest.raises(UserError, match=r"several labels per image, unlike"):
        external_split("csv", tmp_path / "table.csv", "test", classes, 3, False)
