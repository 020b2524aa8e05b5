"""Small random text encoders of transformers, as folders: for tests of frozen encoders."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from support.models import CAPTIONS

WIDTH = 16
_NETWORK = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def write_encoder(folder: Path, kind: str, seed: int = 0, width: int = WIDTH) -> Path:
    """A folder with the weights, configuration and tokenizer of a random encoder, as transformers write it."""
    import transformers as t

    torch.manual_seed(seed)
    sizes: dict[str, Any] = {**_NETWORK, "hidden_size": width}
    folder.mkdir(parents=True, exist_ok=True)
    words = {"clip": _clip_words, "t5": _t5_words, "bert": _bert_words}[kind](folder)
    network: Any
    if kind == "clip":  # a whole one, whose text half is wanted
        text = {**sizes, "vocab_size": words, "max_position_embeddings": 48, "projection_dim": 8}
        ends = {"bos_token_id": words - 2, "eos_token_id": words - 1, "pad_token_id": words - 1}
        vision = {**_NETWORK, "image_size": 8, "patch_size": 4, "projection_dim": 8}
        network = t.CLIPModel(t.CLIPConfig(text_config=text | ends, vision_config=vision, projection_dim=8))
    elif kind == "t5":
        network = t.T5EncoderModel(
            t.T5Config(vocab_size=words, d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
        )
    else:
        network = t.BertModel(t.BertConfig(vocab_size=words, max_position_embeddings=48, **sizes))
    with torch.no_grad():  # nothing is small or zero, so that every weight counts
        for weight in network.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    network.save_pretrained(folder)
    return folder


def _bert_words(folder: Path) -> int:
    found = sorted({word for caption in CAPTIONS for word in caption.split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *found, *map("##{}".format, "es")]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    return len(vocabulary)


def _clip_words(folder: Path) -> int:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("r", "e"), ("re", "d</w>"), ("b", "l"), ("s", "t")]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    lines = ["#version: 0.2", *map(" ".join, merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(vocabulary)


def _t5_words(folder: Path) -> int:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CAPTIONS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"extra_ids": 0}')
    return tokenizer.get_vocab_size()
