# All commands for users and developers. The first `make run` installs the packages into .venv.
#
#   make run ARGS="--configfile configs/xtreme.yaml"    options for snakemake; in `make test`, for pytest
#   make run PYTHON=python3.12                          the Python that .venv is created with
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make run
#                                                       Linux without a GPU: without CUDA's libraries, some gigabytes

PYTHON ?= python3
ARGS ?=
MARKED ?= not slow and not slurm and not models

# The environment's programs come first on the path, also for the jobs that snakemake starts.
IN_VENV := PATH="$(CURDIR)/.venv/bin:$$PATH"
# pip would compile every module, one after the other and with the packages' own tests: half of its time. --use-pep517:
# the pip of Debian 12 would build seqeval, which has no wheel, with setup.py and fail.
INSTALL := .venv/bin/python -P -m pip install --no-compile --no-user --use-pep517 --disable-pip-version-check \
	--constraint envs/constraints.txt
COMPILE := .venv/bin/python -P -m compileall -q -j 0 -x '/tests?/' .venv/lib

NAME_ANOTHER := install Python 3.11 or newer, or name yours: make $(MAKECMDGOALS) PYTHON=python3.12

export HF_HUB_DISABLE_TELEMETRY := 1
# Clusters and their modules set these: Python would import packages from outside .venv, or pip would install them
# there. --no-user has the same purpose.
unexport PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_ROOT PIP_DRY_RUN

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run plan explain verify predict demo export export-scores export-logs archive image test test-versions lint docs bench bench-decoders compare-trainer rehearsal coverage graph reference clean

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \2/p' Makefile | awk '{ printf "  %s %-15s", $$1, $$2; $$1 = $$2 = ""; print }'

run: .venv/ready-to-run ## run the workflow on config.yaml with every core
	@$(IN_VENV) snakemake --cores all $(ARGS)

plan: .venv/ready-to-run ## list the jobs that `make run` would run
	@$(IN_VENV) snakemake --cores all --dry-run $(ARGS)

explain: .venv/ready-to-run ## list the jobs that `make run` would run, each with the reason
	@plan=$$(mktemp) && trap 'rm -f "$$plan"' EXIT && \
	{ $(IN_VENV) snakemake --cores all --dry-run $(ARGS) >"$$plan" 2>&1 || { cat "$$plan" >&2; exit 1; }; } && awk '\
		function print_job() { if (job) print job "\n    " reason; job = "" } \
		/^  [^ ]+: / { file = $$1; sub(/:$$/, "", file); sub(/^  [^ ]+: /, ""); differs[file] = $$0 } \
		/^(local)?(rule|checkpoint) / { print_job(); job = substr($$2, 1, length($$2) - 1); own = "" } \
		/^    output: / { n = split($$0, files, /, |: /); for (i = 2; i <= n; i++) if (files[i] in differs) own = differs[files[i]] } \
		/^    wildcards: / { sub(/^    wildcards: /, ""); job = job " " $$0 } \
		/^    reason: / { sub(/^    reason: /, ""); reason = own != "" ? own : substr($$0, 1, 400) } \
		/^Nothing to be done/ { print } \
		END { print_job() }' "$$plan"

verify: .venv/ready-to-run ## check the results against the configuration, and recompute every table from the predictions
	@$(IN_VENV) python -m workflow_scripts.verify --configfile config.yaml $(ARGS)

predict: .venv/ready-to-run ## predict your own texts with a finished run: ARGS="RUN FILE", or - for standard input
	@$(IN_VENV) python -m workflow_scripts.serving.predict_file $(ARGS)

demo: .venv/ready-to-run ## serve a local page that answers what you type: ARGS="RUN [RUN ...]", runs of one task
	@$(IN_VENV) python -m workflow_scripts.serving.demo $(ARGS)

export: .venv/ready-to-run ## write a tuned model as a folder that transformers or PEFT loads, ARGS="RUN [--to FOLDER]"
	@$(IN_VENV) python -m workflow_scripts.export $(ARGS)

export-scores: .venv/ready-to-run ## write the scores as records of Every Eval Ever (`ARGS="--results results/my_grid"`)
	@$(IN_VENV) python -m workflow_scripts.console.every_eval_ever $(ARGS)

export-logs: .venv/ready-to-export ## write the logs of all trainings for TensorBoard and trackio, or ARGS="RESULTS --to wandb"
	@$(IN_VENV) python -m workflow_scripts.console.export_logs $(ARGS)

archive: .venv/ready-to-run ## put results, configuration and code into one file for Zenodo (`ARGS="--configfile my.yaml"`)
	@$(IN_VENV) python -m workflow_scripts.console.archive $(if $(findstring --configfile,$(ARGS)),,--configfile config.yaml) $(ARGS)

image: ## build crossprompt.sif for --sdm apptainer (`ARGS="--build-arg TORCH_INDEX="` for NVIDIA GPUs)
	@tool=$$(command -v apptainer || command -v singularity) || \
		{ echo "make image needs Apptainer or SingularityCE 4: https://apptainer.org" >&2; exit 1; }; \
	"$$tool" build $(ARGS) crossprompt.sif envs/apptainer.def

test: .venv/ready-to-develop ## run the tests, without those that take minutes or start SLURM (`MARKED=` runs all)
	$(IN_VENV) HF_HUB_OFFLINE=1 python -m pytest -n auto -m "$(MARKED)" $(ARGS)

test-versions: .venv/ready-to-develop ## run the tests that concern a package with other versions of it: ARGS="peft==0.18.0"
	@$(IN_VENV) HF_HUB_OFFLINE=1 python -m benchmarks.versions $(ARGS)

lint: .venv/ready-to-develop ## check style, types and the workflow's rules; change nothing
	$(IN_VENV) ruff check .
	$(IN_VENV) ruff format --check .
	$(IN_VENV) snakefmt --check Snakefile rules
	$(IN_VENV) snakemake --lint
	$(IN_VENV) mypy

docs: .venv/ready-to-develop ## build the documentation into site/; a broken link is an error
	$(IN_VENV) NO_MKDOCS_2_WARNING=1 mkdocs build --strict $(ARGS)

bench: .venv/ready-to-develop ## compare the speed of tuning with the Hugging Face Trainer and PEFT: 20 minutes on an idle machine
	@$(IN_VENV) HF_HUB_OFFLINE=1 python -m benchmarks.bench $(ARGS)

bench-decoders: .venv/ready-to-develop ## the same for a decoder, Gemma 3 270M, from packages or ARGS="--model FOLDER"
	@$(IN_VENV) HF_HUB_OFFLINE=1 python -m benchmarks.bench --suite decoders $(ARGS)

compare-trainer: .venv/ready-to-develop ## compare scores and time of fine-tuning with the Hugging Face Trainer: some hours
	@$(IN_VENV) HF_HUB_OFFLINE=1 python -m benchmarks.compare_trainer $(ARGS)

rehearsal: .venv/ready-to-develop ## run three steps of each method and task with an encoder of XLM-R-large's size
	@$(IN_VENV) HF_HUB_OFFLINE=1 python -m benchmarks.rehearsal $(ARGS)

coverage: .venv/ready-to-develop ## check intervals, tests and ranks on simulated data: a quarter of an hour on an idle machine
	@$(IN_VENV) python -m benchmarks.coverage $(ARGS)

graph: .venv/ready-to-run ## draw report/rulegraph.svg from the rules (needs Graphviz)
	@command -v dot >/dev/null || { echo "make graph needs Graphviz (Debian: apt-get install graphviz)" >&2; exit 1; }
	@# In an empty folder: with finished results, Snakemake resolves the checkpoint and draws another graph. The mini grid
	@# needs no download and, unlike the quick start, has a search.
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
		graph=$$($(IN_VENV) snakemake --rulegraph dot --directory "$$folder" --configfile configs/mini.yaml) && \
		printf '%s\n' "$$graph" | dot -Tsvg -o report/rulegraph.svg
	@echo "Drew report/rulegraph.svg"

reference: .venv/ready-to-run ## write docs/configuration.md and config.schema.json from the configuration's models
	@$(IN_VENV) python -m workflow_scripts.experiment.reference

clean: ## remove results and logs; keep .venv and resources
	@for folder in results logs; do \
		if [ -e "$$folder" ]; then echo "Removing $(CURDIR)/$$folder"; rm -rf "$$folder"; fi; \
	done

# Stamp files: the installation is repeated when one of its requirement files is newer.

.venv/ready-to-run: envs/requirements.txt envs/quickstart.txt envs/constraints.txt | .venv/pyvenv.cfg
	@echo "Installing the pinned packages into .venv: once, about a minute plus the downloads"
	@if [ "$$(uname -s)" = Linux ] && [ -z "$$PIP_EXTRA_INDEX_URL" ] && ! command -v nvidia-smi >/dev/null; then \
		echo "There is no NVIDIA GPU: if pip downloads CUDA's libraries, stop it and see the first lines of the Makefile"; \
	fi
	@$(INSTALL) --requirement envs/requirements.txt --requirement envs/quickstart.txt
	@$(COMPILE) >/dev/null 2>&1 || true  # some packages contain templates that are not valid Python
	@touch $@

.venv/ready-to-develop: envs/development.txt envs/docs.txt envs/quantise.txt .venv/ready-to-export .venv/ready-to-run
	@$(INSTALL) --requirement envs/development.txt --requirement envs/docs.txt --requirement envs/quantise.txt
	@$(COMPILE) >/dev/null 2>&1 || true
	@touch $@

.venv/ready-to-export: envs/export.txt .venv/ready-to-run
	@$(INSTALL) --requirement envs/export.txt
	@touch $@

# If creating the environment fails, .DELETE_ON_ERROR removes pyvenv.cfg, so that the next call starts over.
.venv/pyvenv.cfg:
	@command -v "$(PYTHON)" >/dev/null || { echo "There is no $(PYTHON): $(NAME_ANOTHER)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "$(PYTHON) is $$("$(PYTHON)" -V 2>&1 | head -n 1): $(NAME_ANOTHER)" >&2; exit 1; }
	@"$(PYTHON)" -P -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot create environments: install its venv module (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@"$(PYTHON)" -P -m venv .venv
