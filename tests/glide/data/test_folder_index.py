"""Folders as Hugging Face, other programs and other systems lay them out; and what of a folder is left out is told."""

import json
import os
import sys

import pytest

from glide.data.datasets import open_data
from glide.data.folder_index import index_folder
from glide.utils.captions import clean_caption, encodable, shown_name
from glide.utils.errors import InputError
from glide.utils.filesystem import list_files
from support.data_files import captioned, picture, same, values
from toolkit.commands.check_data import check_data
from toolkit.commands.check_data_flags import CheckData


def pictures(folder, *names: str) -> None:
    """Grey pictures of these names, in the grey of their place."""
    for value, name in enumerate(names):
        picture(folder / name, value)


def captions(folder, **options) -> dict[str, str]:
    listing = index_folder(str(folder), **options)
    return {listing.name(i): listing.caption(i) for i in range(len(listing))}


JSONL = "".join(json.dumps({"file_name": f"{i}.png", "text": f"a ring {i}"}) + "\n" for i in range(3))
TABLES = {
    "metadata.jsonl": JSONL,
    "metadata.csv": "file_name,text\n0.png,a ring 0\n1.png,a ring 1\n2.png,a ring 2\n",
    "captions.csv": "image,caption\n0.png,a ring 0\n1.png,a ring 1\n2.png,a ring 2\n",
    "Captions.CSV": "File_Name;Text\n0.png;a ring 0\n1.png;a ring 1\n2.png;a ring 2\n",
    "METADATA.csv": '\n"text"\t"width"\t"file_name"\na ring 0\t4\t0.png\na ring 1\t4\t1.png\na ring 2\t4\t2.png\n',
}


@pytest.mark.parametrize("split", ["", "train", "Train", "photos", "train/deep"])
@pytest.mark.parametrize("table", TABLES)
def test_tables_of_hugging_face_and_others(tmp_path, table, split):
    pictures(tmp_path / split, "0.png", "1.png", "2.png")
    (tmp_path / split / table).write_text(TABLES[table])
    inside = (
        split.split("/", 1)[1] if split.startswith("train/") else "" if split.lower() == "train" else split
    )
    where = f"{inside}/" if inside else ""
    assert captions(tmp_path) == {f"{where}{i}.png": f"a ring {i}" for i in range(3)}


def test_a_table_in_each_of_several_folders(tmp_path):
    for name in ("a", "b"):
        pictures(tmp_path / name, "0.png", "1.png", "2.png")
        (tmp_path / name / "metadata.jsonl").write_text(JSONL.replace("ring", name))
    assert captions(tmp_path)["b/2.png"] == "a b 2" and len(captions(tmp_path)) == 6
    (tmp_path / "b" / "captions.csv").write_text("file,caption\n0.png,x\n")
    with pytest.raises(InputError, match=r"captioned twice, by b/captions\.csv and b/metadata\.jsonl"):
        index_folder(str(tmp_path))


def test_of_parts_of_a_data_set_only_train_is_taken(tmp_path):
    for part in ("train", "test", "validation"):
        for name in ("cat", "dog"):
            pictures(tmp_path / part / name, "0.png", "1.png")
    with pytest.warns(
        UserWarning, match=r"the part train is taken; 8 pictures in test, validation are left out"
    ):
        listing = index_folder(str(tmp_path))
    assert listing.class_names == ("cat", "dog") and listing.labels == [0, 0, 1, 1]
    pictures(tmp_path / "bird", "0.png")
    with pytest.raises(InputError, match="two folders deep"):  # these are classes then
        index_folder(str(tmp_path))


def test_parts_inside_of_another_folder(tmp_path):
    for part in ("train", "test"):
        pictures(tmp_path / "data" / part / "cat", "0.png", "1.png")
    with pytest.warns(UserWarning, match="the part train is taken; 2 pictures in test"):
        listing = index_folder(str(tmp_path))
    assert listing.folder == str(tmp_path / "data" / "train") and listing.images == ["cat/0.png", "cat/1.png"]


@pytest.mark.parametrize("unconditional", [False, True])
def test_one_table_for_all_parts(tmp_path, unconditional):
    pictures(tmp_path, "train/0.png", "train/1.png", "test/0.png")
    rows = [f"{name},{name}" for name in ("test/0.png", "train/0.png", "train/1.png", "train/2.png")]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,text", *rows]))
    with pytest.warns(UserWarning, match="the part train is taken; 1 pictures in test are left out"):
        listing = index_folder(str(tmp_path), unconditional)
    assert listing.images == ["train/0.png", "train/1.png"] and listing.captioned is not unconditional
    assert list(listing.problems) == ([] if unconditional else ["train/2.png"])


def test_classes_may_be_called_train_among_others(tmp_path):
    for name in ("train", "plane"):
        pictures(tmp_path / name, "0.png")
    assert index_folder(str(tmp_path)).class_names == ("plane", "train")


def test_names_in_any_case_and_any_unicode_form(tmp_path):
    pictures(tmp_path, "A.PNG", "b.png", "e\u0301.png", "c.jfif.PNG")
    for name, caption in (("A.TXT", "1"), ("B.txt", "2"), ("\u00e9.txt", "3"), ("C.JFIF.Txt", "4")):
        (tmp_path / name).write_text(caption)
    assert captions(tmp_path) == {"A.PNG": "1", "b.png": "2", "e\u0301.png": "3", "c.jfif.PNG": "4"}
    for path in tmp_path.glob("*.[tT]*"):
        path.unlink()
    (tmp_path / "metadata.csv").write_text(
        "file_name,text\na.png,1\nB.PNG,2\n\u00c9.png,3\nc.JFIF.png,4\n", "utf-8"
    )
    assert captions(tmp_path) == {"A.PNG": "1", "b.png": "2", "e\u0301.png": "3", "c.jfif.PNG": "4"}


@pytest.mark.skipif(sys.platform != "linux", reason="two names that differ in case alone")
def test_a_caption_of_the_same_case_comes_first(tmp_path):
    pictures(tmp_path, "a.png", "A.PNG")
    (tmp_path / "a.txt").write_text("small")
    (tmp_path / "A.TXT").write_text("large")
    assert captions(tmp_path) == {"a.png": "small", "A.PNG": "large"}
    (tmp_path / "A.TXT").unlink()
    listing = index_folder(str(tmp_path))  # one caption file belongs to one picture
    assert listing.images == ["a.png"] and "has no caption" in listing.problems["A.PNG"]


def test_formats_are_the_same_everywhere_and_others_are_reported(tmp_path):
    pictures(tmp_path, "0.png", "1.png")
    (tmp_path / "0.png").rename(tmp_path / "0.jfif")
    (tmp_path / "1.png").rename(tmp_path / "1.avif")
    for name in ("0.txt", "1.txt", "2.txt"):
        (tmp_path / name).write_text("a ring")
    (tmp_path / "2.heic").write_bytes(b"\0\0\0\x18ftypheic")
    assert list(captions(tmp_path)) == ["0.jfif", "1.avif"]
    with pytest.warns(UserWarning, match=r"1 in all: 2\.heic is of a format that is not read"):
        data = open_data(str(tmp_path), 4)
    assert list(data.broken) == ["2.heic"] and len(data.batch(0, 2)["caption"]) == 2


def test_pictures_without_a_row_are_reported_and_counted(tmp_path, capsys):
    pictures(tmp_path, "0.png", "1.png", "2.png", "3.png", "4.png")
    (tmp_path / "metadata.jsonl").write_text(JSONL)
    found = check_data(CheckData(str(tmp_path), workers=1))
    assert (found.usable, found.broken, list(found.left_out)) == (3, {}, ["3.png", "4.png"])
    assert "left out: 2 is not named in" in capsys.readouterr().out
    with pytest.warns(UserWarning, match=r"2 in all: 3\.png is not named in metadata\.jsonl"):
        data = open_data(str(tmp_path), 4)
    assert len(data) == 3 and list(data.broken) == ["3.png", "4.png"]


def test_a_table_that_names_nothing_there(tmp_path, capsys):
    pictures(tmp_path, "0.png")
    (tmp_path / "captions.csv").write_text("file,caption\nx.png,a ring\n")
    with pytest.raises(InputError, match=r"1 of 1 pictures in .* are broken"):
        check_data(CheckData(str(tmp_path), tmp_path / "sheet.png", workers=1, max_broken=1.0))
    assert "1 is not there" in capsys.readouterr().out


def test_no_folder_is_walked_twice(tmp_path):
    captioned(tmp_path / "set", 3)
    captioned(tmp_path / "other", 2)
    (tmp_path / "set" / "again").symlink_to(".")
    (tmp_path / "set" / "above").symlink_to("..")
    (tmp_path / "set" / "b").symlink_to(tmp_path / "other")
    names = [name for name in list_files(tmp_path / "set") if name.endswith(".png")]
    assert names == ["000.png", "001.png", "002.png", "above/other/000.png", "above/other/001.png"]
    (tmp_path / "set" / "above").unlink()
    names = [name for name in list_files(tmp_path / "set") if name.endswith(".png")]
    assert names == ["000.png", "001.png", "002.png", "b/000.png", "b/001.png"]


def test_a_plain_folder_trains_an_unconditional_model(tmp_path, capsys):
    pictures(tmp_path, "0.png", "1.png", "deep/er/2.png")
    with pytest.raises(InputError, match=r"0\.png in .* has no caption .*--unconditional"):
        open_data(str(tmp_path), 4)
    data = open_data(str(tmp_path), 4, unconditional=True)
    batch = data.batch(0, 3)
    assert sorted(values(batch)) == [0, 1, 2] and batch.keys() == {"image"}
    assert data.captions_for_tokenizer() == [] and data.class_names == ()
    assert (
        check_data(CheckData(str(tmp_path), tmp_path / "sheet.png", unconditional=True, workers=1)).usable
        == 3
    )
    assert "3 usable" in capsys.readouterr().out


def test_unconditional_takes_all_pictures_of_any_layout(tmp_path):
    folder = captioned(tmp_path / "set", 3)
    (folder / "001.txt").unlink()
    data = open_data(str(folder), 4, unconditional=True)
    assert len(data) == 3 and not data.broken and data.batch(0, 3).keys() == {"image"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_utf8(tmp_path):
    for name in (b"\xff", b"\xfe"):
        folder = os.fsencode(tmp_path) + b"/" + name
        os.mkdir(folder)
        for i in range(3):
            picture(tmp_path / "x.png", i)
            os.rename(tmp_path / "x.png", folder + b"/%d\xe9.png" % i)
    for split in ("train", "held_out"):
        data = open_data(str(tmp_path), 4, held_out=0.5, split=split, max_broken=1)
        json.dumps([data.class_names, data.broken], ensure_ascii=False).encode()
        assert data.class_names == ("\\udcfe", "\\udcff") and len(data.batch(0, 1)["y"]) == 1
    sheet, report = tmp_path.parent / "sheet.png", tmp_path.parent / "report.json"
    found = check_data(CheckData(str(tmp_path), sheet, report=report, workers=1, overwrite=True))
    assert found.classes == {"\\udcfe": 3, "\\udcff": 3} and sheet.exists() and report.exists()


def test_halves_of_surrogate_pairs(tmp_path):
    assert encodable("a \ud83d\ude00") == "a 😀" and encodable("a \ud83d b\udcff") == "a \ufffd b\ufffd"
    assert clean_caption("\udcff \n b", "x") == "\ufffd b" and shown_name("é\udcff.png") == "é\\udcff.png"
    pictures(tmp_path, "0.png", "1.png")
    rows = [
        '{"file_name": "0.png", "text": "ring \\ud83d"}',
        '{"file_name": "1.png", "text": "\\ud83d\\ude00"}',
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(rows))
    assert captions(tmp_path) == {"0.png": "ring \ufffd", "1.png": "😀"}


def test_a_batch_is_the_same_however_a_folder_says_its_captions(tmp_path):
    pictures(tmp_path / "a", "0.png", "1.png", "2.png")
    pictures(tmp_path / "b" / "train", "0.png", "1.png", "2.png")
    (tmp_path / "a" / "metadata.jsonl").write_text(JSONL)
    (tmp_path / "b" / "train" / "metadata.csv").write_text(TABLES["metadata.csv"])
    one, other = (open_data(str(tmp_path / name), 4, seed=2) for name in ("a", "b"))
    assert all(same(one.batch(step, 2), other.batch(step, 2)) for step in range(4))
