# Everything sets itself up: `make demo` and `make test` need Python >= 3.11 and a C compiler.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
export TOKENIZERS_PARALLELISM := false

# make student RECIPE=recipes.student:vits DATA=photos OUT=runs/student SET="steps=100 seed=1"
run = $(BIN)/distill run $(RECIPE) $(if $(DATA),--data $(DATA)) --out $(OUT) --resume \
	$(if $(SET),--set $(SET))

DEMO := runs/demo
stage = $(BIN)/distill run recipes.demo:$(1) $(2) --out $(DEMO)/$(1) --resume

.PHONY: setup demo teacher pseudolabel student evaluate format lint types test check bench soak

setup: $(READY)
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[worlds,semantic,dev]'
	touch $@

demo: setup
	$(call stage,worlds)
	$(call stage,teacher,--data $(DEMO)/worlds)
	$(call stage,labels,--data $(DEMO)/worlds)
	$(call stage,student,--data $(DEMO)/worlds)
	$(call stage,student_synthetic_only,--data $(DEMO)/worlds)
	$(BIN)/distill run recipes.demo:evaluation --data $(DEMO) --out $(DEMO) --resume
	$(BIN)/distill report $(DEMO)

teacher: RECIPE ?= recipes.teacher:vitg
teacher: OUT ?= runs/teacher
pseudolabel: RECIPE ?= recipes.labels:plain
pseudolabel: OUT ?= runs/labels
student: RECIPE ?= recipes.student:vits
student: OUT ?= runs/student
evaluate: RECIPE ?= recipes.evaluation:student
evaluate: OUT ?= runs/evaluation
teacher pseudolabel student evaluate: setup
	$(run)

format: setup
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup
	$(BIN)/pyright

test: setup
	$(BIN)/pytest

check: lint types test

bench: setup
	$(BIN)/python -m benchmarks.figures $(ONLY)

soak: setup
	$(BIN)/pytest -m slow && $(BIN)/python -m benchmarks.soak
