"""A user's own method, in one file anywhere and one line of the configuration, run by Snakemake."""

import json
from typing import Any

import pytest
from safetensors.torch import load_file
from snakemake_runs import Workplace, copy_checkout, jobs, replaced
from tiny import save_encoder
from tiny import settings as tiny_settings

from workflow_scripts.core.errors import UserError
from workflow_scripts.tuning.model import build

# IA3's idea on the last states alone: they are multiplied by a trained vector. PyTorch's profiler needs its compiler,
# which our own methods do without.
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
    """A grid that Snakemake has run: one task, the toy method, whose file is next to the results, and a probe."""
    place = tmp_path_factory.mktemp("own method")
    folder = place / "working folder"
    (folder / "my methods").mkdir(parents=True)
    (folder / "my methods" / "toy.py").write_text(TOY, encoding="utf-8")
    configuration: dict[str, Any] = {
        "encoders": {"tiny": {"source": "folder", "path": str(tiny_encoder)}},
        "corpora": {"source": "mini", "limits": {"train": 16, "validation": 8, "test": 8}},
        "seeds": [13],
        "training": {"epochs": 1, "batch_size": 8},
        "methods": {"toy_factors": {"module": "my methods/toy.py"}, "linear_probe": {}},
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


def test_an_edit_of_the_file_runs_its_method_again_and_no_other(toy_grid):
    file = toy_grid.folder / "my methods" / "toy.py"
    with replaced(file, "The first token's.", "The vector of the first token."):
        assert toy_grid.planned() == []
    with replaced(file, "layer[-1]", "layer[0]"):
        assert toy_grid.planned() == jobs(
            "train tiny/udpos/en/toy_factors/13",
            "predict tiny/udpos/en/toy_factors/13/en",
            "score tiny/udpos/en/toy_factors/13",
            *("collect", "compare", "exemplify", "render", "all"),
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
