"""A tiny random Llama and its GGUF file, written by llama.cpp's own package."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from language_models import DECODERS, VOCABULARY, random_model
from tokenizers import pre_tokenizers

NORMAL, CONTROL, UNUSED = 1, 3, 5  # types of tokens

CONFIG = copy.deepcopy(DECODERS["llama"])
CONFIG.intermediate_size = 64  # of whole blocks of 32


def tiny_llama() -> Any:
    """A Llama whose matrices can be stored in blocks of 32 numbers."""
    return random_model(CONFIG)


def gguf_tensors(model: Any) -> dict[str, np.ndarray]:
    """The tensors of a Llama by their names in GGUF, float32.

    llama.cpp rotates neighbouring dimensions, transformers those that are half a head apart: of queries and keys, the
    rows of each head are in another order (`permute` in llama.cpp's converter).
    """
    config = model.config
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    made = {}
    for name, tensor in model.state_dict().items():
        values = tensor.float().numpy()
        named = names.get_name(name, try_suffixes=(".weight",))
        assert named is not None, name
        part = named.split(".")[-2]
        if part in heads:
            rows, columns = values.shape
            values = values.reshape(heads[part], 2, rows // heads[part] // 2, columns).swapaxes(1, 2)
            values = values.reshape(rows, columns)
        made[named] = np.ascontiguousarray(values)
    return made


def write_gguf(
    file: Path,
    tensors: Mapping[str, np.ndarray],
    quantized: str | None = None,
    architecture: str = "llama",
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write a GGUF file of the tiny Llama, with the tokenizer of bytes.

    quantized: the GGUF type of the matrices, such as "Q8_0"; None stores float32. settings: further keys.
    """
    config = CONFIG
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(VOCABULARY)
    for key, value in (settings or {}).items():
        writer.add_string(key, value)
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "ab", "<pad>", "<bos>", "<eos>"]
    unused = VOCABULARY - len(tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([*tokens, *(f"unused{number}" for number in range(unused))])
    writer.add_token_types([NORMAL] * 257 + [CONTROL] * 3 + [UNUSED] * unused)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(258)
    writer.add_eos_token_id(259)
    for name, values in tensors.items():
        if quantized is None or values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            kind = gguf.GGMLQuantizationType[quantized]
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rounded(values: np.ndarray, kind: str) -> np.ndarray:
    """The values as a GGUF type stores them, read back by the package itself."""
    quantization = gguf.GGMLQuantizationType[kind]
    return gguf.quants.dequantize(gguf.quants.quantize(values, quantization), quantization)
