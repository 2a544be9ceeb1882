# Every target is a line or two of ./run, which works without make too.
.DEFAULT_GOAL := help
.PHONY: help demo serve setup test proof lint format lock

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

demo: ## the demo assistant at http://127.0.0.1:8000, installed on first use
	@./run demo

serve: ## the server, with your own assistant
	@./run serve

setup: ## only install what the demo and the server need, into .venv
	@./run setup

test: ## lint and the whole test suite
	@./run test

proof: ## break real servers in every way we know, and count the cost; ARGS="--rows kills"
	@./run proof $(ARGS)

lint: ## ruff, mypy, the import rules, the schema of docker-compose.yml
	@./run lint

format: ## put the code into ruff's format, and mend what ruff can
	@./run setup --dev
	.venv/bin/python -m ruff check --fix .
	.venv/bin/python -m ruff format .

# Neither index URLs nor torch: a lock works with any mirror, and ./run installs the CPU build.
COMPILE = .venv/bin/python -m uv pip compile pyproject.toml --universal --python-version 3.11 \
	--generate-hashes --no-emit-package torch --no-emit-index-url --no-header --quiet

lock: ## write requirements*.lock anew from pyproject.toml; UPGRADE=--upgrade for newer releases
	@./run setup
	$(COMPILE) $(UPGRADE) -o requirements.lock
	$(COMPILE) $(UPGRADE) --group dev -c requirements.lock -o requirements-dev.lock
