import numpy as np
import pytest

from jaxcnn.data import DataSettings, load
from jaxcnn.errors import UserError

RNG = np.random.default_rng(0)


def random_images(count, *shape):
    return RNG.integers(0, 256, (count, *shape), dtype=np.uint8)


def classes(count, many=3):
    return (np.arange(count) % many).astype(np.uint8)


GRAY = {
    "train_images": random_images(12, 6, 5),
    "train_labels": classes(12)[:, None],
    "val_images": random_images(4, 6, 5),
    "val_labels": classes(4)[:, None],
    "test_images": random_images(5, 6, 5),
    "test_labels": classes(5)[:, None],
}


def several_labels(count, many=4):
    return RNG.integers(0, 2, (count, many))


@pytest.fixture
def arrays(tmp_path):
    """Writes arrays to an .npz and loads it with data.name=arrays."""

    def load_arrays(values, validation=0.25):
        path = tmp_path / "images.npz"
        if isinstance(values, bytes):
            path.write_bytes(values)
        else:
            np.savez(path, **values)
        return load(DataSettings("arrays", str(path), validation), seed=0)

    return load_arrays


def images_of(source):
    return np.stack([source.read(i) for i in range(len(source))])


def test_layout_of_medmnist_is_read_with_its_own_validation_part(arrays):
    found = arrays(GRAY)
    for part, source in (("train", found.train), ("val", found.validation), ("test", found.test)):
        np.testing.assert_array_equal(images_of(source), GRAY[f"{part}_images"][..., None])
        np.testing.assert_array_equal(source.labels, GRAY[f"{part}_labels"][:, 0])
        assert source.labels.dtype == np.int32
        assert source.image_shape == (6, 5, 1)
    assert found.class_names == ("0", "1", "2")


def test_validation_is_cut_off_where_there_is_none(arrays):
    found = arrays({name: array for name, array in GRAY.items() if "val" not in name})
    assert (len(found.train), len(found.validation)) == (9, 3)
    assert sorted(found.validation.labels) == [0, 1, 2]
    rows = np.concatenate([images_of(found.train), images_of(found.validation)]).reshape(12, -1)
    assert sorted(map(tuple, rows)) == sorted(map(tuple, GRAY["train_images"].reshape(12, -1)))


def test_color_images_and_class_names_are_kept(arrays):
    color = {
        "train_images": random_images(6, 4, 4, 3),
        "train_labels": classes(6).astype(np.int64),
        "test_images": random_images(2, 4, 4, 3),
        "test_labels": classes(2),
        "class_names": np.array(["ant", "bee", "cat", "dog"]),  # one that no example has
    }
    found = arrays(color, validation=0.0)
    np.testing.assert_array_equal(images_of(found.train), color["train_images"])
    assert found.class_names == ("ant", "bee", "cat", "dog")
    assert found.validation is None


def test_several_labels_per_image_stay_a_matrix(arrays):
    labels = {"train_labels": several_labels(12), "val_labels": several_labels(4), "test_labels": several_labels(5)}
    found = arrays(GRAY | labels)
    np.testing.assert_array_equal(found.train.labels, labels["train_labels"])
    assert found.class_names == ("0", "1", "2", "3")


def test_validation_is_cut_off_several_labels_too(arrays):
    values = {name: array for name, array in GRAY.items() if "val" not in name}
    found = arrays(values | {"train_labels": several_labels(12), "test_labels": several_labels(5)})
    assert found.train.labels.shape == (9, 4)
    assert found.validation.labels.shape == (3, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_images": GRAY["train_images"] / 255},
            r"expected uint8 .*, got float64\(12, 6, 5\); .*\(255 \* images\)\.round",
        ),
        ({"train_images": GRAY["train_images"] * 1.0}, r"expected uint8 .*, got float64\(12, 6, 5\); .* images\.round\(\)"),
        ({"train_images": GRAY["train_images"] - 200.0}, r"expected uint8 .*, got float64\(12, 6, 5\)$"),
        ({"train_images": random_images(12, 3, 8, 8)}, r"train_images: .*got \(12, 3, 8, 8\), which looks like \(N, C, H, W\)"),
        ({"train_labels": np.eye(3)[classes(12)]}, r"got float64\(12, 3\); convert one-hot rows with labels.argmax\(axis=1\)"),
        ({"train_images": GRAY["train_images"][0, 0]}, r"train_images: expected uint8 \(N, H, W.*, got uint8\(5,\)"),
        ({"test_images": random_images(0, 6, 5), "test_labels": classes(0)}, r"test_images: .*got uint8\(0, 6, 5\)"),
        (
            {"train_labels": classes(12) + 0.5},
            r"train_labels: expected integers or names .*\(12,\), got float64\(12,\)$",
        ),
        ({"train_labels": classes(12) * 1.0}, r"train_labels: .*got float64\(12,\); convert them with labels.astype\(int\)"),
        ({"train_labels": np.array([["a", "b"]] * 12)}, r"train_labels: expected integers or names .*, got <U1\(12, 2\)"),
        ({"train_labels": np.array(["a", "b"] * 6)}, r"the splits differ in the shape .*\(12, 6, 5, 1\) with <U1\(12,\), "),
        ({"train_labels": classes(11)}, r"train_labels: expected integers or names of shape \(12,\), got uint8\(11,\)"),
        ({"train_labels": np.array(1)}, r"train_labels: expected integers .*, got int64\(\)"),
        ({"train_labels": np.zeros((12, 2, 2), int)}, r"expected integers .*, got int64\(12, 2, 2\)"),
        ({"val_images": random_images(4, 6, 6)}, "the splits differ in the shape or dtype of images or labels"),
        ({"test_labels": several_labels(5)}, "the splits differ in the shape"),
        ({"class_names": np.array(["a", "b"])}, "arrays, train: example 2 has the label 2, outside 0 to 1, for 2 classes"),
        ({"val_labels": np.array([0, -1, 0, 0])}, "val_labels: example 1 has the label -1, which no training example"),
        ({"test_labels": np.array([0, 1, 2, 3, 0])}, "test_labels: example 3 has the label 3, which no training example has"),
        ({"train_labels": np.ones(12, int)}, "train_labels: all training examples have the label 1; at least two classes"),
        ({"class_names": np.array(["a", "b", "a"])}, "class_names contains a name twice: 'a', 'b', 'a'"),
        ({"class_names": np.array([["a", "b", "c"]])}, r"class_names: expected names of shape \(K,\), got <U1\(1, 3\)"),
        ({"class_names": np.array(["a", " ", "b"])}, "class_names has an empty name at index 1"),
        ({"class_names": np.array([b"a", b"\xff", b"b"])}, "class_names contains bytes that are not UTF-8"),
        (
            {"x_train": GRAY["train_images"]},
            "'train_images' and 'x_train' are two arrays for the images of the split train; keep one",
        ),
        (
            {"holdout_images": GRAY["test_images"], "holdout_labels": classes(5)},
            "split train, val or test, got 'holdout'",
        ),
    ],
)
def test_array_that_does_not_fit_is_refused_by_name(arrays, changes, message):
    with pytest.raises(UserError, match=message) as mistake:
        arrays(GRAY | changes)
    assert "\n" not in str(mistake.value)


def renamed(names, values=GRAY):
    """Returns the arrays of `names` under their new names."""
    return {name: values[old] for old, name in names.items()}


KERAS = {"train_images": "x_train", "train_labels": "y_train", "test_images": "x_test", "test_labels": "y_test"}


@pytest.mark.parametrize("case", [str.lower, str.capitalize])
def test_names_of_keras_are_accepted(arrays, case):
    found = arrays(renamed({old: case(name) for old, name in KERAS.items()}), validation=0.0)
    for part, source in found.parts().items():
        np.testing.assert_array_equal(images_of(source), GRAY[f"{part}_images"][..., None])
        np.testing.assert_array_equal(source.labels, GRAY[f"{part}_labels"][:, 0])
    assert list(found.parts()) == ["train", "test"]


@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels"), ("X", "Y")])
def test_arrays_without_a_part_are_cut_into_parts(arrays, names):
    found = arrays(dict(zip(names, (GRAY["train_images"], GRAY["train_labels"]), strict=True)))
    assert [len(source) for source in found.parts().values()] == [6, 3, 3]
    rows = np.concatenate([images_of(source) for source in found.parts().values()]).reshape(12, -1)
    assert sorted(map(tuple, rows)) == sorted(map(tuple, GRAY["train_images"].reshape(12, -1)))


def test_missing_array_of_keras_is_named_in_its_way(arrays):
    values = renamed(KERAS)
    del values["y_test"]
    with pytest.raises(UserError, match=r"no array 'y_test' .*the file contains x_train, y_train, x_test$"):
        arrays(values)
    with pytest.raises(UserError, match=r"no array 'Y_test'"):
        arrays({name.capitalize(): array for name, array in values.items()})
    del values["x_test"]
    with pytest.raises(UserError, match=r"no array 'test_images'; the file contains x_train, y_train$"):
        arrays(values)


NAMES = np.array(["zebra", "ant", "caf\u00e9"])


@pytest.mark.parametrize("form", [np.asarray, lambda names: np.char.encode(names, "utf-8"), lambda names: names[:, None]])
def test_labels_may_be_names_of_classes(arrays, form):
    """Names are str or bytes, (N,) or (N, 1), with surrounding spaces, in either Unicode form."""
    train, test = NAMES[GRAY["train_labels"][:, 0]], np.array(["  ant", "cafe\u0301", "zebra ", "ant", "ant"])
    values = {name: array for name, array in GRAY.items() if "val" not in name}
    found = arrays(values | {"train_labels": form(train), "test_labels": form(test)}, validation=0.0)
    assert found.class_names == ("ant", "caf\u00e9", "zebra")
    assert [found.class_names[i] for i in found.train.labels] == train.tolist()
    assert [found.class_names[i] for i in found.test.labels] == ["ant", "caf\u00e9", "zebra", "ant", "ant"]
    assert found.train.labels.dtype == np.int32
    values |= {"train_labels": form(train), "test_labels": form(test), "class_names": NAMES}  # in the order of class_names
    assert arrays(values).test.labels.tolist() == [1, 2, 0, 1, 1]
    with pytest.raises(UserError, match=r"train_labels: class_names has no 'zebra' \(did you mean \"zebr\"\?\)"):
        arrays(values | {"class_names": np.array(["ant", "caf\u00e9", "zebr"])})


def test_names_of_classes_may_be_bytes(arrays):
    assert arrays(GRAY | {"class_names": np.array([b"a", b"b", b"c"])}).class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("numbers", "said"), [((1, 2, 3), "1, 2, 3"), ((0, 100, 200), "0, 100, 200"), ((-1, 0, 1), "-1, 0, 1")]
)
def test_numbers_of_classes_with_gaps_are_refused_unless_they_have_names(arrays, numbers, said):
    values = GRAY | {name: np.array(numbers)[array[:, 0]] for name, array in GRAY.items() if "labels" in name}
    with pytest.raises(UserError, match=rf"train_labels: expected the classes 0 to 2, got {said}; .*labels.astype\(str\)"):
        arrays(values)
    as_names = values | {name: array.astype(str) for name, array in values.items() if "labels" in name}
    assert arrays(as_names).class_names == tuple(map(str, numbers))
    if min(numbers) >= 0:
        named = arrays(values | {"class_names": np.arange(max(numbers) + 1).astype(str)})
        assert [named.class_names[i] for i in named.test.labels] == as_names["test_labels"].tolist()


def test_several_labels_that_are_one_or_that_training_lacks_are_refused(arrays):
    one_hot = {name: np.eye(3, dtype=np.uint8)[array[:, 0]] for name, array in GRAY.items() if "labels" in name}
    with pytest.raises(UserError, match=r"train_labels: every row has exactly one 1; .* labels.argmax\(axis=1\)"):
        arrays(GRAY | one_hot)
    one_hot["train_labels"][0] = (1, 1, 0)  # so they are several labels
    one_hot["train_labels"][:, 2] = 0
    with pytest.raises(UserError, match=r"val_labels: column 2 \(from 0\) has ones, but not in the training set"):
        arrays(GRAY | one_hot)


def test_several_labels_have_to_be_zeros_and_ones_and_as_many_as_class_names(arrays):
    labels = {"train_labels": several_labels(12), "val_labels": several_labels(4), "test_labels": several_labels(5)}
    labels["test_labels"][3, 1] = 2
    with pytest.raises(UserError, match=r"arrays, test: example 3 has the label .*outside zeros and ones"):
        arrays(GRAY | labels)
    with pytest.raises(UserError, match="arrays, train: 4 labels per image, but 3 class names"):
        arrays(GRAY | labels | {"class_names": np.array(["a", "b", "c"])})


def test_missing_array_is_named_with_a_near_one(arrays):
    values = dict(GRAY)
    values["test_image"] = values.pop("test_images")
    with pytest.raises(UserError, match=r"no array 'test_images' \(did you mean \"test_image\".*contains train_images, "):
        arrays(values)
    with pytest.raises(UserError, match="no array 'train_images'; the file contains no arrays"):
        arrays({})


def npz_bytes(tmp_path, values):
    np.savez_compressed(tmp_path / "written.npz", **values)
    return (tmp_path / "written.npz").read_bytes()


@pytest.mark.parametrize("damage", ["empty", "no zip", "truncated", "a byte", "a single array"])
def test_damaged_file_is_refused_by_name(arrays, tmp_path, damage):
    intact = npz_bytes(tmp_path, GRAY)
    np.save(tmp_path / "single.npy", GRAY["train_images"])
    content = {
        "empty": b"",
        "no zip": b"these are no arrays",
        "truncated": intact[: len(intact) // 2],
        "a byte": intact[:200] + bytes([intact[200] ^ 255]) + intact[201:],
        "a single array": (tmp_path / "single.npy").read_bytes(),
    }[damage]
    with pytest.raises(UserError, match=r"images.npz: not a complete .npz file of plain arrays \("):
        arrays(content)


def test_pickled_object_is_refused_and_never_run(arrays, tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "sprung").touch, ()

    with pytest.raises(
        UserError, match=r"not a complete .npz file of plain arrays .*; save names as text, array.astype\(str\)"
    ):
        arrays(GRAY | {"class_names": np.array([Trap()], dtype=object)})
    assert not (tmp_path / "sprung").exists()


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"is a folder; data.name=arrays needs an .npz file"):
        load(DataSettings("arrays", str(tmp_path)), seed=0)
    (tmp_path / "faces.npz").touch()
    with pytest.raises(UserError, match=r"no file or folder .*did you mean \"faces.npz\""):
        load(DataSettings("arrays", str(tmp_path / "face.npz")), seed=0)
