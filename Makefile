# Every target sets up what it needs first: .venv/ beside this file, with llama-cpp-python compiled for this machine.
# PYTHON, CC, CXX, CMAKE_ARGS and pip's own variables (PIP_EXTRA_INDEX_URL, …) reach the set-up.

CONFIG ?= conf/models.toml
ARGS ?=
HOURS ?= 1
PY := .venv/bin/python

# For `make install`; a packager sets DESTDIR.
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR ?=
INSTALL = $(PY) .ci/install.py --prefix "$(PREFIX)" --sysconfdir "$(SYSCONFDIR)" --destdir "$(DESTDIR)"

# OpenMP teams that spin stall each other when several models share the cores; a crash needs no gdb.
TEST_ENV := GOMP_SPINCOUNT=1000 GGML_NO_BACKTRACE=1

.PHONY: help run setup ui install uninstall test lint faults fuzz booted soak bench clean distclean
.DEFAULT_GOAL := help

help:
	@echo 'make run        set up, then serve $(CONFIG)   (another one: make run CONFIG=FILE)'
	@echo 'make setup      set up only'
	@echo 'make ui         the pages that the server shows at /: proxy/ui → proxy/static'
	@echo 'make install    as a systemd service, below $(PREFIX)   (make uninstall takes it away)'
	@echo 'make test       the tests                      (some of them: make test ARGS="-k config")'
	@echo 'make lint       ruff, mypy --strict, and an audit of what is required, where there is a network'
	@echo 'make fuzz       odd requests, frames and files             (some: make fuzz ARGS="headers -n 1000000")'
	@echo 'make booted     the service under a systemd that boots for it; as root'
	@echo 'make faults     every fault of the matrix, many times     (fewer: make faults ARGS="--rows 1,4 --part 0.2")'
	@echo 'make soak       random faults for HOURS=1'
	@echo 'make bench      the benchmarks'
	@echo 'make clean      remove what was built, but keep .venv/'
	@echo 'make distclean  remove .venv/ as well: llama-cpp-python is compiled again next time'

run: setup
	@.ci/ui || true  # it says what is wrong, and so does the page; the API needs none of it
	@exec $(PY) -m supervisor $(CONFIG)

setup:
	@.ci/setup

ui:
	@.ci/ui

# As root, after `make setup` and `make ui` as whoever owns the checkout: nothing is compiled or fetched here.
install:
	@test -x $(PY) || { echo 'install: run `make setup` first' >&2; exit 1; }
	@$(INSTALL) install

uninstall:
	@test -x $(PY) || { echo 'uninstall: run `make setup` first' >&2; exit 1; }
	@$(INSTALL) uninstall

test:
	@.ci/setup test
	@.ci/ui || true  # the tests that need it say so
	@exec env $(TEST_ENV) $(PY) -m pytest $(ARGS)

lint:
	@.ci/setup dev
	$(PY) -m ruff check .
	$(PY) -m mypy --strict supervisor worker proxy
	@$(PY) .ci/audit

faults:
	@.ci/setup test
	@exec env $(TEST_ENV) $(PY) -m tests.faults run $(ARGS)

fuzz:
	@.ci/setup test
	@exec env $(TEST_ENV) $(PY) -m tests.fuzz $(ARGS)

booted:
	@.ci/setup test
	@exec $(PY) -m tests.booted

soak:
	@.ci/setup test
	@exec env $(TEST_ENV) $(PY) -m tests.faults soak --hours $(HOURS) $(ARGS)

bench:
	@.ci/setup test
	@exec env GGML_NO_BACKTRACE=1 $(PY) -m tests.bench $(ARGS)

clean:
	rm -rf proxy/static proxy/ui/node_modules build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis bench-results
	find supervisor worker proxy tests .ci -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv
