"""A small tokenizer of each kind, trained on given texts. Shared by the tests of offsets and of special tokens."""

from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
KINDS = ("SentencePiece unigram", "WordPiece", "byte-level BPE", "BPE with byte fallback")


def trained(kind: str, texts: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of the kind, with a vocabulary of at most 8,000 learnt from the texts."""
    if kind == "SentencePiece unigram":  # as XLM-R's; the special tokens are pieces of the vocabulary
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer: Any = trainers.UnigramTrainer(
            vocab_size=8000, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
        )
    elif kind == "WordPiece":  # as mBERT's
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=8000, special_tokens=SPECIAL, show_progress=False)
    elif kind == "byte-level BPE":  # as ModernBERT's: a character is up to four tokens
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=8000, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
        )
    else:  # as mmBERT's, which is Gemma's: rare characters fall back to their bytes, spaces are a part of the word
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
        bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(
            vocab_size=8000, special_tokens=[*SPECIAL, *bytes_], limit_alphabet=400, show_progress=False
        )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
