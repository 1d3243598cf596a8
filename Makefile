PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: app test train lint audit chromium

app: $(VENV)/.installed
	$(RUN) app.py

train: $(VENV)/.installed
	$(RUN) training/train.py

test: $(VENV)/.installed-dev chromium
	$(RUN) -m pytest -n auto --dist worksteal

lint: $(VENV)/.installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

# Known holes in what is installed, from PyPI: needs the network, and a place of its own for pip-audit.
audit: $(VENV)/.installed
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install -q pip-audit
	$(VENV)/audit/bin/pip-audit --path "$$($(RUN) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

# Both install the app itself too, as what lies here: `python training/train.py` works from anywhere.
$(VENV)/.installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q --no-compile -e '.[train]'
	touch $@

$(VENV)/.installed-dev: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q --no-compile -e '.[train,ray,watch,export,dev]'
	touch $@ $(VENV)/.installed

# The browser tests need a Chromium; where none is and none can be installed, they skip and say so.
chromium:
	@command -v chromium >/dev/null || { command -v apt-get >/dev/null && \
	  sudo=$$(test "$$(id -u)" = 0 || echo "sudo -n") && \
	  $$sudo apt-get update -qq && $$sudo apt-get install -y -qq chromium >/dev/null; } || \
	  echo "no chromium here and none could be installed: the browser tests will be skipped"
