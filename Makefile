# vssemu. `make` alone lists the targets; what it does not list is unsupported.
# Needs nothing but make: everything else is installed when it is missing.

VENV    := .venv
PYTHON  := $(VENV)/bin/python
PACKAGES := python3-venv python3-dev gcc pkg-config libfuse3-dev fuse3 xfsprogs e2fsprogs \
            gdisk util-linux attr restic cabextract sqlite3 fio

.PHONY: help demo unit test soak bench check clean setup
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## the main job, end to end, on real data (root)
	$(PYTHON) -m vssemu.lab.demo

unit: $(VENV)/.installed ## tests that need no root
	$(PYTHON) -m pytest --numprocesses 2 tests/unit

# Two at a time, a file of tests each: they wait more than they work, and touch only their own.
test: setup ## all tests, on real devices (root)
	$(PYTHON) -m pytest --numprocesses 2 --dist loadfile

soak: setup ## tests that run for long, or under storms (root)
	$(PYTHON) -m pytest tests/soak

bench: setup ## figures side by side with what they are held against; BENCH=tar,hold for some (root)
	@command -v qemu-storage-daemon >/dev/null || echo "without qemu-utils and qemu-system-common" \
	    "there is no figure of QEMU's copy-before-write"
	$(PYTHON) -m tests.bench $(BENCH)

check: $(VENV)/.installed ## ruff, mypy strict, the import contract
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

clean: ## remove what was built; labs are taken down with `vssemu lab down --all`
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(VENV)/.packages $(VENV)/.installed ## install what is missing, nothing else (root)

# Debian packages, only those that are missing, and only where apt is.
$(VENV)/.packages: Makefile
	@mkdir -p $(VENV)
	@have=$$(dpkg-query -W -f '$${Package} $${db:Status-Status}\n' $(PACKAGES) 2>/dev/null \
	    | awk '$$2 == "installed" { print $$1 }'); \
	missing=$$(for p in $(PACKAGES); do echo "$$have" | grep -qx "$$p" || printf ' %s' "$$p"; done); \
	if [ -z "$$missing" ]; then :; \
	elif ! command -v apt-get >/dev/null; then \
	    echo "no apt-get here; what these Debian packages hold is needed:$$missing"; \
	elif [ "$$(id -u)" != 0 ]; then \
	    echo "packages are missing; run as root: apt-get install$$missing" >&2; exit 1; \
	else \
	    echo "installing:$$missing"; \
	    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y \
	        --no-install-recommends $$missing; } >$(VENV)/packages.log 2>&1 \
	    || { cat $(VENV)/packages.log >&2; exit 1; }; \
	fi
	@touch $@

# A venv whose making was interrupted has a Python without pip.
$(VENV)/.installed: pyproject.toml | $(VENV)/.packages
	@$(PYTHON) -c 'import pip' 2>/dev/null || python3 -m venv $(VENV)
	@echo "installing the package with its tools into $(VENV)"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[dev]' \
	    || { test -w $(VENV)/bin || echo "$(VENV) is not yours: sudo make setup" >&2; exit 1; }
	@touch $@
