# Everything sets itself up: `make demo` and `make test` need Python >= 3.11 and a C compiler.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEMO := runs/demo
export TOKENIZERS_PARALLELISM := false

# make student RECIPE=recipes.student:vits DATA=photos OUT=runs/student SET="steps=100 seed=1"
run = $(BIN)/distill run $(RECIPE) $(if $(DATA),--data $(DATA)) --out $(OUT) --resume \
	$(if $(SET),--set $(SET))
stage = $(BIN)/distill run recipes.demo:$(1) $(if $(2),--data $(2)) --out $(DEMO)/$(3) --resume

.PHONY: setup demo demo-report teacher pseudolabel student evaluate format lint types test check \
	bench soak $(addprefix demo-,synthetic worlds teacher labels student student_synthetic_only)

setup: $(READY)
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[worlds,semantic,data,dev]'
	touch $@

# two stages at a time: neither training nor the last scenes of a world fill two cores
demo: setup
	@$(MAKE) --no-print-directory -j2 demo-report
demo-worlds demo-teacher: demo-synthetic
demo-labels: demo-worlds demo-teacher # 1: some photos got no label and are named
	$(call stage,labels,$(DEMO)/worlds,labels) || [ $$? = 1 ]
demo-student: demo-labels
demo-student_synthetic_only: demo-worlds
demo-worlds demo-student_synthetic_only: private export TQDM_POSITION := 1
demo-synthetic demo-worlds: demo-%:
	$(call stage,$*,,worlds)
demo-teacher demo-student demo-student_synthetic_only: demo-%:
	$(call stage,$*,$(DEMO)/worlds,$*)
demo-report: demo-student demo-student_synthetic_only
	$(call stage,evaluation,$(DEMO),)
	$(BIN)/distill report $(DEMO)

teacher pseudolabel student: OUT ?= runs/$(@:pseudolabel=labels)
teacher: RECIPE ?= recipes.teacher:vitg
pseudolabel: RECIPE ?= recipes.labels:plain
student: RECIPE ?= recipes.student:vits
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
test: setup # two at a time, each on one thread, a file's tests together
	$(BIN)/pytest -n 2 --dist loadfile
check: lint types test
bench: setup
	$(BIN)/python -m benchmarks.figures $(ONLY)
soak: setup
	$(BIN)/pytest -m slow && $(BIN)/python -m benchmarks.soak && $(BIN)/python -m benchmarks.hosts
