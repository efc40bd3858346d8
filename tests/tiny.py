"""Encoders, token folders and settings small enough to train in a test. Shared by the tests of tuning and of the steps.

The encoders are random, with weights ten times larger than the usual initialisation: nearly uniform attention would
hide a wrong mask or a prompt in the wrong layer.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    CONFIG_MAPPING,
    AlbertConfig,
    AutoModel,
    BertConfig,
    CamembertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedConfig,
    RobertaConfig,
    XLMRobertaConfig,
    XLMRobertaXLConfig,
)

from workflow_scripts.core.files import write_json
from workflow_scripts.encoders.sources import MANIFEST, describe
from workflow_scripts.experiment.catalogue import METHODS
from workflow_scripts.kinds import part
from workflow_scripts.kinds.protocol import Columns
from workflow_scripts.kinds.tokens import Tokens, in_memory
from workflow_scripts.tuning.backbone import attention, deberta
from workflow_scripts.tuning.settings import TrainingSettings

VOCABULARY = 80
PADDING = 1
POSITIONS = 60
LABELS: dict[str, list[str]] = {
    "classification": ["yes", "no", "maybe"],
    "tagging": ["NOUN", "VERB", "X", "PUNCT"],
    "question_answering": [],
    "entities": ["PER", "LOC"],
    "multiple_choice": [],
    "regression": ["0", "5"],
}

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": PADDING,
    "initializer_range": 0.2,
}
SPECIAL = {"bos_token_id": 0, "cls_token_id": 0, "eos_token_id": 2, "sep_token_id": 2}

# Two of ModernBERT's three layers look at the four neighbours on each side only.
CONFIGURATIONS: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(**SIZES),
    "roberta": RobertaConfig(**SIZES),
    "xlm-roberta": XLMRobertaConfig(**SIZES),
    "xlm-roberta-xl": XLMRobertaXLConfig(**SIZES),
    "camembert": CamembertConfig(**SIZES),
    "electra": ElectraConfig(**SIZES, embedding_size=24),
    "modernbert": ModernBertConfig(**SIZES, **SPECIAL, local_attention=8),
    "distilbert": DistilBertConfig(
        **{key: SIZES[key] for key in ("vocab_size", "max_position_embeddings", "pad_token_id", "initializer_range")},
        dim=32,
        n_layers=3,
        n_heads=4,
        hidden_dim=48,
    ),
    "deberta-v2": DebertaV2Config(**SIZES, relative_attention=True, pos_att_type=["p2c", "c2p"]),
    "albert": AlbertConfig(**SIZES, embedding_size=24),
    "mpnet": MPNetConfig(**SIZES),
}


def outputs_of(kind: str) -> int:
    """How many numbers a head gives for the labels of `settings`."""
    outputs: int = part(kind, "model").outputs(LABELS[kind])
    return outputs


def level_of(kind: str) -> str:
    """What the head reads, "sequence" or "token"."""
    level: str = part(kind, "model").LEVEL
    return level


def of_type(model_type: str, **changes: Any) -> Any:
    """A random encoder of any type in transformers, with our attention."""
    torch.manual_seed(0)
    config = CONFIG_MAPPING[model_type](**SIZES | SPECIAL | changes)
    return deberta.use_attention(AutoModel.from_config(config, attn_implementation=attention.NAME)).eval()


def save_encoder(folder: Path, name: str, seed: int = 0) -> Path:
    """A random encoder of the architecture as `fetch_encoder` leaves one: checkpoint and record. Returns the folder."""
    torch.manual_seed(seed)
    model = AutoModel.from_config(CONFIGURATIONS[name])
    # Biases and normalisations are initialised with 0 and 1, where mistakes would not show.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    write_json(folder / MANIFEST, describe(name, {"source": "folder"}, folder) | {"kind": "encoder"})
    return folder


def settings(**changes: Any) -> TrainingSettings:
    """The merged settings of a training, as `train` gets them; fine-tuning has no prompts."""
    kind = changes.get("kind", "classification")
    tasks = {"classification": "xnli", "tagging": "udpos", "question_answering": "xquad"}
    made: dict[str, Any] = {
        "encoder": "tiny",
        "task": tasks.get(kind, kind),
        "kind": kind,
        "labels": LABELS[kind],
        "source": "en",
        "method": "prompt_tuning",
        "prompt_length": 4,
        "prompt_std": 0.02,
        "prompt_depth": None,
        "prompt_projection": None,
        "lora_rank": 4,
        "lora_alpha": 8.0,
        "lora_dropout": 0.0,
        "lora_targets": None,
        "adapter_placement": "houlsby",
        "adapter_width": 6,
        "max_length": 32,
        "seed": 7,
        "epochs": 2,
        "batch_size": 8,
        "micro_batch_size": None,
        "schedule": "linear",
        "decay": 0.95,
        "warmup": 0.0,
        "weight_decay": 0.0,
        "gradient_clipping": 1.0,
        "dropout": 0.0,
        "keep": "last",
        "precision": "float32",
        "quantise": None,
        "compile": False,
        "gradient_checkpointing": False,
        "attention": "pretrained",
        "answers": "head",
        "sentence_vector": "pooler",
    } | changes
    has_prompts = made["method"] in METHODS and METHODS[made["method"]].has_prompts
    return TrainingSettings(**made if has_prompts else made | {"prompt_length": 0})


def random_columns(kind: str, features: int, seed: int = 0, longest: int = 20) -> Columns:
    """Features of 5 to `longest` tokens whose targets can be learnt from single tokens.

    A row a feature; of multiple choice, 2 to 5 features a row.

    Ids from 5 on: below are special tokens. The last fifth of the vocabulary never occurs.
    """
    random = np.random.default_rng(seed)
    lengths = random.integers(5, longest + 1, features)
    texts = [[0, *random.integers(5, VOCABULARY * 4 // 5, length - 2).tolist(), 2] for length in lengths]
    columns: Columns = {"row": list(range(features)), "input_ids": texts}
    if kind == "classification":
        columns["label"] = [text[1] % 3 for text in texts]
    elif kind == "regression":
        columns["score"] = [float(text[1] % 4) / 3 for text in texts]
    elif kind == "multiple_choice":
        columns |= random_choices(texts, random)
    elif kind in ("tagging", "entities"):
        tags = 4 if kind == "tagging" else 5
        columns["word"] = [[-1, *range(len(text) - 2), -1] for text in texts]
        columns["labels"] = [[-100, *(token % tags for token in text[1:-1]), -100] for text in texts]
    else:
        columns["start"] = [int(np.argmax(text[1:-1])) + 1 for text in texts]
        columns["end"] = columns["start"]
        columns["offset_start"] = [[-1, *range(len(text) - 2), -1] for text in texts]
        columns["offset_end"] = [[-1, *range(1, len(text) - 1), -1] for text in texts]
    return columns


def random_choices(texts: list[list[int]], random: np.random.Generator) -> Columns:
    """The features as the choices of rows, 2 to 5 a row; the correct one has the highest first token."""
    columns: Columns = {"row": [], "choice": [], "correct": []}
    while len(columns["row"]) < len(texts):
        first = len(columns["row"])
        left = len(texts) - first
        count = left if left <= 5 else int(random.integers(2, min(5, left - 2) + 1))
        starts = [text[1] for text in texts[first : first + count]]
        columns["row"] += [columns["row"][-1] + 1 if first else 0] * count
        columns["choice"] += range(count)
        columns["correct"] += [int(place == int(np.argmax(starts))) for place in range(count)]
    return columns


def random_tokens(kind: str, features: int, seed: int = 0, longest: int = 20) -> Tokens:
    """`random_columns` as tokens."""
    return in_memory(random_columns(kind, features, seed, longest))
