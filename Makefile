# Two commands: `make demo` converts the bundled clip, `make test` runs the tests. Both set everything up in .venv first.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEMO := demo/dog_Full_SBS.mp4

.PHONY: demo test test-slow lint clean

demo: $(READY)
	@mkdir -p demo
	$(BIN)/spatialme convert spatialme/assets/dog.mp4 $(DEMO) --depth tiny --quality fast --overwrite
	@echo "Made $(DEMO): left and right eye side by side, with the clip's sound."
	@echo "Open it with a headset player (Skybox, DeoVR: it reads the name and the tags), with VLC for a flat look,"
	@echo "or see it with red-cyan glasses: $(BIN)/spatialme convert spatialme/assets/dog.mp4 demo/dog_red_cyan.mp4 --format anaglyph"

test: $(READY)
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv demo
