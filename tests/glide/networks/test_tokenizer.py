"""Tokens are those of the original releases; the mechanism is shown on small parts of their vocabularies."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer as BPE
from tokenizers import models

from glide.networks.tokenizer import LONGEST_CAPTION, LONGEST_WORD, MOST_TEXT, Tokenizer, _for_training
from glide.utils.errors import InputError
from support.paths import GOLDEN, ROOT

GOLDEN = json.loads((GOLDEN / "tokens.json").read_text(encoding="utf-8"))
SHORT = ["an oil painting of a corgi", "a corgi in a field", "", "🐶 wearing a 🎩", "don't we'll I'VE"]

# The merges that the captions above use, by rank, each with the id of the token it makes: of GLIDE's 50,000 and
# CLIP's 48,894. A caption needs no others, because BPE always takes the first that applies.
GLIDE_MERGES = """Ġ a 257|i n 259|o n 261|Ġ w 266|Ġ o 267|Ġ c 269|a n 272|o r 273|Ġ f 277|in g 278|Ġ p 279|a r 283|
Ġo f 286|Ġ in 287|l l 297|v e 303|l d 335|i l 346|Ġw e 356|a in 391|' t 470|i e 494|t ing 889|' ve 1053|Ġc or 1162|
ie ld 1164|' ll 1183|Ġ i 1312|ar ing 1723|Ġf ield 2214|Ġp ain 2356|Ġo il 3056|Ġwe aring 5762|ð Ł 8582|d on 9099|
Ġpain ting 12036|g i 12397|Ġ ðŁ 12520"""
CLIP_MERGES = """i n 512|a r 516|in g</w> 519|o n 521|o r 523|o n</w> 525|i n</w> 530|o f</w> 539|e l 544|a n</w> 550|
ð Ł 558|v e</w> 563|w e 598|w e</w> 649|t ing</w> 694|f i 701|' t</w> 713|p a 765|d on</w> 847|c or 851|l l</w> 865|
i l</w> 958|d on 1067|ðŁ İ 1165|' ve</w> 1200|' ll</w> 1342|fi el 1361|fiel d</w> 1570|ðŁ Ĳ 2074|pa in 2141|
ar ing</w> 2142|o il</w> 2870|pain ting</w> 3086|we aring</w> 3309|g i</w> 4478|ðŁĲ ¶</w> 10631|cor gi</w> 31320|
ðŁİ ©</w> 37701"""


def write_vocabulary(folder: Path, merges: str, suffix: str = "", special: tuple[str, ...] = ()) -> Path:
    """A folder with vocab.json and merges.txt: all bytes, these merges, special tokens up to id 49407."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    vocab = {letter: i for i, letter in enumerate(letters)}
    vocab |= {letter + suffix: 256 + i for i, letter in enumerate(letters)} if suffix else {}
    rows = [merge.split() for merge in merges.replace("\n", "").split("|")]
    vocab |= {a + b: int(number) for a, b, number in rows}
    vocab |= {token: 49406 + i for i, token in enumerate(special)}
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    text = "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b, _ in rows)
    (folder / "merges.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def small_glide(tmp_path):
    return Tokenizer.glide(write_vocabulary(tmp_path / "glide", GLIDE_MERGES))


@pytest.fixture
def clip_folder(tmp_path):
    return write_vocabulary(tmp_path / "clip", CLIP_MERGES, "</w>", ("<|startoftext|>", "<|endoftext|>"))


def check_glide(tokenizer: Tokenizer, cases: list[dict]) -> None:
    tokens, mask = tokenizer.encode([case["text"] for case in cases], warn=False)
    assert tokens.dtype == torch.int64 and mask.dtype == torch.bool
    assert tokens.tolist() == [case["glide_tokens"] for case in cases]
    lengths = torch.tensor([[case["glide_mask_true"]] for case in cases])
    assert torch.equal(mask, torch.arange(128) < lengths)


def check_clip(tokenizer: Tokenizer, cases: list[dict]) -> None:
    tokens, mask = tokenizer.encode([case["text"] for case in cases], warn=False)
    assert tokens.tolist() == [case["clip_tokens"] for case in cases]
    lengths = torch.tensor([[case["clip_len"]] for case in cases])
    assert torch.equal(mask, torch.arange(77) < lengths)


def vocabularies() -> Path:
    """The folder with glide/ and clip/, each with vocab.json and merges.txt: too large to be part of the repository."""
    return Path(os.environ.get("GLIDE_VOCAB") or ROOT.parent / "shared" / "vocab")


@pytest.mark.slow
@pytest.mark.skipif(
    not vocabularies().is_dir(),
    reason="no vocabularies in ../shared/vocab: set GLIDE_VOCAB to a folder with glide/ and clip/, each with "
    "vocab.json and merges.txt",
)
@pytest.mark.parametrize("kind", ["glide", "clip"])
def test_tokens_of_the_original_releases(kind):
    folder = vocabularies()
    if kind == "glide":
        tokenizer = Tokenizer.glide(folder / "glide")
        assert (tokenizer.n_vocab, tokenizer.pad) == (50257, 50256)
        check_glide(tokenizer, GOLDEN["cases"])
    else:
        tokenizer = Tokenizer.clip(folder / "clip")
        assert (tokenizer.n_vocab, tokenizer.pad) == (49408, 0)
        check_clip(tokenizer, GOLDEN["cases"])


def test_golden_glide_tokens_by_a_part_of_its_vocabulary(small_glide):
    check_glide(small_glide, [case for case in GOLDEN["cases"] if case["text"] in SHORT])


def test_golden_clip_tokens_by_a_part_of_its_vocabulary(clip_folder):
    check_clip(Tokenizer.clip(clip_folder), [case for case in GOLDEN["cases"] if case["text"] in SHORT])


def test_clip_cleans_text_and_keeps_the_end_token(clip_folder):
    tokenizer = Tokenizer.clip(clip_folder, context=6)
    plain, _ = tokenizer.encode(["don't a"])
    for dressed in ("  DON\u2019T\n\ta ", "don&amp;#39;t a", "\uff44on't\u3000a\x00"):
        assert torch.equal(tokenizer.encode([dressed])[0], plain)
    with pytest.warns(UserWarning, match="longer than 6 tokens: cut off 'a corgi'"):
        tokens, mask = tokenizer.encode(["an oil painting of a corgi"])
    assert tokens.tolist() == [[49406, 550, 2870, 3086, 539, 49407]] and bool(mask.all())


def test_a_caption_longer_than_the_context_is_cut_with_a_warning_that_names_the_cut(tmp_path):
    tokenizer = Tokenizer.glide(write_vocabulary(tmp_path / "v", GLIDE_MERGES), context=4)
    with pytest.warns(UserWarning, match="longer than 4 tokens: cut off 'a field'") as caught:
        tokens, mask = tokenizer.encode(["A corgi IN a field", "a corgi"])
    assert len(caught) == 1 and caught[0].filename == __file__
    assert tokens.tolist() == [[64, 1162, 12397, 287], [64, 1162, 12397, 50256]]
    assert mask.sum(1).tolist() == [4, 3]
    tokenizer.encode(["a corgi in a field"], warn=False)  # warnings are errors in these tests


def test_text_is_lower_cased_as_python_does(small_glide):
    assert torch.equal(small_glide.encode(["ΑΣ İ ẞ"])[0], small_glide.encode(["ας i̇ ß"])[0])


CAPTIONS = [
    f"a {color} {shape} to the left" for color in ("red", "green") for shape in ("ring", "star", "cross")
]


def test_trained_tokenizer_round_trips_any_text_in_known_ids():
    tokenizer = Tokenizer.train(CAPTIONS, vocab_size=300, context=64)
    assert 257 < tokenizer.n_vocab <= 300
    assert tokenizer.pad == tokenizer.n_vocab - 1
    texts = ["a red ring to the left", "naïve 🐶 コーギー <|endoftext|> <|pad|>", "  two  spaces"]
    tokens, mask = tokenizer.encode(texts)
    assert int(tokens.max()) == tokenizer.pad and not bool((tokens == tokenizer.pad)[mask].any())
    assert bool((tokens == tokenizer.pad)[~mask].all())
    assert [tokenizer.decode(row.tolist()) for row in tokens] == [text.strip() for text in texts]
    assert mask[0].sum() <= 8  # words it was trained on are few tokens
    assert not bool(tokenizer.encode([""])[1].any())
    assert tokenizer.encode([])[0].shape == (0, 64)


@pytest.mark.slow
def test_training_is_the_same_in_every_process(tmp_path):
    code = (
        "from glide.networks.tokenizer import Tokenizer\n"
        f"Tokenizer.train({CAPTIONS}, 300, 16).save({str(tmp_path / 'other.json')!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=300)
    Tokenizer.train(CAPTIONS, 300, 16).save(tmp_path / "here.json")
    assert (tmp_path / "other.json").read_bytes() == (tmp_path / "here.json").read_bytes()


def test_saved_and_copied_tokenizers_are_the_same(tmp_path, clip_folder):
    trained = Tokenizer.train(CAPTIONS, 300, 12)
    for tokenizer in (trained, Tokenizer.clip(clip_folder)):
        tokenizer.save(tmp_path / "tokenizer.json")
        for other in (Tokenizer.load(tmp_path / "tokenizer.json"), copy.deepcopy(tokenizer)):
            assert (other.context, other.pad, other.n_vocab) == (
                tokenizer.context,
                tokenizer.pad,
                tokenizer.n_vocab,
            )
            texts = ["a RED ring", "", "don&#39;t"]
            for mine, its in zip(tokenizer.encode(texts), other.encode(texts), strict=True):
                assert torch.equal(mine, its)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["tokenizer.json"]


def test_a_tokenizer_is_saved_whole_or_not_at_all(tmp_path):
    tokenizer = Tokenizer.train(CAPTIONS, 300, 12)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="was not written"):
        tokenizer.save(tmp_path / "file" / "tokenizer.json")
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("lost", ["Ġred", "r", "Ġ"])
def test_merges_without_their_tokens_are_refused(tmp_path: Path, lost: str) -> None:
    path = tmp_path / "tokenizer.json"
    Tokenizer.train(["a red ring", "a red square"] * 9, 300, 12).save(path)
    saved = json.loads(path.read_text("utf-8"))
    del saved["model"]["vocab"][lost]
    path.write_text(json.dumps(saved), "utf-8")
    with pytest.raises(InputError, match=r"has the merge .*, expected two tokens that its vocabulary holds"):
        Tokenizer.load(path)


def hostile(part: str, value: dict) -> str:
    return json.dumps(json.loads(BPE(models.BPE()).to_str()) | {part: value})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "is not JSON"),
        ("{}", "is not a byte-level BPE"),
        ('{"model": {"type": "BPE"}}', "with a vocabulary and merges"),
        (
            hostile("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
            "without a normalizer",
        ),
        (hostile("pre_tokenizer", {"type": "Split", "pattern": {"Regex": "(a+)+$"}}), "a pattern of its own"),
        (BPE(models.BPE()).to_str(), "states no context length"),
    ],
)
def test_a_file_that_is_no_tokenizer_of_ours_is_refused(tmp_path, text, message):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(InputError, match=message):
        Tokenizer.load(tmp_path / "t.json")


def test_bad_input_is_one_clear_error(tmp_path, clip_folder, monkeypatch):
    with pytest.raises(InputError, match="cannot read"):
        Tokenizer.load(tmp_path / "missing.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot read"):
        Tokenizer.load(tmp_path / "binary")
    with pytest.raises(InputError, match=r"256 is too small.*257"):
        Tokenizer.train(CAPTIONS, 256, 16)
    with pytest.raises(InputError, match="context of 0"):
        Tokenizer.train(CAPTIONS, 300, 0)
    with pytest.raises(InputError, match=r"context of 2.*at least 3"):
        Tokenizer.clip(clip_folder, context=2)
    with pytest.raises(InputError, match="must be text, got int"):
        Tokenizer.train(CAPTIONS, 300, 16).encode(["a", 3])
    with pytest.raises(InputError, match="expected a list"):
        Tokenizer.train(CAPTIONS, 300, 16).encode("a red ring")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"cannot read .*vocab\.json"):
        Tokenizer.glide(tmp_path / "empty")
    glide = write_vocabulary(tmp_path / "glide", GLIDE_MERGES)
    with pytest.raises(InputError, match=r"no <\|startoftext\|> token"):
        Tokenizer.clip(glide)
    (glide / "merges.txt").write_bytes((clip_folder / "merges.txt").read_bytes())
    with pytest.raises(InputError, match="does not belong to"):
        Tokenizer.glide(glide)
    (glide / "vocab.json").write_text("[")
    with pytest.raises(InputError, match="not JSON"):
        Tokenizer.glide(glide)
    for text, said in ("[]", "holds a list"), ('{"a": "x"}', "is 'x', expected"), ('{"a": -1}', "is -1"):
        (glide / "vocab.json").write_text(text)
        with pytest.raises(InputError, match=said):
            Tokenizer.glide(glide)
    with pytest.raises(InputError, match="no folder 'no such folder', and it is no hub id"):
        Tokenizer.glide("no such folder")


def test_a_vocabulary_comes_from_the_hub_by_its_id(tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def download(hub_id, allow_patterns, revision):
        asked.append((hub_id, allow_patterns))
        return str(write_vocabulary(tmp_path / "hub", GLIDE_MERGES))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert Tokenizer.glide("some/vocabulary").encode(["a"])[0][0, 0] == 64
    assert asked == [("some/vocabulary", ["vocab.json", "merges.txt"])]

    def offline(hub_id, allow_patterns, revision):
        raise ConnectionError("no route to host.\nand much more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(InputError, match=r"hub did not give it \(no route to host\)"):
        Tokenizer.glide("some/vocabulary")


@pytest.mark.slow
def test_long_words_are_cut_before_a_vocabulary_is_learned_from_them():
    long = "ab" * 150_000
    (text,) = _for_training([long])
    assert max(map(len, text.split())) == LONGEST_WORD and text.replace(" ", "") == long[:LONGEST_CAPTION]
    assert [*_for_training(["A red\nring" + " " * 9, "", "猫" * 200])] == [
        "a red\nring" + " " * 9,
        "",
        "猫" * 200,
    ]
    assert [*_for_training([" " * 1000 + "x"])] == [" x"]
    assert sum(map(len, _for_training(["x" * LONGEST_CAPTION] * 2000))) < MOST_TEXT * 1.01
    plain = ["a red ring", "a blue square"] * 8
    assert Tokenizer.train([*plain, long], 300, 8).encode(plain)[0].shape == (16, 8)


def test_a_caption_of_any_length_is_encoded_by_its_beginning():
    tokenizer = Tokenizer.train(["a red ring", "two blue squares"] * 8, 300, 8)
    long = "a red ring " * 100_000
    assert torch.equal(*(tokenizer.encode([text], warn=False)[0] for text in (long, long[:50_000])))
    assert not tokenizer.fits(long) and not tokenizer.fits("x" * 2_000_000)
    with pytest.warns(UserWarning, match="longer than 8 tokens"):
        tokenizer.encode(["x" * 2_000_000])


def test_halves_of_surrogate_pairs_are_text_too():
    tokenizer = Tokenizer.train(["a \ud83d red ring"], 300, 8)
    ids, _ = tokenizer.encode(["a \udcff", "a \ufffd", "\ud83d\ude00", "😀"])
    assert torch.equal(ids[0], ids[1]) and torch.equal(ids[2], ids[3])
