"""Answers by generation: against the library's `generate`, in batches, and what `tokenise` makes of rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PrefixTuningConfig, get_peft_model
from test_decoders import DECODERS, ENCODER_DECODERS, FAMILIES, OWN_ATTENTION, saved
from test_prompts import as_peft_stores
from test_tuning import tune
from test_words import END, START, as_tokens, tokenizer
from tiny import PADDING, VOCABULARY
from tiny import settings as tiny_settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    LogitsProcessor,
    PreTrainedTokenizerFast,
)

from workflow_scripts.core.errors import UserError
from workflow_scripts.kinds import part
from workflow_scripts.kinds.settings import TokeniseSettings
from workflow_scripts.kinds.tokens import Tokens
from workflow_scripts.tuning.batches import Batch
from workflow_scripts.tuning.device import seed_everything
from workflow_scripts.tuning.generate import continuations
from workflow_scripts.tuning.model import TunedModel, build, restore
from workflow_scripts.tuning.predict import evaluate, predict, prompts_of

CPU = torch.device("cpu")
NEW = 8
KIND = "question_answering"


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A checkpoint of each family with its output layer and a tokenizer of words."""
    made = {}
    for name in FAMILIES:
        made[name] = saved(name, tmp_path_factory.mktemp("model"))
        tokenizer("decoder" if name in DECODERS else "encoder-decoder").save_pretrained(made[name])
    return made


def words_settings(**changes: Any) -> Any:
    made = {"kind": KIND, "answers": "words", "new_tokens": NEW, "method": "none", "labels": []}
    return tiny_settings(**made | changes)


def made(folder: Path, **changes: Any) -> TunedModel:
    seed_everything(3)
    model = build(folder, words_settings(**changes), None).eval()
    with torch.no_grad():  # so that the method changes the result, whose gates and up-projections are 0 at first
        for parameter in model.tuned_parameters().values():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


def texts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [[START, *random.integers(5, VOCABULARY, length - 1).tolist()] for length in lengths]


def batch_of(prompts: list[list[int]]) -> Batch:
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), PADDING)
    mask = torch.zeros_like(ids)
    for number, prompt in enumerate(prompts):
        ids[number, : len(prompt)], mask[number, : len(prompt)] = torch.tensor(prompt), 1
    return {"input_ids": ids, "attention_mask": mask}


def ours(model: TunedModel, prompts: list[list[int]], limit: int = NEW, ends: set[int] | None = None) -> Any:
    return continuations(model, batch_of(prompts), limit, {END} if ends is None else ends, lambda _: False)


PROMPTS = texts([3, 17, 9, 9, 1, 12])


class Never(LogitsProcessor):
    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores


def theirs(model: Any, prompt: list[int], limit: int, end: int | None) -> list[int]:
    """One text by the library's greedy search, without the end token."""
    options = GenerationConfig(
        max_new_tokens=limit, do_sample=False, num_beams=1, eos_token_id=end, pad_token_id=PADDING,
        decoder_start_token_id=START, bos_token_id=START,
    )  # fmt: skip
    model.generation_config = options
    ids = torch.tensor([prompt])
    found = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=options)[0].tolist()
    new = found[1 if model.config.is_encoder_decoder else len(prompt) :]
    return new[:-1] if new and new[-1] == end else new


def library(name: str, folder: Path) -> Any:
    loader = AutoModelForCausalLM if name in DECODERS else AutoModelForSeq2SeqLM
    return loader.from_pretrained(folder, attn_implementation="eager").eval()


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_the_untuned_model_generates_what_the_library_generates(folders, name):
    """In one batch of texts of several lengths, longer than the window of those models that have one."""
    oracle, model = library(name, folders[name]), made(folders[name])
    free = ours(model, PROMPTS, ends=set())
    assert free == [theirs(oracle, prompt, NEW, None) for prompt in PROMPTS]
    assert len({tuple(text) for text in free}) > 2 and all(len(text) == NEW for text in free)
    end = free[1][3]  # so that some texts end early and others do not
    found = ours(model, PROMPTS, ends={end})
    assert found == [theirs(oracle, prompt, NEW, end) for prompt in PROMPTS]
    assert len(set(map(len, found))) > 1
