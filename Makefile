# The house's verbs. `make help` lists them; everything else is CMake's, by preset.
.DEFAULT_GOAL := build
.PHONY: build demo test lint bench format fuzz asan tsan image test-kubernetes test-apiserver clean help

JOBS ?= $(shell nproc 2>/dev/null || echo 2)
FUZZ_SECONDS ?= 20

# cmake, quiet unless it fails
configure = cmake --preset $(1) >build/$(1).configure.log 2>&1 || { cat build/$(1).configure.log; exit 1; }
compile = nice cmake --build --preset $(1) -j $(JOBS) $(2)

build: ## build the release binary: static, stripped (the default)
	@tools/setup.sh build
	@mkdir -p build
	@$(call configure,release)
	@[ -f src/cli/main.c ] || { echo "there is no src/cli/main.c yet, so no binary"; exit 1; }
	@$(call compile,release,--target nabata)
	@size=$$(stat -c %s build/release/nabata) && \
		echo "build/release/nabata: $$((size / 1024)) KiB"

demo: build ## three members: kill the leader, go on, bring it back
	@tools/demo.sh build/release/nabata

test: ## build for debugging and run all tests
	@tools/setup.sh test
	@mkdir -p build
	@$(call configure,debug)
	@$(call compile,debug)
	@$(call configure,release) # what images and pods are tested with
	@$(call compile,release,--target nabata)
	@ctest --test-dir build/debug -j $(JOBS) --output-on-failure --no-tests=error

lint: ## floors, format, clang-tidy, gcc -fanalyzer, shellcheck
	@tools/setup.sh lint
	@tools/lint.sh

bench: build ## measure a group of three beside etcd (DOCS=1: and write docs/performance.md; BENCH='--only ROW')
	@tools/setup.sh bench $(if $(DOCS),plots)
	@bench/run.sh build/release/nabata $(if $(DOCS),--docs) $(BENCH)

format: ## clang-format all sources in place
	@tools/setup.sh lint
	@git ls-files '*.c' '*.h' | xargs -r clang-format -i

fuzz: ## every fuzz target under libFuzzer, FUZZ_SECONDS (20) each
	@tools/setup.sh fuzz
	@mkdir -p build
	@$(call configure,fuzz)
	@$(call compile,fuzz)
	@tools/fuzz.sh build/fuzz/fuzz $(FUZZ_SECONDS)

asan: ## build and run the tests under the address and undefined-behaviour sanitizers
	@tools/setup.sh test
	@mkdir -p build
	@$(call configure,asan)
	@$(call compile,asan)
	@tools/ctest-sanitized.sh asan

tsan: ## build and run the threaded tests under the thread sanitizer
	@tools/setup.sh test
	@mkdir -p build
	@$(call configure,tsan)
	@$(call compile,tsan)
	@tools/ctest-sanitized.sh tsan

image: build ## build the server's and the client's image with docker or podman (ENGINE=)
	@ENGINE='$(ENGINE)' ARCH='$(ARCH)' deploy/image/build.sh

test-kubernetes: build ## only the tests of images, scripts, manifests and pods; no cluster needed
	@tools/setup.sh test
	@mkdir -p build
	@$(call configure,debug)
	@$(call compile,debug,--target nabata)
	@ctest --test-dir build/debug -R '^kubernetes/' --output-on-failure --no-tests=error

test-apiserver: build ## manifests and pods under a real Kubernetes API server, built first (long, once)
	@tools/setup.sh test
	@mkdir -p build
	@$(call configure,debug)
	@tests/kubernetes/apiserver/build.sh build/kubernetes || [ $$? -eq 77 ]
	@ctest --test-dir build/debug -R '^kubernetes/apiserver$$' --output-on-failure --no-tests=error

clean: ## remove build/
	@rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
