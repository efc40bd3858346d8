"""Tiny random language models of each family, and decoder-style tokenizers."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MBartConfig,
    MistralConfig,
    MT5Config,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    T5GemmaConfig,
    XGLMConfig,
)

LAYERS = 3
VOCABULARY = 300  # 256 bytes, "ab", 3 special tokens, and rows that no token uses
SPECIAL = {"pad_token_id": 257, "bos_token_id": 258, "eos_token_id": 259}
# Weights ten times larger than usual: nearly uniform attention would hide a mask.
COMMON: dict[str, Any] = {"vocab_size": VOCABULARY, "initializer_range": 0.2, **SPECIAL}
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
HEADS = {"head_dim": 8}
# Gemma's sliding windows are shorter than the tests' texts; one layer sees all tokens.
WINDOWS: dict[str, Any] = {
    "sliding_window": 4,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
_T5GEMMA: dict[str, Any] = {**SIZES, **HEADS, **COMMON, **WINDOWS}

DECODERS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SIZES, **COMMON),
    "qwen2": Qwen2Config(**SIZES, **COMMON),
    "qwen3": Qwen3Config(**SIZES, **HEADS, **COMMON),
    "gemma2": Gemma2Config(**SIZES, **HEADS, **WINDOWS, **COMMON),
    "gemma3_text": Gemma3TextConfig(**SIZES, **HEADS, **WINDOWS, **COMMON),
    "mistral": MistralConfig(**SIZES, **COMMON),
    "gpt2": GPT2Config(**COMMON, n_embd=32, n_layer=LAYERS, n_head=4, n_positions=64),
    "xglm": XGLMConfig(
        vocab_size=VOCABULARY,
        **SPECIAL,
        init_std=0.2,
        d_model=32,
        num_layers=LAYERS,
        attention_heads=4,
        ffn_dim=48,
        max_position_embeddings=VOCABULARY,  # its table of positions has a row for the padding id
    ),
    "bloom": BloomConfig(**COMMON, hidden_size=32, n_layer=LAYERS, n_head=4),
}
ENCODER_DECODERS: dict[str, PreTrainedConfig] = {
    "mt5": MT5Config(
        vocab_size=VOCABULARY,
        pad_token_id=257,
        eos_token_id=259,
        decoder_start_token_id=257,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=LAYERS,
        num_heads=4,
    ),
    "mbart": MBartConfig(
        vocab_size=VOCABULARY,
        **SPECIAL,
        d_model=32,
        encoder_layers=LAYERS,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=64,
    ),
    "t5gemma": T5GemmaConfig(encoder=_T5GEMMA, decoder=_T5GEMMA, **COMMON),
}


def random_model(config: PreTrainedConfig, seed: int = 0) -> Any:
    """A random model with its output layer, or without one where the library has none for the configuration."""
    torch.manual_seed(seed)
    for auto in (AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModel):
        if type(config) in auto._model_mapping and not (config.is_encoder_decoder and auto is AutoModelForCausalLM):
            model = auto.from_config(config).eval()
            break
    # Biases and normalisations are initialised with 0 and 1, where mistakes would not show.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.2 * torch.randn_like(parameter)
    return model


def byte_tokenizer(template: str = "none") -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes and of "ab", whose spaces belong to the word after them.

    template: the special tokens that it adds; "none" as GPT-2's and Qwen's, "begin" as Llama's and Gemma's, which
    begin each text with `<bos>`, "end" as T5's and mBART's.
    """
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "ab"]
    tokenizer = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, [("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "<bos>", "<eos>"])
    trimming = processors.ByteLevel(trim_offsets=True)
    if template == "none":
        tokenizer.post_processor = trimming
    else:
        single, pair = {
            "begin": ("<bos> $A:0", "<bos> $A:0 <bos> $B:1"),
            "end": ("$A:0 <eos>", "$A:0 <eos> $B:1 <eos>"),
        }[template]
        named = [("<bos>", 258), ("<eos>", 259)]
        made = processors.TemplateProcessing(single=single, pair=pair, special_tokens=named)
        tokenizer.post_processor = processors.Sequence([trimming, made])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>")


def save_checkpoint(folder: Path, config: PreTrainedConfig, template: str = "none") -> Any:
    """Save a random model with its tokenizer, as published ones are; return the model."""
    model = random_model(config)
    model.save_pretrained(folder)
    byte_tokenizer(template).save_pretrained(folder)
    return model
