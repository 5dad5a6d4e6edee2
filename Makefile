# Each target sets up all that it needs: a virtual environment in .venv with the versions of constraints.txt.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo docs test test-cases test-newest test-oldest test-packages quick check update wheel vsix

help: ## These words
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

# Of ten thousand modules that are installed a tenth is ever imported: compiled when they are, and not all of them now, which takes half
# of the time.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: $(READY) ## Check a model with three bugs that raise nothing, then the same model mended
	cd tests/data && $(abspath $(BIN))/vaelint check vae_three_bugs.py:VAE mlp_vae.py:VAE --input 32x784 --exit-zero

docs: $(READY) ## The pages, into docs/_build/html: guides, and one a rule
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build/html
	@echo file://$(CURDIR)/docs/_build/html/index.html

# One process a core is enough: the threads of small operations would only wait for each other. The tests start Python some hundred
# times: where PYTHONDONTWRITEBYTECODE is set, as in many images, each start would compile the package anew.
test test-cases quick: export OMP_NUM_THREADS = 1
demo test test-cases quick: export PYTHONDONTWRITEBYTECODE =
test: $(READY) ## All tests, with a part of the rules' further cases and of the correct systems
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

test-cases: $(READY) ## All cases of all rules, the two thousand checks of fixtures/, and all examples of laws, fixes and hostile targets
	VAELINT_CASES=all $(BIN)/python -m pytest --numprocesses auto --dist worksteal tests/rules tests/laws tests/devices tests/observe \
		tests/cache/test_never_stale.py tests/cache/test_watched.py tests/cli/test_annotate.py tests/cli/test_batches_without_a_loader.py tests/cli/test_cli.py tests/cli/test_fix.py \
		tests/cli/test_streams.py tests/packages/test_older_keras.py tests/process/test_confirm.py tests/process/test_hostile.py \
		tests/process/test_real_pass.py tests/repository/test_gallery.py tests/repository/test_mutation.py tests/server/test_protocol.py

quick: $(READY) ## After each edit: lint, layers, and the tests nearest to what has changed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/python tests/support/nearest.py --numprocesses auto --dist worksteal

# Another torch than the pinned one, in an environment of its own; all else as pinned, but for setuptools, which an older torch wants
# older. It may be several GB.
NEWEST ?= .venv-newest
OLDEST ?= .venv-oldest
test-newest: ## All tests with the newest torch of the package index
test-newest: OTHER = $(NEWEST)
test-newest: TORCH = torch
test-oldest: ## All tests with the oldest torch that pyproject.toml allows
test-oldest: OTHER = $(OLDEST)
test-oldest: TORCH = torch==$(shell sed -n 's/.*"torch>=\([0-9.]*\),.*/\1/p' pyproject.toml).*
test-newest test-oldest:
	$(PYTHON) -m venv $(OTHER)
	grep -Ev '^(torch|setuptools)==' constraints.txt > $(OTHER)/constraints.txt
	$(OTHER)/bin/python -m pip install --quiet --upgrade --constraint $(OTHER)/constraints.txt "$(TORCH)" --editable ".[dev]"
	$(OTHER)/bin/python -c "import torch; print('torch', torch.__version__)"
	VAELINT_CASES=all OMP_NUM_THREADS=1 $(OTHER)/bin/python -m pytest --numprocesses auto --dist worksteal

# Packages that ship VAEs, in an environment of their own: they pin versions of theirs. multivae comes without what it asks for
# (tests/packages/constraints.txt says why), the others bring it.
PACKAGES ?= .venv-packages
SHIPPED := accelerate cornac ctgan deeptime diffusers keras monai pyod pythae recbole scvi-tools torch-geometric transformers \
	vector-quantize-pytorch
test-packages: ## The models that thirteen packages ship: findings that were judged by eye; trainings of Lightning, Pyro and others; Keras
	$(PYTHON) -m venv $(PACKAGES)
	$(PACKAGES)/bin/python -m pip install --quiet --constraint tests/packages/constraints.txt --editable ".[dev]" $(SHIPPED) torchmetrics nltk
	$(PACKAGES)/bin/python -m pip install --quiet --constraint tests/packages/constraints.txt --no-deps multivae
	OMP_NUM_THREADS=1 $(PACKAGES)/bin/python -m pytest -W default tests/packages

check: $(READY) ## Lint, formats, types, and who may import whom
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture

update: $(READY) ## Write the stored reports, the guides' output and the README's rule table anew
	VAELINT_UPDATE=1 $(BIN)/python -m pytest -q tests/report/test_report.py tests/repository/test_package.py tests/config/test_config.py tests/repository/test_docs.py tests/repository/test_gallery.py tests/repository/test_survey.py

wheel: $(READY) ## Build the wheel from a clean tree: a left-over build/ would bring deleted rules back
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	rm -rf build

vsix: ## The extension for VS Code, into editors/vscode/vaelint.vsix; needs npm
	cd editors/vscode && npm ci && npm run package
