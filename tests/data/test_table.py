"""Tables of image files, with all tables of "Bad input" in docs/data.md."""

import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest

from jaxcnn.data import DataSettings, Reading, load, make_reader
from jaxcnn.data.class_names import in_order
from jaxcnn.data.order import Once
from jaxcnn.data.table import table
from jaxcnn.errors import UserError
from jaxcnn.train.devices import make_mesh

ROWS = [f"{name}/{i}.png,{name},{'test' if i > 7 else 'train'}" for name in ("rose", "tulip") for i in range(10)]
LABELS = [row.rpartition(",")[0] for row in ROWS]


@pytest.fixture
def write(tmp_path):
    """Writes a table from a header and rows, or from bytes."""

    def write(header, *rows, ends="\n"):
        content = header if isinstance(header, bytes) else (ends.join([header, *rows]) + ends).encode()
        (tmp_path / "table.csv").write_bytes(content)
        return tmp_path / "table.csv"

    return write


def refused(path, **options):
    """Returns the message, one line, of the error that ends reading, without the leading path."""
    with pytest.raises(UserError) as mistake:
        table(path, **options)
    assert "\n" not in str(mistake.value)
    assert mistake.value.exit_code == 2
    return str(mistake.value).removeprefix(str(path))


def examples(source):
    """Returns [(the last two names of the path, label)]."""
    return [("/".join(source.name(i).split("/")[-2:]), source.labels[i].tolist()) for i in range(len(source))]


def settings(path, **changes):
    return DataSettings(**{"name": "csv", "root": str(path), "validation": 0.0, "image_size": 32, **changes})


# ── What is read ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_paths_labels_and_splits_are_those_of_the_rows(write):
    dataset = table(write("path,label,split", *ROWS))
    assert dataset.class_names == ("rose", "tulip")
    rows = [row.split(",") for row in ROWS]
    expected = {part: [(p, int(label == "tulip")) for p, label, split in rows if split == part] for part in ("train", "test")}
    assert {part: examples(source) for part, source in dataset.parts().items()} == expected
    assert dataset.train.labels.dtype == np.int32


def test_groups_of_a_column_stay_on_one_side(write):
    path = write("path,label,Patient", *(f"{row},p{i % 10}" for i, row in enumerate(LABELS)))
    for row in LABELS:
        image = path.parent / row.split(",")[0]
        image.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(image), np.zeros((8, 8, 3), np.uint8))
    dataset = load(settings(path, group="patient", test=0.2, validation=0.2), seed=0)
    patients = [{name.split("/")[-1] for name, _ in examples(source)} for source in dataset.parts().values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 10


def test_spaces_and_the_form_of_unicode_make_no_other_class_split_or_group(write):
    forms = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    assert forms[0] != forms[1]
    rows = [f" {i}.png ,  {forms[i % 2]}{' ' * (i % 3)}, Train , p1 " for i in range(4)]
    rows += ['5.png, "tea",val,p2', "6.png,tea\u00a0,train,p1"]
    dataset = table(write(" path, Label ,split , patient", *rows), group="patient")
    assert dataset.class_names == (forms[0], "tea")
    assert [name.rpartition("/")[2] for name, _ in examples(dataset.train)] == ["0.png", "1.png", "2.png", "3.png", "6.png"]
    assert dataset.train.labels.tolist() == [0, 0, 0, 0, 1]
    assert set(dataset.groups) == {"p1"}


def test_several_labels_of_an_image_are_separated_by_bars_and_none_is_a_label_too(write):
    rows = ["0.png,red|warm", "1.png,blue", "2.png,", "3.png,warm | red|", "4.png,|", "5.png,red||red"]
    dataset = table(write("path,label", *rows))
    assert dataset.class_names == ("blue", "red", "warm")
    expected = [[0, 1, 1], [1, 0, 0], [0, 0, 0], [0, 1, 1], [0, 0, 0], [0, 1, 0]]
    np.testing.assert_array_equal(dataset.train.labels, np.array(expected))


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_table_of_any_system_or_spreadsheet_is_read(write, ends):
    """The table has a byte order mark, blank lines, empty rows, quotes, and characters at which str.splitlines splits."""
    rows = ["", 'a.png,"first, second",x', ",,", "b\u2028c.png,other,\x0b\x1c\u0085y", "", 'd.png,other,"said ""so"""']
    dataset = table(write("\ufeffpath,label,note", *rows, ends=ends))
    assert dataset.class_names == ("first, second", "other")
    assert [name.rpartition("/")[2] for name, _ in examples(dataset.train)] == ["a.png", "b\u2028c.png", "d.png"]


def test_line_break_in_a_column_that_is_not_read_is_a_part_of_its_field(write):
    dataset = table(write("path,label,note", 'a.png,x,"one\ntwo, three"', "b.png,y,"))
    assert len(dataset.train) == 2


def test_numbers_as_class_names_are_in_their_order(write):
    labels = table(write("path,label", *(f"{i}.png,{i}" for i in range(12)))).train.labels
    assert labels.tolist() == list(range(12))
    assert in_order(["10", "9", "-1", "9"]) == ("-1", "9", "10")
    assert in_order(["10", "9", "a"]) == ("10", "9", "a")


# ── What is refused ─────────────────────────────────────────────────────────────────────────────────────────────────

MANY = [f"{i}.png,{'ant' if i % 2 else 'bee'},x" for i in range(40)]
BROKEN = {
    "quote at the end": ([*MANY[:3], '3.png,ant,"open', *MANY[4:]], "line 5: a quote is not closed"),
    "two quotes": ([*MANY[:3], '3.png,ant,"open', *MANY[4:9], '9.png,ant,"open', *MANY[10:]], "line 5: a quote is not closed"),
    "closed later": ([*MANY[:3], '3.png,ant,"open', *MANY[4:9], '9.png,ant,closed"', *MANY[10:]], "line 5: .*to line 11"),
    "in a label": ([*MANY[:3], '3.png,"ant,x', *MANY[4:9], '9.png",ant', *MANY[10:]], "line 5: .*extends to line 11"),
    "label of two lines": (['0.png,"a\nb",x', *MANY], "line 2: the label contains a line break"),
    "open header": (['a,b"', *MANY], "line 1: a quoted field extends to line 2"),
    "twice, by another path": ([*MANY, "{folder}/3.png,ant,x"], "3.png' is listed on line 5 too; list each file once"),
    "text after a quote": (['0.png,"ant"s,x', *MANY], "line 2: a quote is not closed at the end of its field"),
    "short row": (["", "", *MANY, "40.png,ant"], "line 44: the row has 2 fields, but the header has 3"),
    "long row": (["", *MANY[:4], '4.png,ant,"a\nb"', "5.png,ant,x,y"], "line 9: the row has 4 fields, but the header has 3"),
    "no path": ([*MANY, " ,ant,x"], "line 42: the path is empty"),
    "no label": ([*MANY, "40.png, ,x"], 'line 42: the label is empty; if images may have several .*"cat|"'),
    "NUL": ([*MANY[:2], "2.png,a\0nt,x"], "line 4: a NUL byte"),
    "twice": ([*MANY, "./a/../3.png,ant,x"], "line 42: './a/../3.png' is listed on line 5 too; list each file once"),
    "twice, two labels": ([*MANY, "3.png,bee,x"], "is listed on line 5 too, with the labels 'ant' and 'bee'; list"),
    "one class": (MANY[::2], "all training rows have the label 'bee'; at least two classes are needed"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_row_that_is_invalid_is_named_by_its_line(write, tmp_path, monkeypatch, name):
    rows, message = BROKEN[name]
    header = 'path,label,"note' if name == "open header" else "path,label,note"
    monkeypatch.chdir(tmp_path)
    write(header, *(row.replace("{folder}", str(tmp_path)) for row in rows))
    said = refused(Path("table.csv"))
    assert all(part in said for part in message.split(".*")), said


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path;label", "no column 'path'; it has path;label; the fields are separated by ';', but commas are expected"),
        ("path\tlabel", "are separated by '\\t', but commas are expected"),
        ("path,label,Label", "expected one column 'label', found 2"),
        ("path,path,label", "expected one column 'path', found 2"),
        ("pth,label,x", "no column 'path' (did you mean \"pth\"?); it has pth, label, x"),
    ],
)
def test_header_that_does_not_fit_is_reported(write, header, message):
    assert message in refused(write(header, *MANY))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": no column 'path'; it has no header"),
        (b"path,label\n\n", ": no rows below the header"),
        ("path,label\na.png,caf\u00e9\n".encode("latin-1"), "; save it as UTF-8"),
        ("path,label\na.png,ant\n".encode("utf-16"), "; save it as UTF-8"),
        ("path,label\na.png,ant\n".encode("utf-16-le"), ", line 1: a NUL byte; the table is damaged or not encoded in UTF-8"),
    ],
)
def test_file_that_is_not_a_table_is_refused(write, content, message):
    assert message in refused(write(content))


def test_split_that_leaks_or_is_not_understood_is_refused(write):
    assert refused(write("path,label,split", *ROWS, "rose/3.png,rose,test")) == (
        ", line 22: 'rose/3.png' is listed on line 5 too, in the train set and in the test set; "
        'list each file once, with several labels as "cat|dog"'
    )
    grouped = [f"{row},p{i % 5}" for i, row in enumerate(ROWS)]
    assert refused(write("path,label,split,patient", *grouped), group="patient") == (
        ", line 10: patient 'p3' is in the test set, but on line 5 in the train set; "
        "with data.group a group must be in one split"
    )
    assert "line 3: the patient is empty" in refused(write("path,label,patient", "a,x,p", "b,y, "), group="patient")
    assert refused(write("path,label,subset", *ROWS)) == (
        ": the column 'subset' looks like the split column (test, train); "
        'rename it to "split", or remove it if it has another meaning'
    )
    said = refused(write("path,label,split", *ROWS, "a.png,rose,tset"))
    assert said == ", line 22: expected the split train, val or test, got 'tset' (did you mean \"test\"?)"
    assert refused(write("path,label,split", "a.png,rose,test")) == ": no row has the split train"


def test_label_that_no_training_row_has_is_named_with_its_line(write):
    said = refused(write("path,label,split", *ROWS[:-1], "tulip/9.png,tulp,test"))
    assert said == ", line 21: no training row has the label 'tulp' (did you mean \"tulip\"?)"
    several = ["a.png,x|y,train", "b.png,z,test"]
    assert refused(write("path,label,split", *several)) == ", line 3: no training row has the label 'z'"


def test_file_of_a_table_that_is_missing_is_a_bad_image(write):
    path = write("path,label,split", "rose/absent.png,rose,train", *ROWS)
    (path.parent / "rose").mkdir()
    cv2.imwrite(str(path.parent / "rose" / "0.png"), np.zeros((8, 8, 3), np.uint8))
    source = load(settings(path), seed=0).train
    reason = rf"^{path.parent}/rose/absent.png: can't be read \(No such file or directory\)$"
    with pytest.raises(UserError, match=reason):
        make_reader(source, make_mesh(1), Reading("on"))(Once(len(source)), 0, 4, [1])
    with pytest.raises(UserError, match=r"\(No such file or directory\); nor could any other image of this data set be read"):
        load(settings(write("path,label,split", *(f"elsewhere/{row}" for row in ROWS))), seed=0)
