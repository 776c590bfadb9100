import os

import numpy as np
import pytest
from PIL import Image

from jaxcnn.data.foreign import foreign, pictures, same_data
from jaxcnn.errors import UserError


def image(path, form="PNG", side=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(path, form)


def test_pictures_in_a_folder_are_told_from_other_files_by_suffix_or_content(tmp_path):
    image(tmp_path / "b.JPG", "JPEG")
    image(tmp_path / "a" / "deep" / "c.jfif", "JPEG")
    image(tmp_path / "no_suffix")
    (tmp_path / "damaged.png").write_text("its suffix says that it was one")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    for hidden in (".hidden.png", ".folder/x.png", "a/@eaDir/x.png", "__MACOSX/x.png"):
        image(tmp_path / hidden)
    for other in ("notes.txt", "a/Thumbs.db", "table.csv"):
        (tmp_path / other).write_text("text")
    found, others = ([os.path.relpath(path, tmp_path) for path in paths] for paths in pictures(tmp_path))
    assert found == ["a/deep/c.jfif", "b.JPG", "damaged.png", "gone.png", "no_suffix"]
    assert others == ["a/Thumbs.db", "notes.txt", "table.csv"]
    (tmp_path / "a" / "loop").symlink_to("..")
    with pytest.raises(UserError, match=r"a/loop: a link to a folder that it lies in$"):
        pictures(tmp_path)


def test_same_names_of_files_are_other_data_where_their_sizes_differ(tmp_path):
    for root, side in (("one", 4), ("same", 4), ("other", 40)):
        for name in ("a", "b"):
            image(tmp_path / root / name / "0.png", side=side)
        (tmp_path / root / "table.csv").write_text("path,label\na/0.png,a\nb/0.png,b\n")
    for name, end in (("folder", ""), ("csv", "table.csv")):
        one, same, other = (tmp_path / root / end for root in ("one", "same", "other"))
        assert same_data(name, one, same)
        assert not same_data(name, one, other)
    image(tmp_path / "same" / "b" / "1.png")
    assert not same_data("folder", tmp_path / "one", tmp_path / "same")
    assert not same_data("folder", tmp_path / "one", tmp_path / "one" / "table.csv")


def test_several_labels_are_matched_by_name(tmp_path):
    images, classes = np.zeros((3, 4, 4, 1), np.uint8), ("ant", "bee", "cat")
    rows = np.array([[1, 0, 1], [0, 0, 0], [0, 0, 1]])  # of "cat", "dog" and "ant"
    path = tmp_path / "arrays.npz"
    np.savez(path, x=images, y=rows, class_names=["cat", "dog", "ant"])
    source = foreign("arrays", path, "test", classes, 3, True)
    assert source.labels.tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert source.image_shape == (4, 4, 3)
    (tmp_path / "table.csv").write_text("path,label\n0.png,cat|ant\n1.png,\n2.png,ant\n")
    assert foreign("csv", tmp_path / "table.csv", "test", classes, 3, True).labels.tolist() == source.labels.tolist()
    for changes, message in (
        ({"y": rows[:, ::-1]}, 'y: the network has no class "dog"'),
        ({"y": rows[:, :1] * [2, 0, 0]}, "labels should be zeros and ones"),
        ({"y": 2 * rows[:, 0]}, "one label per image, unlike the network's training data"),
        ({"x": np.zeros((3, 4, 4, 2), np.uint8)}, "its images have 2 channels, but the network takes 3"),
    ):
        names = ["cat", "ant", "dog"] if "dog" in message else ["cat", "dog", "ant"]
        np.savez(path, **{"x": images, "y": rows, "class_names": names} | changes)
        with pytest.raises(UserError, match=message):
            foreign("arrays", path, "test", classes, 3, True)
    with pytest.raises(UserError, match=r"several labels per image, unlike"):
        foreign("csv", tmp_path / "table.csv", "test", classes, 3, False)
