# `make` is what a change has to pass; .ci/run does the same on a fresh machine.
PYTHON = .venv/bin/python

.PHONY: all setup test lint bench bench-million man readme freeze zipapp deb rpm release pythons kernels fuzz churn everything clean

all: lint test

setup: .venv/bin/tcpdoctor

.venv/bin/tcpdoctor: pyproject.toml
	sh .ci/setup
	touch $@

test: setup
	$(PYTHON) -m pytest -q

lint: setup
	.ci/lint

bench: setup
	$(PYTHON) bench/run.py --results bench/results/established
	$(PYTHON) bench/run.py --mix established=6,time_wait=3,close_wait=1 --processes 200 --results bench/results/mixed
	$(PYTHON) bench/watching.py
	$(PYTHON) bench/watching.py --mix established=6,time_wait=3,close_wait=1 --processes 10

# Some 6 GiB of kernel memory and ten minutes.
bench-million: setup
	$(PYTHON) bench/run.py --sockets 100000 1000000 --rounds 3 --mix established=85,time_wait=5,close_wait=10 --processes 200 \
	    --results bench/results/million

man: setup
	$(PYTHON) man/generate.py

readme: setup
	$(PYTHON) -m tests.readme
	$(PYTHON) -m tests.recordings.page

# Adds to what is promised (tests/frozen); it refuses to take anything back.
freeze: setup
	$(PYTHON) -m tests.frozen

# What is built needs pip and no test tools: the environment of the tests where there is one, else one of its own.
BUILDER = $(firstword $(wildcard .venv/bin/python) .venv-build/bin/python)

.venv-build/bin/python:
	python3 -m venv .venv-build

zipapp: $(BUILDER)
	$(BUILDER) integrations/one_file.py --every-python dist/tcpdoctor.pyz

deb rpm release: $(BUILDER)
	$(BUILDER) packaging/build.py $@

pythons: setup
	.ci/pythons --all

kernels: setup
	.ci/kernels --all --page

fuzz: setup
	$(PYTHON) -m tests.fuzz

churn: setup
	$(PYTHON) -m tests.churn

# Hours: all kernels' tests, a million inputs a target, a hundred runs of churn; its results are in docs/tested.md.
everything: setup
	$(PYTHON) -m tests.everything

clean:
	rm -rf .venv .venv-build dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
