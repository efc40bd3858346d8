"""An exported model is the run's model: stock libraries load it, without this project, and its logits are the same."""

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from language_models import DECODERS, save_checkpoint
from paper_tasks import mini_rows
from peft import PeftConfig
from safetensors.torch import save_file
from tiny import CONFIGURATIONS, LABELS
from tiny import settings as tiny_settings
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast
from upload_server import TOKEN, UploadServer

from workflow_scripts import export
from workflow_scripts.core.errors import UserError
from workflow_scripts.core.files import read_json, write_json
from workflow_scripts.encoders.sources import MANIFEST, describe
from workflow_scripts.kinds import part
from workflow_scripts.kinds.settings import TokeniseSettings
from workflow_scripts.kinds.tokenizer import load_tokenizer
from workflow_scripts.publishing import onnx_file
from workflow_scripts.publishing.export import Export, default_folder, export_run, read_export
from workflow_scripts.publishing.hub import push
from workflow_scripts.publishing.own import expression
from workflow_scripts.tuning.device import seed_everything
from workflow_scripts.tuning.finished import FinishedRun
from workflow_scripts.tuning.model import build, load_run
from workflow_scripts.tuning.predict import logits

CPU = torch.device("cpu")
MAX_LENGTH = 40
LOADER = Path(__file__).with_name("load_exports.py")
DORA = {"peft_type": "LORA", "use_dora": True}

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # PEFT asks for it


@dataclass(frozen=True)
class Cell:
    """A model to export, what must load it, and with which class."""

    encoder: str
    method: str
    loads_with: str
    kind: str = "classification"
    merge: bool = False
    pairs: bool = True
    changes: dict[str, Any] = field(default_factory=dict)


CELLS = {
    "fine-tuning": Cell("xlm-roberta", "fine_tuning", "transformers"),
    "fine-tuning, BERT": Cell("bert", "fine_tuning", "transformers", pairs=False),
    "fine-tuning, tags": Cell("xlm-roberta", "fine_tuning", "transformers", "tagging"),
    "fine-tuning, answers": Cell("bert", "fine_tuning", "transformers", "question_answering"),
    "fine-tuning, mean": Cell("xlm-roberta", "fine_tuning", "load.py", changes={"sentence_vector": "mean"}),
    "fine-tuning, decoder": Cell("llama", "fine_tuning", "load.py"),
    "fine-tuning, decoder, tags": Cell("llama", "fine_tuning", "transformers", "tagging"),
    "BitFit, score": Cell("xlm-roberta", "bitfit", "transformers", "regression"),
    "probe": Cell("bert", "linear_probe", "transformers"),
    "probe, first token": Cell("bert", "linear_probe", "load.py", changes={"sentence_vector": "first_token"}),
    "LoRA": Cell("xlm-roberta", "lora", "peft"),
    "LoRA, choices": Cell("bert", "lora", "peft", "multiple_choice"),
    "LoRA, answers": Cell("xlm-roberta", "lora", "peft", "question_answering"),
    "LoRA, entities": Cell("bert", "lora", "peft", "entities"),
    "LoRA, also in the pooler": Cell("xlm-roberta", "lora", "load.py", changes={"lora_targets": ["dense"]}),
    "LoRA, decoder": Cell("llama", "lora", "load.py"),
    "LoRA, decoder without a causal mask": Cell(
        "llama", "lora", "peft", "tagging", changes={"attention": "bidirectional"}
    ),
    "LoRA, merged": Cell("xlm-roberta", "lora", "transformers", merge=True),
    "(IA)3, merged": Cell("xlm-roberta", "ia3", "transformers", merge=True, changes={"peft": {"peft_type": "IA3"}}),
    "LoRA, decoder, merged": Cell("llama", "lora", "load.py", merge=True),
    "DoRA": Cell("bert", "dora", "peft", changes={"peft": DORA}),
    "prompts": Cell("xlm-roberta", "prompt_tuning", "peft"),
    "prompts, tags": Cell("bert", "prompt_tuning", "peft", "tagging"),
    "prompts, last layers": Cell("bert", "prompt_tuning", "load.py", changes={"prompt_depth": 2}),
    "prompts, decoder": Cell("llama", "prompt_tuning", "load.py"),
    "prompts, encoder without a cache": Cell("modernbert", "prompt_tuning", "load.py"),
    "input prompts": Cell("bert", "input_prompt_tuning", "load.py"),
    "input prompts, tags": Cell("xlm-roberta", "input_prompt_tuning", "peft", "tagging"),
    "adapters": Cell("xlm-roberta", "adapter", "load.py"),
    "adapters, parallel": Cell("llama", "adapter", "load.py", "tagging", changes={"adapter_placement": "parallel"}),
    "LLaMA-Adapter": Cell("xlm-roberta", "llama_adapter", "load.py"),
    "LLaMA-Adapter, decoder": Cell("llama", "llama_adapter", "load.py"),
    "Prefix-Tuning+": Cell("bert", "prefix_plus", "load.py", "tagging"),
}


def encoder_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of bytes with the special tokens of XLM-R, at their ids."""
    special = ["<s>", "<pad>", "</s>"]
    pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **named)


def save_encoder(folder: Path, name: str) -> None:
    """A tiny random encoder with a tokenizer, as `fetch_encoder` leaves one."""
    if name in DECODERS:
        save_checkpoint(folder, DECODERS[name], "begin")
    else:
        config = copy.deepcopy(CONFIGURATIONS[name])
        config.vocab_size = 300
        torch.manual_seed(0)
        model = AutoModel.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:  # biases and normalisations, initialised with 0 and 1
                    parameter += 0.2 * torch.randn_like(parameter)
        model.save_pretrained(folder)
        encoder_tokenizer().save_pretrained(folder)
    write_json(folder / MANIFEST, describe(name, {"source": "folder"}, folder))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


def finished_run(place: Path, name: str, cell: Cell) -> FinishedRun:
    """A run of a model whose tuned parameters are all large enough to have an effect."""
    encoder = place / "encoders" / cell.encoder
    if not encoder.is_dir():
        save_encoder(encoder, cell.encoder)
    settings = tiny_settings(kind=cell.kind, method=cell.method, max_length=MAX_LENGTH, **cell.changes)
    seed_everything(3)
    model = build(encoder, settings, touched=torch.arange(5, 150))
    with torch.no_grad():
        for parameter in model.tuned_parameters().values():
            parameter.add_(0.3 * torch.randn_like(parameter))
    folder = place / "results" / cell.encoder / settings.task / "en" / re.sub(r"\W+", "_", name) / "seed-7"
    folder.mkdir(parents=True)
    save_file(model.tuned_tensors(), folder / "weights.safetensors")
    write_json(folder / "run.json", {"settings": settings.as_json()})
    stride = 8 if cell.kind == "question_answering" else None
    subword = "first" if cell.kind in ("tagging", "entities") else None
    tokenising = TokeniseSettings(
        task=settings.task,
        kind=cell.kind,
        labels=settings.labels,
        split="validation",
        max_length=MAX_LENGTH,
        stride=stride,
        labelled_subword=subword,
    )
    return FinishedRun(
        folder=folder,
        results=place / "results",
        record={},
        settings=settings,
        encoder=encoder,
        tokenising=tokenising,
        rows=folder / "no rows",
        corpus={},
    )


def texts_of(cell: Cell) -> list[list[str]]:
    """Real texts of several lengths and scripts, alone or in pairs; empty for a kind whose head reads every token."""
    if part(cell.kind, "model").LEVEL == "token":
        return []
    rows = [row for language in ("en", "de", "zh") for row in mini_rows("pawsx", language, "test", 4)]
    pieces = [rows[place]["text"][: 3 + 3 * place] for place in range(6)]  # shorter than `MAX_LENGTH`: with padding
    texts = [pieces + [row["text"] for row in rows]]
    return texts + ([["Ja."] * len(pieces) + [row["text_pair"] for row in rows]] if cell.pairs else [])


def batch_of(run: FinishedRun, cell: Cell) -> dict[str, torch.Tensor]:
    """Real rows as tokens for the run's model."""
    texts, tokenizer = texts_of(cell), load_tokenizer(run.encoder)
    tokenizer.pad_token = "<pad>"
    if texts:
        options = {"padding": True, "truncation": True, "max_length": MAX_LENGTH, "return_tensors": "pt"}
        batch = dict(tokenizer(*texts, **options))
        assert not batch["attention_mask"].all()
        return batch
    task = {"tagging": "udpos", "question_answering": "xquad"}.get(cell.kind, "udpos")
    rows = [row for language in ("en", "de") for row in mini_rows(task, language, "test", 4)]
    if cell.kind == "entities":
        rows = [{**row, "tags": ["O"] * len(row["tags"])} for row in rows]
    else:
        rows = [{**row, "tags": ["X"] * len(row.get("tags", []))} for row in rows]
    columns, _ = part(cell.kind, "model").tokenise(rows, tokenizer, run.tokenising.changed(split="test"))
    ids = {name: columns[name] for name in ("input_ids", "token_type_ids") if name in columns}
    batch = dict(tokenizer.pad(ids, return_tensors="pt"))
    assert not batch["attention_mask"].all()
    return batch


@pytest.fixture(scope="module")
def exported(place) -> dict[str, Export]:
    """Every cell, exported, with what the run's model computes on real rows beside it."""
    made = {}
    for name, cell in CELLS.items():
        run = finished_run(place, name, cell)
        made[name] = export_run(run, default_folder(run), cell.merge)
        model, _ = load_run_on(run)
        batch = batch_of(run, cell)
        with torch.inference_mode():
            expected = model(batch)
        if expected.dim() == 3:
            expected = expected[batch["attention_mask"].bool()]
        taken = AutoTokenizer.from_pretrained(made[name].folder).model_input_names
        inputs = {key: values for key, values in batch.items() if key in taken}
        case = {
            "usage": made[name].usage(str(made[name].folder)),
            "texts": texts_of(cell),
            "prompt_positions": made[name].facts.get("prompt_positions", 0),
        }
        write_json(place / "cases" / f"{name}.json", case)
        save_file(inputs | {"logits": expected.contiguous()}, place / "cases" / f"{name}.safetensors")
    return made


def load_run_on(run: FinishedRun) -> tuple[Any, Any]:
    """A run's model as `predict` loads it, with every row of the vocabulary, in float32."""
    from workflow_scripts.publishing.equality import reference

    return reference(run), run.settings


@pytest.fixture(scope="module")
def loaded(exported, place) -> dict[str, Any]:
    """What a process with the libraries, but without this project, finds in the exports."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-I", "-W", "ignore", str(LOADER), str(place / "cases")]
    ended = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", CELLS)
def test_another_process_without_this_project_computes_the_same_logits(exported, loaded, name):
    assert exported[name].loads_with == CELLS[name].loads_with
    assert loaded[name]["largest"] > 0.1
    assert loaded[name]["difference"] <= 1e-5 * max(1.0, loaded[name]["largest"])


@pytest.mark.parametrize("name", CELLS)
def test_the_tokenizer_cuts_where_the_run_did_and_the_configuration_names_the_outputs(loaded, exported, name):
    assert loaded[name]["max_length"] == MAX_LENGTH
    kind = CELLS[name].kind
    names = {"entities": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]}.get(kind, LABELS[kind])
    if kind in ("classification", "tagging", "entities"):
        assert exported[name].facts["outputs"] == names
        if CELLS[name].loads_with != "load.py":
            assert list(loaded[name]["labels"].values()) == names


def test_the_logits_are_those_that_predictions_are_made_of(place, exported):
    """`reference` above is not another model than that of the step `predict`."""
    from tiny import random_tokens

    run = finished_run(place, "predicted", CELLS["LoRA"])
    tokens = random_tokens("classification", 6)
    model, _ = load_run(run.encoder, run.folder, CPU, [tokens])
    expected = logits(model, tokens, "float32", CPU)
    other, _ = load_run_on(run)
    for ours, theirs in zip(logits(other, tokens, "float32", CPU), expected, strict=True):
        assert abs(ours - theirs).max() < 1e-5


@pytest.mark.parametrize("name", [name for name, cell in CELLS.items() if cell.loads_with == "load.py"])
def test_a_loader_is_short_and_needs_only_the_libraries(exported, name):
    source = (exported[name].folder / "load.py").read_text()
    code = [line for line in source.split('"""', 2)[2].splitlines() if line.strip()]
    assert len(code) <= 40
    imported = {line.split()[1].partition(".")[0] for line in code if re.match(r"\s*(from|import) ", line)}
    allowed = {"pathlib", "torch", "transformers", "safetensors"} | ({"peft"} if "LoRA" in name else set())
    assert imported <= allowed
    assert max(map(len, source.splitlines())) <= 120


def test_a_peft_folder_says_what_peft_needs(exported):
    folder = exported["LoRA"].folder
    configuration = PeftConfig.from_pretrained(folder)
    assert (configuration.task_type, configuration.modules_to_save) == ("SEQ_CLS", ["classifier", "score"])
    assert configuration.target_modules == {"query", "value"}
    assert {"adapter_config.json", "adapter_model.safetensors", "base/config.json", "tokenizer.json"} <= set(
        exported["LoRA"].files
    )


def test_an_encoder_of_the_hub_is_named_instead_of_copied(place):
    run = finished_run(place, "hub", CELLS["LoRA"])
    record = read_json(run.encoder / MANIFEST)
    source = {"source": "hub", "repository": "someone/tiny", "revision": "main", "commit": "a" * 40}
    write_json(run.encoder / MANIFEST, record | {"source": source})
    try:
        made = export_run(run, place / "hub")
    finally:
        write_json(run.encoder / MANIFEST, record)
    assert not (place / "hub" / "base").exists()
    assert f"from_pretrained('someone/tiny', revision='{'a' * 40}', dtype='float32', num_labels=3)" in made.usage()
    assert PeftConfig.from_pretrained(place / "hub").base_model_name_or_path == "someone/tiny"


# What is refused


@pytest.mark.parametrize(
    ("encoder", "method", "options", "message"),
    [
        ("deberta-v2", "prompt_tuning", {}, "prompt_tuning in an encoder of the type 'deberta-v2' cannot be exported"),
        ("xlm-roberta", "adapter", {"merge": True}, "--merge: adapter of .* cannot be merged into the encoder"),
        ("xlm-roberta", "adapter", {"onnx": True}, "--onnx: the encoder of .* is not tuned itself"),
        ("xlm-roberta", "lora", {"onnx": True}, "--onnx: the adapters of .* must be merged.*add --merge"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line_and_nothing_is_left(place, encoder, method, options, message):
    run = finished_run(place, f"refused {encoder} {method} {options}", Cell(encoder, method, ""))
    with pytest.raises(UserError, match=message) as raised:
        export_run(run, place / "refused" / "folder", **options)
    assert "\n" not in str(raised.value)
    assert not list((place / "refused").glob("*"))


def test_quantised_weights_and_answers_in_words_are_refused(place):
    run = finished_run(place, "others", CELLS["LoRA"])
    for change, message in (({"quantise": "nf4"}, "quantised to nf4"), ({"answers": "words"}, "answers in words")):
        other = FinishedRun(**{**vars(run), "settings": run.settings.changed(**change)})
        with pytest.raises(UserError, match=message):
            export_run(other, place / "not written")


def test_weights_that_no_form_holds_are_refused_and_not_exported_wrong(place, monkeypatch):
    """The check of logits is the last resort: here a loader computes a different activation."""
    from workflow_scripts.publishing import own

    template = own._template

    class Wrong:
        def render(self, values: dict[str, Any]) -> str:
            return template().render(values).replace("torch.nn.GELU()", "torch.nn.ReLU()")

    monkeypatch.setattr(own, "_template", Wrong)
    run = finished_run(place, "wrong", CELLS["adapters"])
    with pytest.raises(UserError, match=r"no library computes the same logits \(load.py: "):
        export_run(run, place / "wrong")
    assert not (place / "wrong").exists()


def test_an_earlier_export_is_replaced_and_another_folder_is_not(place):
    run = finished_run(place, "twice", CELLS["probe, first token"])
    to = place / "twice"
    export_run(run, to)
    (to / "left over").write_text("")
    export_run(run, to)
    assert not (to / "left over").exists() and read_export(to).loads_with == "load.py"
    mine = place / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"--to .*mine exists and is not an export"):
        export_run(run, mine)
    assert [file.name for file in mine.iterdir()] == ["thesis.tex"]


# ONNX


@pytest.mark.parametrize("name", ["fine-tuning, BERT", "LoRA, decoder, merged"])
def test_onnxruntime_computes_the_same_logits_for_any_number_of_texts_and_tokens(place, name):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the packages of envs/export.txt are not installed")
    pytest.importorskip("onnxscript", reason="the packages of envs/export.txt are not installed")
    run = finished_run(place, f"onnx {name}", CELLS[name])
    made = export_run(run, place / "onnx" / name, CELLS[name].merge, onnx=True)
    session = onnxruntime.InferenceSession(str(made.folder / onnx_file.FILE))
    model, _ = load_run_on(run)
    batch = batch_of(run, CELLS[name])
    for part_of in (batch, {key: values[:1, :9] for key, values in batch.items()}):
        inputs = {one.name: part_of[one.name].numpy() for one in session.get_inputs()}
        with torch.inference_mode():
            torch.testing.assert_close(
                torch.from_numpy(session.run(None, inputs)[0]), model(part_of), rtol=0, atol=1e-4
            )


def test_a_missing_package_for_onnx_is_one_line(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    run = finished_run(place, "no onnx", CELLS["fine-tuning"])
    with pytest.raises(UserError, match=r"--onnx needs the package onnxscript .*envs/export.txt"):
        export_run(run, place / "no onnx", onnx=True)


def test_names_of_layers_are_written_by_their_number():
    names = [(f"encoder.layer.{number}.output",) for number in (1, 2)]
    assert expression(names) == '[f"encoder.layer.{number}.output" for number in range(1, 3)]'
    pairs = [(f"h.{number}.a", f"h.{number}.b") for number in range(3)]
    for flat in (True, False):
        expected = [name for pair in pairs for name in pair] if flat else pairs
        assert eval(expression(pairs, flat)) == expected
    assert eval(expression([("one.1.x",), ("other.2.x",)])) == ["one.1.x", "other.2.x"]


# Uploading


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[UploadServer]:
    """A hub on loopback that accepts uploads with its token, which is in the environment."""
    with UploadServer() as server:
        for name, value in {"ENDPOINT": server.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


def an_export(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_an_upload_is_one_commit_and_replaces_the_files_of_an_earlier_export(hub, tmp_path):
    card = {"README.md": b"card"}
    first = {"crossprompt.json": b"{}", "model.safetensors": b"weights" * 9, "load.py": b"# loads", **card}
    assert push(an_export(tmp_path / "one", first), "someone/model") == f"{hub.url}/someone/model"
    assert hub.repositories["someone/model"] == first
    assert hub.visibility["someone/model"] == "private"
    hub.repositories["someone/model"]["figure.png"] = b"mine"
    second = {"crossprompt.json": b"{ }", "adapter_model.safetensors": b"adapter", "base/config.json": b"{}"}
    push(an_export(tmp_path / "two", second), "someone/model")
    assert hub.repositories["someone/model"] == second | card | {"figure.png": b"mine"}
    assert len(hub.commits) == 2


def test_an_upload_that_is_refused_ends_in_one_line(hub, tmp_path, monkeypatch):
    folder = an_export(tmp_path / "one", {"crossprompt.json": b"{}"})
    monkeypatch.setenv("HF_TOKEN", "hf_of-someone-else")
    with pytest.raises(UserError, match=r"--push someone/model: .* refused \(403\): HF_TOKEN may .* lack write"):
        push(folder, "someone/model")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(UserError, match=r"--push no//name: .* not a valid repository name"):
        push(folder, "no//name")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # a port that nothing listens on
    with pytest.raises(UserError, match=r"--push someone/model: .* cannot be uploaded: .*HF_ENDPOINT"):
        push(folder, "someone/model")


def test_a_missing_token_is_found_before_the_work(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(UserError, match=r"--push needs a token .* HF_TOKEN"):
        export.main(export.parser().parse_args([str(tmp_path / "no run"), "--push", "someone/model"]))


# The step


def test_the_step_exports_a_run_of_a_grid_and_says_how_it_is_loaded(finished_grid, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(finished_grid.folder)
    run = "results/tiny/udpos/en/prompt_tuning-2/seed-13"
    export.main(export.parser().parse_args([run, "--to", str(tmp_path / "model")]))
    shown = capsys.readouterr().out
    assert f"PeftModel.from_pretrained(base, '{tmp_path / 'model'}')" in shown
    assert read_json(tmp_path / "model" / "crossprompt.json")["arm"] == "prompt_tuning-2"
    assert "PeftModel.from_pretrained" in (tmp_path / "model" / "README.md").read_text()
