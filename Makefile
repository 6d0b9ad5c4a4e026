# Two commands to begin with: `make demo` and `make test`. `make demo VENV=path` puts the environment
# elsewhere; PYTHON chooses the interpreter, FAISS the build (cpu or gpu), TESTS the tests.
VENV ?= .venv
PYTHON ?= python3
FAISS ?= cpu
BIN = $(VENV)/bin
READY = $(VENV)/.ready-$(FAISS)
# Stages are started as `python -m stages.x`: the environment's python must be the first on the path.
export PATH := $(abspath $(BIN)):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# compiled modules are kept, for the many processes that tests start; pip would compile all there are
unexport PYTHONDONTWRITEBYTECODE
QUIETLY = --quiet --no-compile

# an index with builds of torch without CUDA, for `make images`
TORCH_INDEX ?=

VERSIONS ?= 3.11 3.12 3.13
TESTS ?= tests

# PHOTOS=folder: photographs of your own for `make demo-photos`
PHOTOS ?=
PHOTO_PROJECT = build/photos$(if $(PHOTOS),-$(notdir $(abspath $(PHOTOS))))

.PHONY: demo demo-photos test test-versions test-kill test-slurm lint bench peers docs images audit constraints clean

demo: $(READY) ## set up, then run the pipeline of params.yaml
	dvc repro

demo-photos: $(READY) ## real weights on photographs: solar cells (90 MB, CC BY-NC-SA 4.0), or PHOTOS=folder
ifeq ($(PHOTOS),)
	@echo "installing elpv-dataset: 90 MB of photographs under CC BY-NC-SA 4.0 (no commercial use)"
	python -m pip install --quiet --editable '.[$(FAISS),photos]'
	test -f build/solar-cells/NOTICE.txt || python -m pipeline.demo.photos build/solar-cells --force
else
	python -m pip install --quiet --editable '.[$(FAISS),offline]'
endif
	test -f $(PHOTO_PROJECT)/params.yaml || \
	  fade new $(PHOTO_PROJECT) --preset demo-photos --data $(or $(PHOTOS),build/solar-cells) --no-git
	cd $(PHOTO_PROJECT) && fade run

test: $(READY) ## set up, then run the tests: three at once on two cores, since many wait for processes
	python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(TESTS)

test-versions: ## the tests under each Python of VERSIONS, all of them or those of TESTS="tests/cache ..."
	for version in $(VERSIONS); do \
	  $(MAKE) VENV=$(VENV)-$$version PYTHON=python$$version TESTS="$(TESTS)" test || exit 1; \
	done

test-kill: $(READY) ## each stage killed 30 times
	FADE_KILLS=30 python -m pytest tests/stages/test_kill.py tests/test_dvc_kill.py -s

test-slurm: $(READY) ## the pipeline on a SLURM of this machine (Debian: apt-get install slurm-wlm munge)
	FADE_SLURM=1 python -m pytest tests/slurm -rs -s

lint: $(READY) ## style and types
	ruff check .
	ruff format --check .
	mypy

bench: $(READY) ## measure; writes benchmarks/results.md
	python -m benchmarks

peers: $(READY) ## beside anomalib, in an environment of its own: PEER_VENV, or build/peers
	test -x $(or $(PEER_VENV),build/peers)/bin/python || $(PYTHON) -m venv $(or $(PEER_VENV),build/peers)
	$(or $(PEER_VENV),build/peers)/bin/python -m pip install --quiet 'anomalib[cpu,clip]>=2.7,<3'
	python -m benchmarks.peers

docs: $(READY) $(VENV)/.ready-docs ## check all links and build the site in build/docs/html
	python -m docs.site

images: ## build the container images cpu and edge, and let each say its version (docs/docker.md)
	for image in cpu edge; do \
	  docker build --file docs/docker/Dockerfile --target $$image --build-arg TORCH_INDEX="$(TORCH_INDEX)" \
	    --tag fade:$$image . && docker run --rm fade:$$image fade --version || exit 1; \
	done
	docker compose --file docs/docker/compose.yaml config --quiet

audit: $(READY) $(VENV)/.ready-audit ## look the pinned versions up among known vulnerabilities; says so where it cannot
	python .ci/audit.py

constraints: $(READY) ## pin the versions of this environment in requirements/constraints.txt
	python .ci/constraints.py

clean: ## remove artefacts and results; features stay in .fade/store
	rm -rf artefacts results logs

# the pip that comes with Python 3.11 takes twice as long to find the versions
define INSTALL
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(QUIETLY) --upgrade pip 'setuptools>=77'
	$(BIN)/python -m pip install $(QUIETLY) --no-build-isolation --editable
endef

install: pyproject.toml ## set up at once what all of these need; each alone installs its own part
	$(INSTALL) '.[$(FAISS),dev,docs,audit]'
	touch $(READY) $(VENV)/.ready-docs $(VENV)/.ready-audit

$(READY): pyproject.toml
	$(INSTALL) '.[$(FAISS),dev]'
	touch $@

$(VENV)/.ready-docs $(VENV)/.ready-audit: $(VENV)/.ready-%: pyproject.toml | $(READY)
	$(INSTALL) '.[$*]'
	touch $@
