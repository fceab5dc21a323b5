# Sickbay: what a developer types. `make` alone lists it.
#
# Nothing here needs to be installed by hand but Rust: see tests/support/install.sh.

SHELL := bash
.DEFAULT_GOAL := help
INSTALL := tests/support/install.sh

.PHONY: help run build test lint audit docs bench fmt clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Start a throw-away PostgreSQL and Redis and the agent on them; Ctrl-C removes all of it
	@$(INSTALL) $(if $(DATABASE_HOST)$(DATABASE_URL),build,run)
	@exec tests/support/playground.sh

build: ## Build the program: target/debug/sickbay
	@$(INSTALL) build
	cargo build --locked

test: ## Run all tests: unit, integration (with servers of their own), documentation
	@$(INSTALL) test
	cargo test --locked --doc
	cargo test --locked --all-targets

lint: ## Check formatting, clippy, rustdoc and the shell scripts; warnings are errors
	@$(INSTALL) lint
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
	shellcheck --external-sources --source-path=SCRIPTDIR .ci/run tests/support/*.sh

audit: ## Check the dependencies: licences, bans, sources, known vulnerabilities
	@$(INSTALL) build
	@tests/support/audit.sh

docs: ## Write the parts of docs/ that are made of the source; the tests fail where they are stale
	@$(INSTALL) build
	SICKBAY_WRITE=1 cargo test --locked --quiet --lib config::tests::docs

bench: ## Measure speed and size beside HAProxy, curl and bare drivers; writes docs/performance.md
	@$(INSTALL) bench
	cargo build --locked --release
	cargo run --locked --release --example bench

fmt: ## Format the source
	cargo fmt

clean: ## Remove what was built
	cargo clean
