# `make demo` and `make test` need Python 3.11-3.13 and Java 17 or 21; everything else they bring themselves.

.DEFAULT_GOAL := help
.PHONY: help setup demo test proof soak ui serve doctor rollback check bench release-check lock clean clean-all
SHELL := /bin/sh

# One setting moves everything that a run writes. An empty value would make `clean` mean the checkout.
ifeq ($(strip $(MLOPS_HOME)),)
override MLOPS_HOME := .mlops
endif
override MLOPS_HOME := $(patsubst ~/%,$(HOME)/%,$(MLOPS_HOME))
ifeq ($(filter /%,$(firstword $(MLOPS_HOME))),)
override MLOPS_HOME := $(CURDIR)/$(MLOPS_HOME)
endif
VENV ?= .venv
export MLOPS_HOME VENV

# What the tools keep for themselves goes there as well. Bytecode does not: the set-up compiles what it installs.
export RUFF_CACHE_DIR := $(MLOPS_HOME)/cache/ruff
export MYPY_CACHE_DIR := $(MLOPS_HOME)/cache/mypy
export HYPOTHESIS_STORAGE_DIRECTORY := $(MLOPS_HOME)/cache/hypothesis
export MPLCONFIGDIR := $(MLOPS_HOME)/cache/matplotlib
export PYTHONDONTWRITEBYTECODE := 1

# The target's own variables count only on make's command line (which also exports them to the recipe): names such as
# NAME and PORT are set in some people's shells for other ends.
given = $(if $(findstring command line,$(origin $(1))),$($(1)))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  PYTHON=  the Python to use        VENV=        the virtual environment (.venv)"
	@echo "  JAVA_HOME  the Java to use        MLOPS_HOME=  the folder that runs write to (.mlops)"

setup: ## virtual environment, locked dependencies, Delta jars; every target below does it by itself
	@sh scripts/setup.sh

# make ends with 2 whenever a command fails, and prints the command's own exit code (`mlops --help` lists them).
# Asked for a target that isn't there, it answers without a set-up.
demo_targets = local databricks-local
demo_target = $(or $(call given,TARGET),local)
demo_known = $(if $(filter 1,$(words $(demo_target))),$(filter $(demo_targets),$(demo_target)))
run_local = MLOPS_TARGET=local "$$venv/bin/mlops" demo
run_databricks-local = "$$venv/bin/python" -m mlops_assets.cli.demo_databricks
# A model's name means one of a project with several; without it, the model that the variables describe runs.
in_project = $(if $(call given,MODEL),cd "$${PROJECT:-examples/own_project}" &&)
# Where nobody names data: generated cards, whose labels come late. A home that has the former default goes on with it.
named = $(or $(call given,SOURCE),$(call given,CONTRACT),$(call given,MODEL),$(call given,PROJECT),$(MLOPS_SOURCE),$(MLOPS_CONTRACT))
unnamed = $(if $(named)$(wildcard $(MLOPS_HOME)/lakehouse/creditcard_synthetic),,MLOPS_SOURCE=cards MLOPS_CONTRACT=cards)
data = $(unnamed) $(if $(call given,SOURCE),MLOPS_SOURCE="$$SOURCE") $(if $(call given,CONTRACT),MLOPS_CONTRACT="$$CONTRACT")
demo: $(if $(demo_known),setup) ## the whole flow once, small and offline; SOURCE=, CONTRACT=, TRIALS= for your own, TARGET=databricks-local; MODEL=cards: one of examples/own_project, or of PROJECT=
ifeq ($(demo_known),)
	@echo "demo: there is no target '$$TARGET'; TARGET is one of: $(demo_targets)" >&2; exit 2
else
	@venv=$$(cd "$$VENV" && pwd) && $(in_project) \
	  $(data) $(run_$(demo_known))$(if $(call given,MODEL), --model "$$MODEL")$(if $(call given,TRIALS), --trials "$$TRIALS")
endif

# Two processes share the whole suite, a file at a time, each with a Spark of its own; some tests are run by one.
test: setup ## all tests, in two processes; ARGS="-k name" for some, in one; ARGS=-n0 for all in one
	@"$$VENV/bin/python" -m pytest -o cache_dir="$$MLOPS_HOME/cache/pytest" \
	  --junitxml="$$MLOPS_HOME/test/junit.xml" \
	  -n $(if $(call given,ARGS),0,2) --dist loadfile --no-loadscope-reorder $(call given,ARGS)

# Asked for the list, or for a part that isn't there, it answers without a set-up.
proof_parts = $(shell awk '/^[a-z]/ { print $$1 }' .ci/proof-parts)
proof_part = $(call given,PART)
proof_refused = $(if $(proof_part),$(filter-out $(proof_parts),$(proof_part))$(word 2,$(proof_part)))
proof: $(if $(proof_refused),,setup) ## the long proofs, part by part; PART= for one, PART=list lists them
ifeq ($(proof_part),list)
	@awk '/^[a-z]/ { printf "%s: %s minutes\n", $$1, $$2 }' .ci/proof-parts
else ifneq ($(proof_refused),)
	@echo "proof: there is no part '$$PART'; PART is list or one of: $(proof_parts)" >&2; exit 2
else
	@sh scripts/proof.sh $(or $(proof_part),all) $(call given,ARGS)
endif

soak: setup ## files arrive while the daemon and runs are killed, for some minutes; ARGS="--seed N" repeats one
	@"$$VENV/bin/python" -m mlops_assets_tests.soak $(call given,ARGS)

ui: setup ## the web UIs of Dagster and MLflow on 127.0.0.1; SOURCE=, CONTRACT= as for the demo; PORT= (3000); PROJECT=examples/own_project: those of a project
	@venv=$$(cd "$$VENV" && pwd) && $(if $(call given,PROJECT),cd "$$PROJECT" &&) \
	  $(data) exec "$$venv/bin/mlops" ui $(if $(call given,PORT),--port "$$PORT")

serve: setup ## answer with the champion on 127.0.0.1:8400; prints a curl line; SOURCE=, CONTRACT= as for the demo; PORT=, WORKERS=
	@$(data) exec "$$VENV/bin/mlops" serve $(if $(call given,PORT),--port "$$PORT") $(if $(call given,WORKERS),--workers "$$WORKERS")

doctor: setup ## what is right and what to fix: Java, versions, settings; with MLOPS_TARGET=databricks the workspace
	@"$$VENV/bin/mlops" doctor

rollback: setup ## make the champion before the present one champion again, in seconds; TO=N for another version, REASON="..."
	@"$$VENV/bin/mlops" rollback $(if $(call given,TO),--to "$$TO") $(if $(call given,REASON),--reason "$$REASON")

check: setup ## ruff (lint and format), mypy, zizmor (GitHub workflows), the bundle, and a scan for secrets
	@"$$VENV/bin/ruff" check .
	@"$$VENV/bin/ruff" format --check .
	@"$$VENV/bin/mypy"
	@"$$VENV/bin/mypy" scripts
	@"$$VENV/bin/zizmor" --offline --quiet .github
	@"$$VENV/bin/python" scripts/bundle.py
	@sh scripts/scan_secrets.sh

# Asked for what there is, or for what there isn't, it answers without a set-up.
bench_name = $(call given,NAME)
bench_names = $(filter-out _%,$(patsubst benchmarks/%.py,%,$(wildcard benchmarks/*.py)))
bench: $(if $(filter $(bench_name),$(bench_names)),setup) ## one measurement, NAME=x for benchmarks/x.py, ARGS= for its options; without NAME, list them
ifeq ($(bench_name),)
	@echo "make bench NAME=x, where x is one of: $(or $(bench_names),(there is none yet))"
else ifeq ($(filter $(bench_name),$(bench_names)),)
	@echo "bench: there is no benchmarks/$$NAME.py; NAME is one of: $(or $(bench_names),(there is none yet))" >&2; exit 2
else
	@"$$VENV/bin/python" -m "benchmarks.$$NAME" $(call given,ARGS)
endif

# What of a release one machine can show; GitHub's workflow does it on a tag, with the Databricks CLI and a workspace.
release-check: setup ## build the wheel, check the bundle, deploy it to a loopback workspace, fail on purpose and go back
	@"$$VENV/bin/python" scripts/release_check.py

lock: setup ## requirements.lock anew from pyproject.toml; ARGS=--upgrade for newer versions
	@UV_CUSTOM_COMPILE_COMMAND="make lock" "$$VENV/bin/uv" pip compile pyproject.toml --quiet --all-extras \
	  --universal --python-version 3.11 --fork-strategy fewest --no-strip-extras --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-annotate --output-file requirements.lock $(call given,ARGS)

clean: ## remove what runs wrote (MLOPS_HOME) and all caches; keeps the virtual environment
	@sh scripts/clean.sh
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
	@find $(wildcard mlops_assets mlops_assets_tests benchmarks packages scripts) -name __pycache__ -prune -exec rm -rf {} +

clean-all: clean ## remove the virtual environment too
	@[ ! -f "$$VENV/pyvenv.cfg" ] || rm -rf "$$VENV"
