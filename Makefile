# Everything sets itself up: `make demo` and `make test` need Python >= 3.11 and a C compiler.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
export TOKENIZERS_PARALLELISM := false

# make student RECIPE=recipes.student:vits DATA=photos OUT=runs/student SET="steps=100 seed=1"
run = $(BIN)/distill run $(RECIPE) $(if $(DATA),--data $(DATA)) --out $(OUT) --resume \
	$(if $(SET),--set $(SET))

DEMO := runs/demo
stage = $(BIN)/distill run recipes.demo:$(1) $(if $(2),--data $(2)) --out $(DEMO)/$(3) --resume
# the second of two progress bars
LOWER := TQDM_POSITION=1

.PHONY: setup demo demo-synthetic demo-worlds demo-teacher demo-labels demo-student \
	demo-student_synthetic_only demo-report teacher pseudolabel student evaluate format lint types \
	test check bench soak

setup: $(READY)
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[worlds,semantic,dev]'
	touch $@

# two stages at a time: neither training nor the last scenes of a world fill two cores
demo: setup
	@$(MAKE) --no-print-directory -j2 demo-report

demo-synthetic:
	$(call stage,synthetic,,worlds)
demo-worlds: demo-synthetic
	$(LOWER) $(call stage,worlds,,worlds)
demo-teacher: demo-synthetic
	$(call stage,teacher,$(DEMO)/worlds,teacher)
demo-labels: demo-worlds demo-teacher
	$(call stage,labels,$(DEMO)/worlds,labels)
demo-student: demo-labels
	$(call stage,student,$(DEMO)/worlds,student)
demo-student_synthetic_only: demo-worlds
	$(LOWER) $(call stage,student_synthetic_only,$(DEMO)/worlds,student_synthetic_only)
demo-report: demo-student demo-student_synthetic_only
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
