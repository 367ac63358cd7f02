# Each target sets up what it needs: a fresh clone and Python >= 3.10 are enough.
VENV := .venv
RUN := $(VENV)/bin/python
# Where it is set, as in many a container, each process would compile anew what it imports.
unexport PYTHONDONTWRITEBYTECODE
NPM := PATH="$(CURDIR)/$(VENV)/bin:$$PATH" npm --prefix labextension --silent
# What the JupyterLab extension is built from; where one of these changes, it is built and installed again.
LAB := labextension/package.json labextension/package-lock.json labextension/openapi.json \
       $(shell find labextension/src labextension/style labextension/schema -type f ! -name '*.gen.ts')

.PHONY: help demo lab test test-warm test-python test-ray test-hub bench-ray faults lint format bench docs contract screenshots clean

help:
	@echo "make demo    run notebooks/quickstart.ipynb through a real Jupyter server, and a notebook as a job"
	@echo "make lab     open the notebooks in JupyterLab, with the demo's jobs"
	@echo "make test    run the tests, notebooks and browser included"
	@echo "make test-warm    run the tests of jobs with jobs that start warm"
	@echo "make test-python PYTHON=python3.13    the same, browser aside, on another interpreter; LOWEST=1: with the lowest dependencies"
	@echo "make test-ray    the tests of jobs on a Ray cluster, which it sets up on this machine; make bench-ray measures"
	@echo "make test-hub    the tests with a JupyterHub, its proxy and its idle culler, which it sets up on this machine"
	@echo "make faults  kill what runs jobs, 300 times, and count what that cost (FAULTS_ARGS=\"--rounds 20 --seed 7\")"
	@echo "make lint    ruff, mypy --strict, import-linter; tsc, eslint, prettier"
	@echo "make bench   measure against the floor of this machine, and beside others, which it sets up"
	@echo "make docs    draw the figure of the layers and build docs/_build"
	@echo "make contract    write labextension/openapi.json, which the interface's types are made from"
	@echo "make screenshots    take the pictures in docs/images again"

$(VENV)/.demo: pyproject.toml scripts/setup.sh $(LAB)
	@scripts/setup.sh $(VENV) notebook
	@touch $@

$(VENV)/.dev: pyproject.toml scripts/setup.sh $(LAB)
	@scripts/setup.sh $(VENV) notebook,dev
	@[ -d labextension/node_modules ] || $(NPM) ci
	@touch $(VENV)/.demo $@

$(VENV)/.docs: pyproject.toml scripts/setup.sh
	@scripts/setup.sh $(VENV) docs
	@touch $@

demo: $(VENV)/.demo
	@$(RUN) scripts/demo.py

lab: $(VENV)/.demo
	@$(RUN) scripts/demo.py --lab

test: $(VENV)/.dev
	$(if $(findstring tests/,$(PYTEST_ARGS)),,@$(MAKE) --no-print-directory test-warm)
	@$(RUN) -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# Some of the tests of jobs, with jobs that start warm; WARM="harness supervisor" names others.
test-warm: WARM ?= states_table stop term memory
test-warm: $(VENV)/.dev
	@TASKAPI_TEST_START=warm $(RUN) -m pytest -n 3 --dist loadfile --no-loadscope-reorder \
	  $(patsubst %,tests/jobs/test_%.py,$(WARM))

test-python: VERSION = $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')$(if $(LOWEST),-lowest)
test-python:
	@[ -n "$(PYTHON)" ] || { echo "name the interpreter: make test-python PYTHON=python3.13" >&2; exit 1; }
	@PYTHON="$(PYTHON)" LOWEST="$(LOWEST)" scripts/setup.sh $(VENV)-python$(VERSION) notebook,dev
	@$(VENV)-python$(VERSION)/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder \
	  --ignore-glob='tests/browser/test_browser_*' $(PYTEST_ARGS)

# Ray has an environment of its own: what speaks to it does so over HTTP.
$(VENV)-ray/.ray: $(VENV)/.dev
	@echo "installing Ray, about 400 MB"
	@$(RUN) -m venv $(VENV)-ray
	@$(VENV)-ray/bin/python -m pip install --quiet --disable-pip-version-check "ray[default]" fsspec
	@touch $@

test-ray: export TASKAPI_RAY = $(CURDIR)/$(VENV)-ray/bin/ray
test-ray: $(VENV)-ray/.ray
	@TASKAPI_TEST_ENGINE=ray $(RUN) -m pytest tests/ray/test_ray.py tests/jobs/test_states_table.py tests/client/test_taskapi.py $(PYTEST_ARGS)

# So has a JupyterHub, whose single-user servers need this package; its proxy is npm's.
$(VENV)-hub/.hub: $(VENV)/.dev
	@scripts/setup.sh $(VENV)-hub notebook
	@$(VENV)-hub/bin/python -m pip install --quiet --disable-pip-version-check "jupyterhub>=6.1" jupyterhub-idle-culler
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" npm --prefix $(VENV)-hub --silent --no-audit --no-fund \
	  install configurable-http-proxy@5
	@touch $@

test-hub: export TASKAPI_HUB = $(CURDIR)/$(VENV)-hub/bin/jupyterhub
test-hub: $(VENV)-hub/.hub
	@$(RUN) -m pytest tests/server/test_hub.py $(PYTEST_ARGS)

# What the bench is compared with, in an environment of its own: each wants other versions than ours.
$(VENV)-peers/.peers: $(VENV)/.dev
	@echo "installing what the bench is compared with"
	@$(RUN) -m venv $(VENV)-peers
	@$(VENV)-peers/bin/python -m pip install --quiet --disable-pip-version-check \
	  submitit ipyparallel papermill jupyter-scheduler ipykernel
	@touch $@

bench-ray: export TASKAPI_RAY = $(CURDIR)/$(VENV)-ray/bin/ray
bench-ray: $(VENV)-ray/.ray
	@$(RUN) bench/ray.py

faults: $(VENV)/.dev
	@cd tests && ../$(RUN) -m faults $(FAULTS_ARGS)

lint: $(VENV)/.dev
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@$(VENV)/bin/lint-imports
	@$(NPM) run lint

format: $(VENV)/.dev
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .
	@$(NPM) run format

bench: $(VENV)/.dev $(VENV)-peers/.peers
	@$(RUN) bench/latency.py
	@$(RUN) bench/peers.py
	@$(RUN) bench/starts.py
	@$(RUN) bench/proxy.py
	@$(RUN) bench/waits.py
	@$(RUN) bench/events.py
	@$(RUN) bench/warm.py
	@$(RUN) bench/packages.py
	@$(RUN) bench/notebooks.py
	@$(RUN) bench/load.py
	@$(RUN) bench/retention.py
	@$(RUN) bench/results.py
	@$(RUN) bench/lists.py
	@$(RUN) bench/groups.py
	@$(RUN) bench/executor.py
	@$(RUN) bench/browser.py
	@$(NPM) run bench

docs: $(VENV)/.docs
	@$(RUN) scripts/layers.py
	@$(RUN) -m sphinx -q -W -b html docs docs/_build

contract: $(VENV)/.dev
	@$(RUN) -c 'import json; from taskapi_jupyter.server.routes import document; \
	  print(json.dumps(json.loads(document("/")), indent=1))' > labextension/openapi.json

screenshots: $(VENV)/.dev
	@$(RUN) scripts/screenshots.py

clean:
	rm -rf $(VENV) $(VENV)-ray $(VENV)-hub $(VENV)-peers build dist docs/_build labextension/node_modules labextension/lib taskapi_jupyter/labextension
