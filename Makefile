# Every target sets up what it needs in .venv, pinned by constraints.txt, and does nothing twice.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
# The first start need not compile 160 modules, nor any start where PYTHONDONTWRITEBYTECODE is set.
COMPILE := $(BIN)/python -m compileall -q service

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup serve test clients test-extras train bench quality docs pictures bench-cuda soak fuzz lint format lock clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(VENV)/complete  ## all that serving, training and testing need, in .venv

serve: $(VENV)/serving  ## serve the models in models/ on http://127.0.0.1:8000 (HOST=, PORT=)
	$(BIN)/python -m service serve $(if $(filter command,$(firstword $(origin HOST))),--host $(HOST)) $(if $(PORT),--port $(PORT))

test: lint  ## lint, then every test that this machine can run, in a process for each CPU and one more, at most four (JOBS=)
	-@$(MAKE) --no-print-directory clients
	$(BIN)/python -m pytest --numprocesses $(or $(JOBS),auto) --no-loadscope-reorder

clients: $(VENV)-clients/complete  ## KServe's client for its tests, in .venv-clients; `make test` tries it, and skips them without

# It pins what others need newer: an environment of its own.
$(VENV)-clients/complete: tests/clients/requirements.txt
	$(PYTHON) -m venv --clear $(VENV)-clients
	$(VENV)-clients/bin/python -m pip install --quiet --disable-pip-version-check --retries 1 --no-deps --requirement $<
	@touch $@

test-extras: $(VENV)/complete  ## the tests of the extras ray, tensorboard, distil and captum, which it installs and `make test` skips
	$(INSTALL) '.[ray,tensorboard,distil,captum]'
	$(BIN)/python -m pytest tests/deploy/test_ray.py tests/training/loop/test_logs.py tests/training/distil tests/training/studies/test_attributions.py

lint: $(VENV)/complete  ## style, types and the rules of who imports whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/complete  ## put the code into its style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# With TRAIN and DEV, your own files; TASK says which task they are for, where their names do not.
ifdef TRAIN
TAGGED := %.conll %.conll03 %.conll2003 %.conllu %.iob %.iob2 %.bio %.bioes %.bilou %.bmes %.txt
TASK ?= $(if $(filter $(TAGGED) $(TAGGED:=.gz),$(TRAIN)),ner,sentiment)
$(if $(filter sentiment ner,$(TASK)),,$(error TASK is sentiment or ner, not $(TASK)))
DEV ?= $(error with TRAIN, DEV=FILE names the labelled data that picks the best epoch)
train: train-$(TASK)
else
train: train-sentiment train-ner  ## train on examples/ (or TRAIN= DEV= TASK=) into models/my-TASK
endif

.PHONY: train-sentiment train-ner
train-sentiment: TRAIN ?= examples/sentiment/train.tsv
train-sentiment: DEV ?= examples/sentiment/dev.tsv
train-ner: TRAIN ?= examples/ner/train.conll
train-ner: DEV ?= examples/ner/dev.conll
train-sentiment train-ner: train-%: $(VENV)/complete
	$(BIN)/python -m training fit --task $* --bidirectional --train $(TRAIN) --dev $(DEV) --out models/my-$*

bench: $(VENV)/complete $(VENV)-peers/complete  ## the benchmarks, with ratios against named baselines
	-@$(MAKE) --no-print-directory $(VENV)-triton/complete
	-@$(MAKE) --no-print-directory $(VENV)-torchserve/complete
	$(BIN)/python -m benchmarks

bench-cuda: $(VENV)/complete  ## models on an NVIDIA GPU, in 8 minutes: placement, parity, speed, training (OUTPUT=, REHEARSE=1)
	$(BIN)/python -m benchmarks.cuda $(if $(OUTPUT),--output $(OUTPUT)) $(if $(REHEARSE),--rehearse)

soak: $(VENV)/complete  ## half an hour of load with faults, and its curves in soak.svg (MINUTES=)
	$(BIN)/python -m benchmarks.soak $(if $(MINUTES),--minutes $(MINUTES))

docs: $(VENV)/complete  ## the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

pictures: $(VENV)/complete  ## the reading guides' pictures and figures, anew from the models in models/
	$(BIN)/python -m docs.pictures

fuzz: $(VENV)/complete  ## 10,000 requests made up from the API document (CASES= for more)
	FUZZ_CASES=$(or $(CASES),10000) $(BIN)/python -m pytest -q -s tests/integration/test_fuzz.py

# The peers' packages conflict with the service's: an environment of their own.
$(VENV)-peers/complete: benchmarks/peers/requirements.txt
	$(PYTHON) -m venv --clear $(VENV)-peers
	$(VENV)-peers/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

# Not every machine can install these two; `python -m benchmarks field` names the peers that it leaves out.
$(VENV)-triton/complete $(VENV)-torchserve/complete: $(VENV)-%/complete: benchmarks/peers/%.txt
	$(PYTHON) -m venv --clear $(VENV)-$*
	$(VENV)-$*/bin/python -m pip install --quiet --disable-pip-version-check --retries 1 --requirement $< \
		|| (rm -rf $(VENV)-$* && false)
	@touch $@

quality: $(VENV)/serving  ## the measured quality of the models that ship, beside published figures
	$(BIN)/python -m recipes.quality

lock:  ## write constraints.txt anew from what pyproject.toml allows today
	rm -rf $(VENV)-lock && $(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet --editable '.[cpu,training,dev,data,client,otel,plots,tensorboard,ray,distil,captum]'
	$(VENV)-lock/bin/python -m pip freeze --exclude-editable | sed 's/^torch==\([^+]*\)+.*/torch==\1/' > constraints.txt
	rm -rf $(VENV)-lock

clean:  ## remove the environment and caches
	rm -rf $(VENV) $(VENV)-peers $(VENV)-triton $(VENV)-torchserve $(VENV)-clients .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv --clear $(VENV)

$(VENV)/serving: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) '.[cpu]'
	$(COMPILE)
	@touch $@

$(VENV)/complete: $(BIN)/python pyproject.toml constraints.txt
	$(INSTALL) '.[cpu,training,dev]'
	$(COMPILE)
	@touch $@ $(VENV)/serving
