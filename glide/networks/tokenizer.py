"""Captions to token ids: byte-level BPE in GLIDE's form and in CLIP's, with padding, mask and truncation.

N captions, L tokens (the context).
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as BPE
from torch import Tensor

from glide.utils import errors as errors
from glide.utils.atomic_write import atomic_path
from glide.utils.captions import encodable
from glide.utils.errors import InputError
from glide.utils.filesystem import read_bytes
from glide.utils.hub import hub_folder
from glide.utils.json_files import as_table, parse_json, read_table
from glide.utils.numbers import shown_number
from glide.utils.printable import beginning

GLIDE_PAD = 50256
CLIP_START, CLIP_END = "<|startoftext|>", "<|endoftext|>"
CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
BYTES = 256
MOST_BYTES = 2**26  # of a tokenizer's file; GPT-2's have 1 MB
SHOWN = 120  # characters of a caption in a message
LONGEST_WORD = 256  # characters; longer runs are cut, in training alone
LONGEST_CAPTION = 2**15  # characters that are looked at, far more than a context holds
MOST_TEXT = 2**25  # characters of all captions that a vocabulary is learned from
LONG_WORD, LONG_SPACE = re.compile(rf"\S{{{LONGEST_WORD}}}(?=\S)"), re.compile(rf"\s{{{LONGEST_WORD},}}")

_COMPATIBILITY = [0x132, 0x133, 0x149, *range(0x1C4, 0x1CD), *range(0x1F1, 0x1F4), *range(0xFB00, 0xFB07)]
_COMPATIBILITY += [0x3000, *range(0xFF01, 0xFFF0)]
PLAIN = {c: unicodedata.normalize("NFKC", chr(c)) for c in _COMPATIBILITY}
PLAIN |= dict.fromkeys([0x2BC, *range(0x2018, 0x201C)], "'") | dict.fromkeys(range(0x201C, 0x2020), '"')


class Tokenizer:
    """Turns captions into a padded batch of token ids. Context and padding travel in `tokenizer.json`.

    context: L, the number of tokens in every row.
    pad: the id that fills a row up; the mask, not the id, says what is padding.
    n_vocab: number of ids, the pad id included: the size of an embedding table.
    """

    def __init__(self, tokenizer: BPE, context: int, pad: int) -> None:
        reserved = tokenizer.num_special_tokens_to_add(False)
        if context <= reserved:
            raise InputError(
                f"a context of {context} tokens leaves no room for text: give at least {reserved + 1}"
            )
        self.context = context
        self.pad = pad
        self._bpe = tokenizer
        # CLIP's captions are the ones between a start and an end token, and they are cleaned of HTML first.
        self._is_clip = reserved > 0
        self._bpe.enable_truncation(context)
        self._bpe.enable_padding(
            pad_id=pad, pad_token=tokenizer.id_to_token(pad) or "<|pad|>", length=context
        )

    @property
    def n_vocab(self) -> int:
        return max(self._bpe.get_vocab_size(), self.pad + 1)

    def encode(self, texts: Iterable[str], warn: bool = True) -> tuple[Tensor, Tensor]:
        """Captions as (tokens [N, L] int64, mask [N, L] bool); the mask is True where a token is real.

        Text is lower-cased. The empty caption has an all-False mask (with CLIP: start and end token only).
        A caption longer than the context is cut, and with `warn` a UserWarning names what was lost.
        """
        if isinstance(texts, str):
            raise InputError(
                f"got one caption, {beginning(texts, SHOWN)!r}, expected a list of them: put it in brackets"
            )
        cleaned = [self._clean(text) for text in texts]
        rows = [self._bpe.encode(text) for text in cleaned]
        for text, row in zip(cleaned, rows, strict=True):
            if warn and row.overflowing:
                kept = max((end for _, end in row.offsets), default=0)
                cut = beginning(text[kept:].strip(), SHOWN)
                errors.warn(
                    f"the caption is longer than {self.context} tokens: cut off {cut!r}", stacklevel=2
                )
        tokens = torch.tensor([row.ids for row in rows], dtype=torch.int64).view(-1, self.context)
        mask = torch.tensor([row.attention_mask for row in rows], dtype=torch.bool).view(-1, self.context)
        return tokens, mask

    def fits(self, text: str) -> bool:
        """True if the context holds all of a caption."""
        return not self._bpe.encode(self._clean(text)).overflowing

    def _clean(self, text: str) -> str:
        if not isinstance(text, str):
            raise InputError(f"a caption must be text, got {type(text).__name__}: {text!r}")
        # the time to encode grows with the whole text, of which the context takes the beginning
        text = encodable(text[: max(LONGEST_CAPTION, 64 * self.context)])
        return self._normalized(text)

    def _normalized(self, text: str) -> str:
        """A caption as it is cut into tokens."""
        # Python's lower(), not the library's normalizer: it knows the Greek final sigma, as the originals do.
        return (_clean_clip(text) if self._is_clip else text).lower()

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; padding and special tokens are left out, unknown ids are ignored."""
        return self._bpe.decode([i for i in ids if i != self.pad], skip_special_tokens=True).strip()

    def save(self, path: str | Path) -> None:
        """Write `tokenizer.json`, readable by the `tokenizers` library too, whole or not at all."""
        with atomic_path(path) as temporary:
            temporary.write_text(self._bpe.to_str(pretty=True) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read what `save` wrote; InputError if the file is missing, damaged or states no context."""
        text = _read(Path(path))
        _check_plain(as_table(parse_json(text, path), path), path)
        try:
            tokenizer = BPE.from_str(text)
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"{path} is not a tokenizer file ({error}): give a tokenizer.json") from None
        truncation, padding = tokenizer.truncation, tokenizer.padding
        if truncation is None or padding is None:
            raise InputError(
                f"{path} states no context length and padding: give a tokenizer.json of this toolkit"
            )
        return cls(tokenizer, truncation["max_length"], padding["pad_id"])

    @classmethod
    def train(cls, captions: Iterable[str], vocab_size: int, context: int) -> Tokenizer:
        """A byte-level BPE learned from captions: it encodes any text; the same captions give the same file.

        vocab_size: number of ids at most, 256 bytes and the pad id (the last one) included, so at least 257.
        """
        if vocab_size <= BYTES:
            raise InputError(
                f"a vocabulary of {vocab_size} is too small: bytes and padding alone need {BYTES + 1}"
            )
        tokenizer = _byte_level(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - 1,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(_for_training(captions), trainer)
        return cls(tokenizer, context, pad=tokenizer.get_vocab_size())

    @classmethod
    def glide(cls, folder: str | Path, context: int = 128) -> Tokenizer:
        """GLIDE's own tokenizer from a folder or hub id with `vocab.json` and `merges.txt` (50257 ids)."""
        vocab, merges = _read_vocabulary(folder)
        return cls(_byte_level(models.BPE(vocab=vocab, merges=merges)), context, pad=GLIDE_PAD)

    @classmethod
    def clip(cls, folder: str | Path, context: int = 77) -> Tokenizer:
        """CLIP's tokenizer from a folder or hub id with `vocab.json` and `merges.txt` (49408 ids).

        HTML entities are resolved and white space folded; every row is start, text, end, then zeros; a
        caption that is too long is cut before its end token.
        """
        vocab, merges = _read_vocabulary(folder)
        missing = [token for token in (CLIP_START, CLIP_END) if token not in vocab]
        if missing:
            raise InputError(f"the vocabulary in {folder} has no {missing[0]} token: give CLIP's vocabulary")
        tokenizer = BPE(models.BPE(vocab=vocab, merges=merges, end_of_word_suffix="</w>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("</w>", " ")])
        tokenizer.add_special_tokens(
            [AddedToken(CLIP_START, special=True), AddedToken(CLIP_END, special=True)]
        )
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{CLIP_START} $A {CLIP_END}",
            special_tokens=[(token, vocab[token]) for token in (CLIP_START, CLIP_END)],
        )
        return cls(tokenizer, context, pad=0)


def _byte_level(model: models.BPE) -> BPE:
    """A BPE over the bytes of words, a word being one with the space before it."""
    tokenizer = BPE(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _for_training(captions: Iterable[str]) -> Iterator[str]:
    """The text that a vocabulary is learned from. The time to learn from a word grows with its length squared."""
    left = MOST_TEXT
    for caption in captions:
        text = encodable(caption[: min(LONGEST_CAPTION, left)]).lower()
        left -= len(text)
        yield text if len(text) <= LONGEST_WORD else LONG_WORD.sub(r"\g<0> ", LONG_SPACE.sub(" ", text))
        if left <= 0:
            return


def _clean_clip(text: str) -> str:
    """CLIP's cleaning: HTML resolved (twice, as in the original), plain quotes, no ligatures, full-width forms
    or control characters, white space folded. Mojibake, which the original also repairs, is left as it is."""
    text = html.unescape(html.unescape(text)).translate(PLAIN)
    text = "".join(c for c in text if c.isspace() or unicodedata.category(c) != "Cc")
    return " ".join(unicodedata.normalize("NFC", text).split())


def _read_vocabulary(folder: str | Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The two files of a BPE vocabulary: id of each token, and the merges in order of rank."""
    names = ["vocab.json", "merges.txt"]
    folder = folder if Path(folder).is_dir() else hub_folder(str(folder), names)
    vocab_path, merges_path = (Path(folder) / name for name in names)
    vocab = read_table(vocab_path, "a BPE vocabulary")
    for token, number in vocab.items():
        if type(number) is not int or not 0 <= number < 2**31:
            raise InputError(
                f"the id of {beginning(token, SHOWN)!r} in {vocab_path} is {shown_number(number)}, expected a whole "
                "number from 0: give a BPE vocabulary"
            )
    merges = [tuple(line.split(" ")) for line in _read(merges_path).split("\n") if line.strip()]
    merges = merges[1:] if merges and merges[0][0] == "#version:" else merges
    bad = next((m for m in merges if len(m) != 2 or m[0] + m[1] not in vocab), None)
    if bad is not None:
        raise InputError(
            f"{merges_path} does not belong to {vocab_path.name} (merge {bad}): give a matching pair"
        )
    return vocab, [(a, b) for a, b in merges]


def _check_plain(tokenizer: Mapping[str, Any], path: str | Path) -> None:
    """InputError for what this toolkit's tokenizers never hold, and what a regular expression could take for ever."""
    model = tokenizer.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE" or tokenizer.get("normalizer") is not None:
        raise InputError(
            f"{path} is not a byte-level BPE without a normalizer: give a tokenizer.json of this toolkit"
        )
    _check_merges(model, path)
    inside: list[Any] = [tokenizer.get(part) for part in ("pre_tokenizer", "post_processor", "decoder")]
    while inside:
        value = inside.pop()
        if isinstance(value, dict):
            if value.get("Regex", CLIP_WORDS) != CLIP_WORDS:
                raise InputError(
                    f"{path} cuts captions by a pattern of its own: give a tokenizer.json of this toolkit"
                )
            inside += value.values()
        elif isinstance(value, list):
            inside += value


def _check_merges(model: Mapping[str, Any], path: str | Path) -> None:
    """InputError for a merge whose parts or result the vocabulary lacks: the library can abort on it."""
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list) or model.get("continuing_subword_prefix"):
        raise InputError(
            f"{path} is not a byte-level BPE with a vocabulary and merges: give a tokenizer.json of this toolkit"
        )
    for merge in merges:
        parts = merge.split(" ") if isinstance(merge, str) else merge
        whole = isinstance(parts, list) and len(parts) == 2 and all(isinstance(part, str) for part in parts)
        if not whole or any(token not in vocab for token in (*parts, "".join(parts))):
            raise InputError(
                f"{path} has the merge {shown_number(merge)}, expected two tokens that its vocabulary holds, also as "
                "one: give a whole file"
            )


def _read(path: Path) -> str:
    try:
        return read_bytes(path, MOST_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {path} ({error}): check the path") from None
