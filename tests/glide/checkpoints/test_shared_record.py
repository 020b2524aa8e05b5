"""The record of a shared model holds no path, user name or host name of where it was made."""

import getpass
import json
import socket
from pathlib import Path

import pytest

from glide.checkpoints.shared_record import own_names, shared_record, without_places
from glide.utils.errors import InputError

CASES = {
    "python scripts/train_base.py --data /home/someone/photos --out=/home/me/secret/run --lr 1e-4": (
        "python scripts/train_base.py --data photos --out=run --lr 1e-4"
    ),
    "python train.py --data '/home/some one/my photos' --x 'data/*.tar'": (
        "python train.py --data 'my photos' --x 'data/*.tar'"
    ),
    "glide train auto ~/photos --hours 3": "glide train auto photos --hours 3",
    "glide train auto ../../someone/photos": "glide train auto photos",
    "glide train auto home/someone/photos": "glide train auto photos",
    "python x --data 'a,/home/x/b' --condition map=/home/q/m.png": "python x --data a,b --condition map=m.png",
    "/home/me/My Models/shapes/": "shapes",
    "C:\\Users\\me\\photos": "photos",
    "\\\\server\\share\\photos": "photos",
    "idx:/home/someone/mnist": "idx:mnist",
    "clip:~someone/clip": "clip:clip",
    "file:///home/someone/x": "x",
    "someone@box:/data/pictures": "pictures",
    "notes of /home/me/x, and /tmp/y. It's so": "notes of x, and y. It's so",
    "from anna's machine, box": "from user's machine, host",
}
KEPT = (
    "gs://bucket/a/b.tar",
    "https://example.org/a/b",
    "hf:org/name",
    "own/{0..9}.tar",
    "./runs/x",
    "1/2 and/or 3",
    "shapes:one=1,count=2",
    "python examples/emoji/build_styles.py --out data/emoji-64 (8,682 pictures)",
)


@pytest.mark.parametrize("text", CASES)
def test_places_and_names_are_left_out(text: str) -> None:
    assert without_places(text, {"anna": "user", "box": "host"}) == CASES[text]


@pytest.mark.parametrize("text", KEPT)
def test_all_else_stays(text: str) -> None:
    assert without_places(text, {"anna": "user", "box": "host"}) == text


def test_own_names_are_those_of_user_and_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "anna")
    monkeypatch.setattr(socket, "gethostname", lambda: "box.example.org")
    monkeypatch.setattr(Path, "home", lambda: Path("/root"))
    assert own_names() == {"anna": "user", "box": "host", "box.example.org": "host"}


def test_a_record_is_searched_to_its_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "annaperson")
    training = {"stages": [{"data": "/home/someone/x", "log": [{"loss": 0.5}]}], "/home/annaperson/y": None}
    training["init_training"] = {"command": "python a.py --data /data/annaperson/z", "note": "by annaperson"}
    record = {"format": 1, "kind": "diffusion", "model": {"unet": {}}, "training": training}
    found = shared_record(record)
    text = json.dumps(found)
    assert "/" not in text and "annaperson" not in text and "someone" not in text
    assert found["training"]["stages"] == [{"data": "x", "log": [{"loss": 0.5}]}]
    assert found["training"]["init_training"]["command"] == "python a.py --data z"
    assert record["training"] is training and training["stages"][0]["data"] == "/home/someone/x"


def test_a_network_in_a_local_folder_cannot_be_shared() -> None:
    text = {"source": "t5", "path": "/home/someone/t5", "embedded": False}
    with pytest.raises(InputError, match="whose text_encoder t5 is in a folder of this machine"):
        shared_record({"model": {"text_encoder": text}, "training": None})
