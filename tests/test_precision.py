"""A resumed training keeps the precision that it started with, and uses a changed `micro_batch_size`."""

import json
import logging

import pytest
import torch
from test_interruption import checkpoints
from test_steps import by_hand, searching, training, workplace  # noqa: F401  (workplace is a fixture)

from workflow_scripts import search, train
from workflow_scripts.core.errors import Interrupted, UserError
from workflow_scripts.core.names import MICRO_BATCHES
from workflow_scripts.tuning import runs
from workflow_scripts.tuning.checkpoint import Checkpoint
from workflow_scripts.tuning.device import check_precision
from workflow_scripts.tuning.gradients import Gradients


class Processor:
    """A processor on which one precision is faster, and a count of how often this was measured."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.faster, self.measured = "bfloat16", 0
        monkeypatch.setattr(runs, "find_precision", self.find)

    def find(self, wanted: str, device: torch.device) -> str:
        self.measured += 1
        assert wanted == "auto"
        return self.faster


def stopped_after_saving(monkeypatch: pytest.MonkeyPatch, times: int, step, *words: object) -> None:
    """Run a step that stops after it has saved its checkpoint this many times."""
    with monkeypatch.context() as patched:
        save, saved = Checkpoint.save, []

        def save_and_stop(self: Checkpoint, *content: object) -> None:
            save(self, *content)
            saved.append(self)
            if len(saved) == times:
                raise Interrupted("stopped")

        patched.setattr(Checkpoint, "save", save_and_stop)
        with pytest.raises(Interrupted):
            by_hand(step, *words)


@pytest.mark.parametrize("began", ["bfloat16", "float32"])
def test_a_training_resumes_in_the_precision_that_it_began_with(workplace, monkeypatch, began):  # noqa: F811
    processor = Processor(monkeypatch)
    name = f"moved-{began}"
    words = training(workplace, name, 0.01, precision="auto", epochs=3)
    processor.faster = began
    stopped_after_saving(monkeypatch, 1, train, *words)
    assert checkpoints(workplace / name)
    processor.faster = "float32" if began == "bfloat16" else "bfloat16"
    by_hand(train, *words)
    record = json.loads((workplace / name / "run.json").read_text())
    assert record["precision"] == began and record["settings"]["precision"] == "auto"
    assert processor.measured == 1
    by_hand(train, *training(workplace, f"{name}-throughout", 0.01, precision=began, epochs=3))
    for file in ("weights.safetensors", "log.jsonl"):
        assert (workplace / name / file).read_bytes() == (workplace / f"{name}-throughout" / file).read_bytes()


def test_all_passes_of_a_search_that_resumes_have_the_precision_of_the_first(workplace, monkeypatch):  # noqa: F811
    processor = Processor(monkeypatch)
    passes = [[{"learning_rate": 0.01}], [{"learning_rate": 0.001}]]
    record = workplace / "moved-search" / "0.01+0.001.json"
    words = searching(workplace, "moved-search", record, passes, precision="auto", epochs=2)
    stopped_after_saving(monkeypatch, 1, search, *words)
    processor.faster = "float32"
    by_hand(search, *words)
    found = [json.loads(file.read_text())["precision"] for file in record.parent.glob("*/*/run.json")]
    assert found == ["bfloat16", "bfloat16"]


def test_a_gpu_without_the_precision_is_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old GPU")
    gpu, checkpoint = torch.device("cuda"), tmp_path / ".checkpoint-1.safetensors"
    with pytest.raises(UserError, match=r"^the training began in bfloat16, which the GPU Old GPU does not .* delete /"):
        check_precision("bfloat16", gpu, checkpoint)
    with pytest.raises(UserError, match=r"^precision: bfloat16 is not supported by the GPU Old GPU: set training\."):
        check_precision("bfloat16", gpu)
    check_precision("float32", gpu, checkpoint)
    check_precision("bfloat16", torch.device("cpu"), checkpoint)


def test_an_interrupted_training_resumes_with_another_micro_batch_size(workplace, monkeypatch, caplog):  # noqa: F811
    """The workflow passes the key in a variable, so that it is not among the settings that a rerun depends on."""
    words = training(workplace, "smaller", 0.01, epochs=3)
    stopped_after_saving(monkeypatch, 1, train, *words)
    sizes = {"xnli": {"prompt_tuning": 2, "fine_tuning": 1}, "udpos": {"prompt_tuning": 3}}
    monkeypatch.setenv(MICRO_BATCHES, json.dumps(sizes))
    seen: list[int] = []
    compute = Gradients.compute

    def watched(self, models, optimizers, parts):
        seen.append(max(map(len, parts)))
        return compute(self, models, optimizers, parts)

    monkeypatch.setattr(Gradients, "compute", watched)
    caplog.set_level(logging.INFO)
    by_hand(train, *words)
    assert "resuming after step" in caplog.text
    assert set(seen) == {2}
    assert json.loads((workplace / "smaller" / "run.json").read_text())["settings"]["micro_batch_size"] == 2
