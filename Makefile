# make demo   draw a grid of pictures with the embedded model      make test   run the tests, two files at a time
# make lint   formatting and lint      make types   type check     make clean  remove what these made
# make avx2   those tests again that compare numbers, as a processor with AVX2 alone would run them
#
# Everything is installed into .venv, once: again only when setup.py, its C or constraints.txt change.
# PYTHON=python3.12 make demo         another interpreter (3.11 or newer)
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo      the small CPU build of PyTorch on Linux

PYTHON ?= python3
VENV ?= .venv
OUT ?= outputs/demo
BIN := $(VENV)/bin
# one thread each, so that two files at a time do not wait for each other; OMP_NUM_THREADS=8 make test: with eight.
# The files begin in the order of tests/conftest.py, the longest first.
PYTEST := OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 OPENBLAS_CORETYPE=Haswell MKL_ENABLE_INSTRUCTIONS=AVX2
NUMERICAL := tests/glide/checkpoints/test_diffusers_autoencoders.py tests/glide/data/test_masks.py \
	tests/glide/diffusion tests/glide/networks tests/glide/shapes \
	tests/glide/training/test_compile.py tests/glide/training/test_optim.py tests/glide/utils/test_dtype.py \
	tests/glide/utils/test_images.py tests/golden tests/guidance/clip/test_score_matching.py \
	tests/guidance/test_later_guidance.py tests/pretrained/test_emoji.py tests/toolkit/commands/test_inpaint.py \
	tests/toolkit/pipelines tests/upsampler/test_low_res.py tests/upsampler/test_tiling.py \
	tests/upsampler/test_upsampler.py
FUSED := $(wildcard glide/networks/cpu/fused*.[ch])
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt

.PHONY: demo test avx2 lint types format install dev clean help
.DEFAULT_GOAL := help

help:
	@sed -n '1,7s/^# \{0,1\}//p' Makefile

demo: install
	$(BIN)/python scripts/sample.py --guidance cfg --scale 3 --num-samples 2 --grid --out $(OUT)

test: dev
	$(PYTEST)

avx2: dev
	$(AVX2) $(PYTEST) $(NUMERICAL) --ignore tests/toolkit/pipelines/test_default_strengths.py

lint: dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: dev
	$(BIN)/python -m mypy

format: dev
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

install: $(VENV)/.installed
dev: $(VENV)/.installed-dev

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'error: Python 3.11 or newer is needed: PYTHON=python3.12 make ...' >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) \
		|| { echo 'error: $(PYTHON) -m venv failed (on Debian: apt install python3-venv)' >&2; rm -rf $(VENV); exit 2; }

# the stamp is written last, so an interrupted installation is taken up again
$(VENV)/.installed: setup.py $(FUSED) pyproject.toml constraints.txt | $(BIN)/python
	@echo 'installing into $(VENV): the first time this takes some minutes'
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: setup.py $(FUSED) constraints.txt | $(BIN)/python
	@echo 'installing into $(VENV): the first time this takes some minutes'
	$(PIP) -e '.[dev,test]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist *.egg-info glide/networks/cpu/_fused*.so .pytest_cache .mypy_cache .ruff_cache $(OUT)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
