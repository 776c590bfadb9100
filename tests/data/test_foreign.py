import numpy as np
from PIL import Image

from jaxcnn.data.foreign import same_data


def image(path, form="PNG", side=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(path, form)


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
