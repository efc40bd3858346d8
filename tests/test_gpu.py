"""Tests on a real GPU: `make test MARKED=gpu`. Without a GPU they are skipped."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_decoders import saved
from test_peft import REFUSED, TYPES, settings_of
from tiny import LABELS, PADDING, random_tokens, save_encoder
from tiny import settings as tiny_settings

from workflow_scripts.core.errors import Interrupted
from workflow_scripts.experiment.catalogue import METHODS
from workflow_scripts.kinds import part
from workflow_scripts.kinds.tokens import Tokens
from workflow_scripts.tuning import gpus, gradients, loop
from workflow_scripts.tuning.acceleration.embedding import ids_in
from workflow_scripts.tuning.acceleration.recording import Recorder
from workflow_scripts.tuning.batches import collate
from workflow_scripts.tuning.checkpoint import Checkpoint
from workflow_scripts.tuning.device import find_precision, memory_peak
from workflow_scripts.tuning.loop import TrainingResult, Validated, train
from workflow_scripts.tuning.model import TunedModel, build_together
from workflow_scripts.tuning.predict import logits
from workflow_scripts.tuning.settings import TrainingSettings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
ROOT = Path(__file__).resolve().parent.parent
CPU, GPU = torch.device("cpu"), torch.device("cuda")
KINDS = tuple(LABELS)
TRAINED = [name for name, method in METHODS.items() if method.trains]
TUNED = [(name, method) for name in ("xlm-roberta", "modernbert", "Llama") for method in TRAINED]
TUNED = [one for one in TUNED if one not in (("modernbert", "bitfit"), ("Llama", "bitfit"))]  # They have no biases.
TUNED.remove(("modernbert", "llama_adapter"))  # Its query, key and value are one layer.
IN_ATTENTION = ("prompt_tuning", "llama_adapter", "prefix_plus")
TAKING_PROMPTS = ("bert", "roberta", "xlm-roberta", "xlm-roberta-xl", "electra", "modernbert", "deberta-v2", "Llama")
PROMPTED = [(name, method) for name in TAKING_PROMPTS for method in IN_ATTENTION]
PROMPTED.remove(("modernbert", "llama_adapter"))


@pytest.fixture(scope="session")
def models(encoders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny encoders, and a decoder whose heads share keys and values."""
    return encoders | {"Llama": saved("Llama", tmp_path_factory.mktemp("Llama"))}


def built(folder: Path, settings: TrainingSettings, tokens: Tokens, device: torch.device, count: int = 1) -> list[Any]:
    return [model.to(device) for model in build_together(folder, settings, ids_in(tokens), count)]


def nothing_to_validate(model: TunedModel) -> Validated:
    return Validated({"accuracy": 50.0}, 1.0)


def trained(
    folder: Path, settings: TrainingSettings, tokens: Tokens, place: Path, device: torch.device, rates=(1e-2,)
) -> TrainingResult:
    """A training from the start, or from the checkpoint that a stopped one has left in the folder."""
    models, checkpoint = built(folder, settings, tokens, device, len(rates)), Checkpoint(place, "key", every=1e9)
    outcome = train(models, tokens, settings, rates, nothing_to_validate, checkpoint, device)
    checkpoint.remove()
    return outcome


def assert_same_weights(found: TrainingResult, expected: TrainingResult, tolerance: float) -> None:
    for here, there in zip(found.outcomes, expected.outcomes, strict=True):
        assert here.weights().keys() == there.weights().keys()
        for name, tensor in there.weights().items():
            torch.testing.assert_close(here.weights()[name], tensor, rtol=tolerance, atol=tolerance, msg=name)


def unrecorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable recording."""
    monkeypatch.setattr(gradients, "Recorder", lambda device: None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "method"), PROMPTED)
def test_prompts_give_the_logits_and_gradients_of_a_cpu(models, name, method, kind):
    """On a CPU they equal PEFT's or a formula's, see tests/test_prompts.py and tests/test_adapters.py."""
    tokens, module = random_tokens(kind, 6), part(kind, "model")
    found = []
    for device in (CPU, GPU):
        (model,) = built(models[name], tiny_settings(kind=kind, method=method, prompt_std=1.0), tokens, CPU)
        if method != "prompt_tuning":  # It starts as the plain encoder.
            torch.manual_seed(3)
            with torch.no_grad():
                for parameter in model.prompts.parameters():
                    parameter.add_(0.3 * torch.randn_like(parameter))
        model.to(device)
        batch = collate(tokens, np.arange(6), PADDING, module.TARGETS, device)
        values = model.eval()(batch)
        module.loss(values, batch).backward()
        if module.LEVEL == "token":
            values = values[batch["attention_mask"].bool()]
        gradients_found = [parameter.grad.cpu() for parameter in model.prompts.parameters()]
        found.append((values.detach().cpu(), *gradients_found))
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "method"), TUNED)
def test_training_on_a_gpu_matches_training_on_a_cpu(models, tmp_path, name, method):
    assert_trained_as_on_a_cpu(models[name], tiny_settings(kind="tagging", method=method, epochs=3), tmp_path)


@pytest.mark.parametrize("name", ["xlm-roberta", "Llama"])
@pytest.mark.parametrize("peft_type", [name for name in TYPES if name not in REFUSED])
def test_training_a_type_of_peft_on_a_gpu_matches_training_on_a_cpu(models, tmp_path, name, peft_type):
    """In recorded steps, after the first few, as on any GPU."""
    assert_trained_as_on_a_cpu(models[name], settings_of(peft_type, dropout=0.0, epochs=3), tmp_path)


def assert_trained_as_on_a_cpu(folder: Path, settings: TrainingSettings, place: Path) -> None:
    """Losses and gradient norms of each epoch are the same on both devices."""
    tokens, outcomes = random_tokens("tagging", 80), []
    for device in (CPU, GPU):
        outcomes.append(trained(folder, settings, tokens, place, device, rates=[1e-3]).outcomes[0])
    for here, there in zip(outcomes[0].evaluations, outcomes[1].evaluations, strict=True):
        assert here.training_loss == pytest.approx(there.training_loss, rel=1e-3)
        assert here.gradient_norm == pytest.approx(there.gradient_norm, rel=1e-2)


@contextlib.contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "method"), TUNED)
def test_no_step_waits_for_the_gpu(models, tmp_path, monkeypatch, name, method, kind, precision):
    """Except every tenth step, which logs the loss. In between the GPU always has work in its queue."""
    settings = tiny_settings(kind=kind, method=method, precision=precision, dropout=0.1, epochs=1)
    tokens = random_tokens(kind, 64)
    unrecorded(monkeypatch)
    steps, fitted = [], loop.MicroBatches.run

    def watched(micro_batches, work, chosen):
        with waiting_is_an_error():
            steps.append(fitted(micro_batches, work, chosen))
        return steps[-1]

    clip = torch.nn.utils.clip_grad_norm_

    def watched_clip(*arguments):
        with waiting_is_an_error():
            return clip(*arguments)

    monkeypatch.setattr(loop.MicroBatches, "run", watched)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", watched_clip)
    assert trained(models[name], settings, tokens, tmp_path, GPU).state.step == 8 == len(steps)


@pytest.mark.parametrize("name", ["xlm-roberta", "Llama"])
@pytest.mark.parametrize("method", IN_ATTENTION)
def test_candidates_trained_together_equal_each_trained_alone(models, tmp_path, method, name):
    settings, rates = tiny_settings(kind="tagging", method=method), [1e-2, 1e-3, 1e-4]
    tokens = random_tokens("tagging", 40)
    together = trained(models[name], settings, tokens, tmp_path, GPU, rates)
    for outcome, rate in zip(together.outcomes, rates, strict=True):
        alone = trained(models[name], settings, tokens, tmp_path, GPU, [rate])
        assert_same_weights(TrainingResult([outcome], together.state), alone, 1e-4)


@pytest.mark.parametrize("method", ["fine_tuning", "prompt_tuning", "adapter", "prefix_plus"])
def test_a_stopped_training_resumes_to_the_same_result(encoders, tmp_path, monkeypatch, method):
    """With dropout: the GPU's random number generator is restored too."""
    settings = tiny_settings(kind="tagging", method=method, epochs=3, dropout=0.1)
    tokens, collate, calls = random_tokens("tagging", 40), gradients.collate, []

    def counted(*arguments):
        calls.append(None)
        if len(calls) == 8:
            os.kill(os.getpid(), signal.SIGTERM)
        return collate(*arguments)

    monkeypatch.setattr(gradients, "collate", counted)
    with pytest.raises(Interrupted, match="saved after step 8 of 15"):
        trained(encoders["xlm-roberta"], settings, tokens, tmp_path, GPU, [1e-3])
    resumed = trained(encoders["xlm-roberta"], settings, tokens, tmp_path, GPU, [1e-3])
    whole = trained(encoders["xlm-roberta"], settings, tokens, tmp_path, GPU, [1e-3])
    assert resumed.state.step == whole.state.step == 15
    # Not bit for bit: a GPU's order of summation is not deterministic.
    for here, there in zip(resumed.outcomes[0].evaluations, whole.outcomes[0].evaluations, strict=True):
        assert here.training_loss == pytest.approx(there.training_loss, rel=1e-4)
        assert here.gradient_norm == pytest.approx(there.gradient_norm, rel=1e-3)


@pytest.mark.parametrize("share", [0.7, 1.2], ids=["not the batch", "not the batch and its recording"])
def test_a_batch_that_does_not_fit_on_the_gpu_is_split_with_the_same_weights(
    encoders, tmp_path, monkeypatch, caplog, share
):
    settings, tokens = tiny_settings(kind="tagging", batch_size=2048, epochs=3), random_tokens("tagging", 4096)
    with monkeypatch.context() as patch:
        unrecorded(patch)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(GPU)
        # cuBLAS keeps a workspace of 65 MiB for each stream that an earlier test recorded on.
        resting = torch.cuda.memory_allocated(GPU)
        whole = trained(encoders["xlm-roberta"], settings, tokens, tmp_path, GPU)
    needed, total = 2**20 * memory_peak(GPU) - resting, torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((resting + share * needed) / total)
    try:
        parts = trained(encoders["xlm-roberta"], settings, tokens, tmp_path, GPU)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    if share < 1:
        assert "out of memory with 2048 features per micro-batch; continuing with 1024" in caplog.text
        assert parts.state.micro_batch_size and parts.state.micro_batch_size < 2048 == whole.state.micro_batch_size
    assert_same_weights(parts, whole, 1e-4)


# Recordings


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "method"), TUNED)
def test_recorded_steps_equal_eager_steps(models, tmp_path, monkeypatch, name, kind, method):
    settings = tiny_settings(kind=kind, method=method, epochs=4)
    tokens, made = random_tokens(kind, 80), []

    def kept(device: torch.device) -> Recorder:
        made.append(Recorder(device))
        return made[-1]

    monkeypatch.setattr(gradients, "Recorder", kept)
    recorded = trained(models[name], settings, tokens, tmp_path, GPU, [1e-3]).outcomes[0]
    assert made[0].records and 2 <= len(made[0].recordings) <= 3
    unrecorded(monkeypatch)
    plain = trained(models[name], settings, tokens, tmp_path, GPU, [1e-3]).outcomes[0]
    for here, there in zip(recorded.evaluations, plain.evaluations, strict=True):
        assert here.training_loss == pytest.approx(there.training_loss, rel=1e-3)
        assert here.gradient_norm == pytest.approx(there.gradient_norm, rel=1e-2)


def test_a_candidate_that_diverges_does_not_change_the_recorded_others(encoders, tmp_path):
    settings, tokens = tiny_settings(kind="tagging", epochs=4), random_tokens("tagging", 80)
    together = trained(encoders["xlm-roberta"], settings, tokens, tmp_path, GPU, [1e30, 1e-2])
    alone = trained(encoders["xlm-roberta"], settings, tokens, tmp_path, GPU, [1e-2])
    assert together.outcomes[0].diverged
    assert_same_weights(TrainingResult(together.outcomes[1:], alone.state), alone, 1e-4)


def test_each_replay_draws_new_dropout_masks():
    recorder, ones = Recorder(GPU), {"ones": torch.ones(100_000, device=GPU)}
    drawn = [
        recorder.run(lambda batch: torch.nn.functional.dropout(batch["ones"], 0.5), ones, "work") for _ in range(5)
    ]
    assert len(recorder.recordings) == 1
    for number, mask in enumerate(drawn):
        assert mask.count_nonzero().item() == pytest.approx(50_000, abs=1_000)
        assert not any(torch.equal(mask, other) for other in drawn[:number])


def test_a_replay_reads_the_batch_that_it_is_given():
    recorder = Recorder(GPU)
    batches = [{"values": torch.arange(4, device=GPU) + number} for number in range(4)]
    results = [recorder.run(lambda batch: batch["values"] * 2, batch, "work") for batch in batches]
    assert len(recorder.recordings) == 1
    assert [result.tolist() for result in results] == [[2 * (at + number) for at in range(4)] for number in range(4)]


def test_a_function_that_cannot_be_recorded_runs_eagerly(caplog):
    recorder, batch = Recorder(GPU), {"values": torch.arange(4, device=GPU)}
    results = [recorder.run(lambda batch: batch["values"] * int(batch["values"][1]), batch, "work") for _ in range(4)]
    assert [result.tolist() for result in results] == [[0, 1, 2, 3]] * 4
    assert caplog.text.count("since a step cannot be recorded") == 1
    torch.rand(3, device=GPU)


# Predictions


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["xlm-roberta", "Llama"])
def test_predictions_are_those_of_a_cpu(models, name, kind):
    tokens, values = random_tokens(kind, 200), []
    for device in (CPU, GPU):
        (model,) = built(models[name], tiny_settings(kind=kind), tokens, device)
        values.append(logits(model, tokens, tiny_settings(kind=kind).precision, device))
    for here, there in zip(*values, strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["fine_tuning", "adapter", *IN_ATTENTION])
def test_a_compiled_encoder_is_trained_to_the_same_losses(encoders, tmp_path, method):
    tokens, losses = random_tokens("tagging", 80), []
    for compiled in (False, True):
        settings = tiny_settings(kind="tagging", method=method, compile=compiled, epochs=1)
        outcome = trained(encoders["xlm-roberta"], settings, tokens, tmp_path, GPU, [1e-3]).outcomes[0]
        losses.append(outcome.evaluations[0].training_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_the_automatic_precision_is_the_faster_one_on_this_gpu():
    has = torch.cuda.get_device_capability(GPU) >= (8, 0)
    assert find_precision("auto", GPU) == ("bfloat16" if has else "float32")


def test_a_job_waits_for_the_gpu_that_another_holds(tmp_path):
    """Two processes on a machine whose only GPU is the first of those that `nvidia-smi` names."""
    program = (
        "import sys, time; from workflow_scripts.tuning.device import find_device; device = find_device();"
        " import torch; torch.ones(1, device=device); started = time.monotonic(); time.sleep(2);"
        " print(torch.cuda.device_count(), started, time.monotonic())"
    )
    alone = {name: value for name, value in os.environ.items() if name not in (*gpus.SCHEDULER_VARIABLES, gpus.CLAIMED)}
    alone |= {gpus.VISIBLE: gpus.installed_gpus()[0], "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    jobs = [
        subprocess.Popen([sys.executable, "-c", program], env=alone, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = sorted((job.communicate(timeout=120)[0].split() for job in jobs), key=lambda words: float(words[1]))
    assert [words[0] for words in outputs] == ["1", "1"]
    assert float(outputs[1][1]) >= float(outputs[0][2])


def test_the_memory_that_is_reported_is_the_gpus(tmp_path):
    folder = save_encoder(tmp_path, "xlm-roberta")
    tokens = random_tokens("tagging", 8)
    (model,) = built(folder, tiny_settings(kind="tagging"), tokens, GPU)
    logits(model, tokens, tiny_settings(kind="tagging").precision, GPU)
    torch.cuda.reset_peak_memory_stats(GPU)
    before = memory_peak(GPU)
    torch.empty(100 * 2**20, dtype=torch.uint8, device=GPU)
    assert before < memory_peak(GPU) <= before + 110
