# Every target sets up what it needs; a second call finds it there.
PY := .venv/bin/python
export HF_HUB_OFFLINE := 1

.PHONY: test lint setup
setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	test -x $(PY) || python3 -m venv .venv
	$(PY) -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

test: setup
	$(PY) -m pytest --cov --cov-report=term
