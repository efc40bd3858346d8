"""A user's own method, in one file anywhere and one line of the configuration, run by Snakemake."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from snakemake_runs import Workplace, copy_checkout, jobs, replaced
from tiny import save_encoder
from tiny import settings as tiny_settings

from workflow_scripts.core.errors import UserError
from workflow_scripts.tuning.model import build, method_module

ROOT = Path(__file__).parent.parent

# IA3's idea applied to the last states only: they are multiplied by a trained vector. PyTorch's profiler needs its
# compiler, which our own methods avoid.
TOY = '''"""A trained factor for each number of the encoder's last normalisation; all else is frozen."""

from torch.profiler import ProfilerActivity, profile

from workflow_scripts.tuning.heads import LinearHead


def head(level, width, outputs, settings):
    """One linear layer."""
    return LinearHead(width, outputs, settings.dropout)


def sentence_vector(settings):
    """The first token's."""
    return "first_token"


def check(encoder, settings):
    """Any architecture with a normalisation at the end of a layer."""


def prepare(model, settings, touched):
    """Free the factors, and have each pass profiled for a moment."""
    model.encoder.encoder.layer[-1].output.LayerNorm.weight.requires_grad_(True)
    model.head.register_forward_pre_hook(profiled)


def profiled(module, inputs):
    """Start the profiler and stop it."""
    with profile(activities=[ProfilerActivity.CPU]):
        pass
'''


@pytest.fixture(scope="module")
def toy_grid(tiny_encoder, tmp_path_factory) -> Workplace:
    """A grid that Snakemake has run: the toy method, whose file is next to the results, a probe, and one of PEFT's."""
    place = tmp_path_factory.mktemp("own method")
    folder = place / "working folder"
    (folder / "my methods").mkdir(parents=True)
    (folder / "my methods" / "toy.py").write_text(TOY, encoding="utf-8")
    configuration: dict[str, Any] = {
        "encoders": {"tiny": {"source": "folder", "path": str(tiny_encoder)}},
        "corpora": {"source": "mini", "limits": {"train": 16, "validation": 8, "test": 8}},
        "seeds": [13],
        "training": {"epochs": 1, "batch_size": 8},
        "methods": {
            "toy_factors": {"module": "my methods/toy.py"},
            "linear_probe": {},
            "ia3": {"title": "Rescaling (IA)3", "peft": {"peft_type": "IA3"}},
        },
        "tasks": {"udpos": {"languages": ["en"], "max_length": 64}},
    }
    workplace = Workplace(copy_checkout(place / "checkout"), folder, configuration)
    outcome = workplace.run()
    assert outcome.returncode == 0, outcome.stdout
    return workplace


def test_one_file_and_one_line_are_an_arm_of_the_grid(toy_grid):
    run = toy_grid.folder / "results/tiny/udpos/en/toy_factors/seed-13"
    tensors = load_file(run / "weights.safetensors")
    assert sorted(tensors) == ["encoder.encoder.layer.1.output.LayerNorm.weight", "head.1.bias", "head.1.weight"]
    record = json.loads((run / "run.json").read_text())
    assert record["tuned_parameters"] == 32 + (32 + 1) * 17
    assert record["settings"]["module"] == "my methods/toy.py"
    assert "toy_factors" in (toy_grid.folder / "results/scores.csv").read_text()
    assert "toy factors" in (toy_grid.folder / "results/report.html").read_text()
    assert toy_grid.planned() == []


def test_a_block_of_peft_is_an_arm_of_the_grid_under_its_name_and_title(toy_grid):
    run = toy_grid.folder / "results/tiny/udpos/en/ia3/seed-13"
    tensors = load_file(run / "weights.safetensors")
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in tensors} == {"ia3_l", "1"}
    assert json.loads((run / "run.json").read_text())["settings"]["peft"] == {"peft_type": "IA3"}
    assert "Rescaling (IA)3" in (toy_grid.folder / "results/report.html").read_text()


def test_an_edit_of_the_file_runs_its_method_again_and_no_other(toy_grid):
    file = toy_grid.folder / "my methods" / "toy.py"
    with replaced(file, "The first token's.", "The vector of the first token."):
        assert toy_grid.planned() == []
    with replaced(file, "layer[-1]", "layer[0]"):
        assert toy_grid.planned() == jobs(
            "train tiny/udpos/en/toy_factors/13",
            "predict tiny/udpos/en/toy_factors/13/en",
            "score tiny/udpos/en/toy_factors/13",
            *("collect", "compare", "exemplify", "explain", "render", "all"),
        )


@pytest.mark.parametrize("function", ["head", "sentence_vector", "check", "prepare"])
def test_a_file_without_one_of_the_four_functions_is_refused_by_its_name(tmp_path, function):
    folder, file = save_encoder(tmp_path / "bert", "bert"), tmp_path / "toy.py"
    file.write_text(TOY.replace(f"def {function}(", f"def other_{function}("), encoding="utf-8")
    made = tiny_settings(method="toy").changed(module=str(file))
    with pytest.raises(UserError, match=rf"methods\.toy\.module: .*toy\.py has no function {function};"):
        build(folder, made, touched=None)


def test_a_file_that_is_gone_is_refused_by_its_name(tmp_path):
    folder = save_encoder(tmp_path / "bert", "bert")
    with pytest.raises(UserError, match=r"there is no Python file .*gone\.py"):
        build(folder, tiny_settings(method="toy").changed(module="gone.py"), touched=None)


def test_a_file_that_imports_a_helper_beside_it_is_refused_by_the_helpers_name(tmp_path):
    """A helper would not be part of the fingerprint: editing it would rerun nothing."""
    folder, file = save_encoder(tmp_path / "bert", "bert"), tmp_path / "toy.py"
    (tmp_path / "my_helper.py").touch()
    file.write_text(f"import my_helper\n{TOY}", encoding="utf-8")
    with pytest.raises(UserError, match=r"methods\.toy\.module: .*toy\.py imports my_helper, which is not installed"):
        build(folder, tiny_settings(method="toy").changed(module=str(file)), touched=None)


@pytest.mark.parametrize(
    ("source", "name", "problem"),
    [
        ("def head(\n", "syntax.py", r"line 1: '\(' was never closed"),
        ("from json import nothing\n", "name.py", r"line 1: ImportError: cannot import name 'nothing'"),
        ("\n\nx = 1 / 0\n", "division.py", r"line 3: ZeroDivisionError: division by zero"),
    ],
    ids=["a bracket", "a name of a module", "an exception"],
)
def test_a_file_that_cannot_be_imported_is_refused_with_its_line(tmp_path, source, name, problem):
    """Like a user's own kind of task."""
    file = tmp_path / name
    file.write_text(source, encoding="utf-8")
    with pytest.raises(UserError) as error:
        method_module(tiny_settings(method="toy").changed(module=str(file)))
    assert re.match(rf"methods\.toy\.module: {re.escape(str(file))}, {problem}", str(error.value))
    assert len(str(error.value).splitlines()) == 1


# A step that calls a function of a user's file as `train` and `tokenise` do.
STEP = """
from workflow_scripts.core.own_module import import_file
from workflow_scripts.core.settings import StepSettings
from workflow_scripts.core.step import run, step_parser

run(lambda arguments: import_file(FILE).prepare(["a", "b"]), step_parser(None, StepSettings))
"""


@pytest.mark.parametrize("what", ["kind", "method"])
def test_an_exception_in_a_function_of_the_file_ends_the_step_in_one_line(tmp_path, what):
    """It names the file as the user does, with the line in it that raised or called what raised."""
    file, log = tmp_path / "toy.py", tmp_path / "step.log"
    file.write_text("import json\n\ndef prepare(texts):\n    return sorted(texts, key=lambda text: json.loads(text))\n")
    code = STEP.replace("FILE", f"'toy.py', {what!r}")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, "--log", str(log)]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    line = "error: toy.py, line 4: JSONDecodeError: Expecting value: line 1 column 1 (char 0)"
    assert ended.stderr.splitlines() == [line]
    written = log.read_text()
    assert line in written.splitlines() and "Traceback (most recent call last):" in written and "a bug" not in written
