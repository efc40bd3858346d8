# Everything that a user or developer types. The first `make run` makes .venv; later ones find it ready.
#
#   make run ARGS="--configfile configs/xtreme.yaml"    more for snakemake; `make test ARGS=...` likewise for pytest
#   make run PYTHON=python3.12                          the Python that .venv is made of
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make run
#                                                       Linux without a GPU: saves the CUDA libraries, some gigabytes

PYTHON ?= python3
ARGS ?=
MARKED ?= not slow and not slurm

# The environment's programs come first on the path, also for the jobs that snakemake starts.
IN_VENV := PATH="$(CURDIR)/.venv/bin:$$PATH"
INSTALL := .venv/bin/python -P -m pip install --no-user --disable-pip-version-check --constraint envs/constraints.txt

NAME_ANOTHER := install Python 3.11 or newer, or name yours: make $(MAKECMDGOALS) PYTHON=python3.12

export HF_HUB_DISABLE_TELEMETRY := 1
# What clusters and their modules set: packages would come from elsewhere than .venv, or be installed there. --no-user, too.
unexport PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_ROOT PIP_DRY_RUN

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run plan explain verify test lint bench compare-trainer rehearsal coverage graph clean

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \2/p' Makefile | awk '{ printf "  %s %-15s", $$1, $$2; $$1 = $$2 = ""; print }'

run: .venv/ready-to-run ## run the workflow on config.yaml with every core
	@$(IN_VENV) snakemake --cores all --quiet rules reason host $(ARGS)

plan: .venv/ready-to-run ## list the jobs that `make run` would run now
	@$(IN_VENV) snakemake --cores all --dry-run $(ARGS)

explain: .venv/ready-to-run ## say of each job that `make run` would run now why it would
	@told=$$(mktemp) && trap 'rm -f "$$told"' EXIT && \
	{ $(IN_VENV) snakemake --cores all --dry-run $(ARGS) >"$$told" 2>&1 || { cat "$$told" >&2; exit 1; }; } && awk '\
		function tell() { if (job) print job "\n    " reason; job = "" } \
		/^  [^ ]+: / { file = $$1; sub(/:$$/, "", file); sub(/^  [^ ]+: /, ""); differs[file] = $$0 } \
		/^(local)?(rule|checkpoint) / { tell(); job = substr($$2, 1, length($$2) - 1); own = "" } \
		/^    output: / { n = split($$0, files, /, |: /); for (i = 2; i <= n; i++) if (files[i] in differs) own = differs[files[i]] } \
		/^    wildcards: / { sub(/^    wildcards: /, ""); job = job " " $$0 } \
		/^    reason: / { sub(/^    reason: /, ""); reason = own != "" ? own : substr($$0, 1, 400) } \
		/^Nothing to be done/ { print } \
		END { tell() }' "$$told"

verify: .venv/ready-to-run ## check results against the configuration and say what differs
	@$(IN_VENV) python -m workflow_scripts.verify --configfile config.yaml $(ARGS)

test: .venv/ready-to-develop ## run the test suite but for what takes minutes or a real SLURM (`MARKED=` runs all)
	$(IN_VENV) HF_HUB_OFFLINE=1 python -m pytest -n auto -m "$(MARKED)" $(ARGS)

lint: .venv/ready-to-develop ## check style, types and the workflow's rules; changes nothing
	$(IN_VENV) ruff check .
	$(IN_VENV) ruff format --check .
	$(IN_VENV) snakefmt --check Snakefile rules
	$(IN_VENV) snakemake --lint
	$(IN_VENV) mypy

bench: .venv/ready-to-develop ## time tuning against the Hugging Face Trainer and PEFT: twenty minutes on a quiet machine
	@$(IN_VENV) HF_HUB_OFFLINE=1 python -m benchmarks.bench $(ARGS)

compare-trainer: .venv/ready-to-develop ## fine-tune here and by the Hugging Face Trainer, and compare scores and time: some hours
	@$(IN_VENV) HF_HUB_OFFLINE=1 python -m benchmarks.compare_trainer $(ARGS)

rehearsal: .venv/ready-to-develop ## take three steps of each method and task with an encoder of XLM-R-large's size
	@$(IN_VENV) HF_HUB_OFFLINE=1 python -m benchmarks.rehearsal $(ARGS)

coverage: .venv/ready-to-develop ## check intervals and tests on data whose true difference is known: three minutes on a quiet machine
	@$(IN_VENV) python -m benchmarks.coverage $(ARGS)

graph: .venv/ready-to-run ## draw report/rulegraph.svg from the workflow itself (needs Graphviz)
	@command -v dot >/dev/null || { echo "make graph needs Graphviz (Debian: apt-get install graphviz)" >&2; exit 1; }
	@# In an empty folder: finished results would resolve the checkpoint and so change the graph.
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
		graph=$$($(IN_VENV) snakemake --rulegraph dot --directory "$$folder") && \
		printf '%s\n' "$$graph" | dot -Tsvg -o report/rulegraph.svg
	@echo "Drew report/rulegraph.svg"

clean: ## remove results and logs; keep .venv and resources
	@for folder in results logs; do \
		if [ -e "$$folder" ]; then echo "Removing $(CURDIR)/$$folder"; rm -rf "$$folder"; fi; \
	done

# Stamps: an installation is repeated when one of its requirement files is newer.

.venv/ready-to-run: envs/requirements.txt envs/quickstart.txt envs/constraints.txt | .venv/pyvenv.cfg
	@echo "Installing the pinned packages into .venv: once, about a minute besides the downloads"
	@$(INSTALL) --requirement envs/requirements.txt --requirement envs/quickstart.txt
	@touch $@

.venv/ready-to-develop: envs/development.txt .venv/ready-to-run
	@$(INSTALL) --requirement envs/development.txt
	@touch $@

# If making the environment fails, .DELETE_ON_ERROR takes pyvenv.cfg away again and the next call starts over.
.venv/pyvenv.cfg:
	@command -v "$(PYTHON)" >/dev/null || { echo "There is no $(PYTHON): $(NAME_ANOTHER)" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "$(PYTHON) is $$("$(PYTHON)" -V 2>&1 | head -n 1): $(NAME_ANOTHER)" >&2; exit 1; }
	@"$(PYTHON)" -P -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make environments: install its venv module (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@"$(PYTHON)" -P -m venv .venv
