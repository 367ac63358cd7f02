# Each target sets up what it needs: a fresh clone and Python >= 3.10 are enough.
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: help demo lab test lint format bench docs clean

help:
	@echo "make demo    run notebooks/quickstart.ipynb through a real Jupyter server"
	@echo "make lab     open the notebooks in JupyterLab, with the demo's jobs"
	@echo "make test    run the tests, notebooks included"
	@echo "make lint    ruff, mypy --strict, import-linter"
	@echo "make bench   measure against the floor of this machine"
	@echo "make docs    build docs/_build"

$(VENV)/.demo: pyproject.toml scripts/setup.sh
	@scripts/setup.sh $(VENV) notebook
	@touch $@

$(VENV)/.dev: pyproject.toml scripts/setup.sh
	@scripts/setup.sh $(VENV) notebook,dev
	@touch $(VENV)/.demo $@

$(VENV)/.docs: pyproject.toml scripts/setup.sh
	@scripts/setup.sh $(VENV) docs
	@touch $@

demo: $(VENV)/.demo
	@$(RUN) scripts/demo.py

lab: $(VENV)/.demo
	@$(RUN) scripts/demo.py --lab

test: $(VENV)/.dev
	@$(RUN) -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.dev
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@$(VENV)/bin/lint-imports

format: $(VENV)/.dev
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

bench: $(VENV)/.dev
	@$(RUN) bench/latency.py
	@$(RUN) bench/proxy.py

docs: $(VENV)/.docs
	@$(RUN) -m sphinx -q -W -b html docs docs/_build

clean:
	rm -rf $(VENV) build dist docs/_build
