# One line a target; `make help` lists them. CI runs `make test`.
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
FOLDERS      = $(shell go list -tags e2e,vault -f '{{.Dir}}' ./...) e2e/vault/server
STACK        = e2e/stack/stack
STATICCHECK  = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
.DEFAULT_GOAL = help
.PHONY: help build prepare fmt fmt-check vet staticcheck unit alerts stack e2e e2e-vault tempest load bench bench-docs demo test fuzz clean

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
build: ## the static binary, bin/countersign
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/countersign ./cmd/countersign
prepare: ## install what the tests need beside Go, make and git
	@e2e/stack/prepare
fmt: ## format the Go code
	gofmt -s -w $(FOLDERS)
fmt-check: ## fail where it is not formatted
	@unformatted=$$(gofmt -s -l $(FOLDERS)); test -z "$$unformatted" || { echo "not formatted (make fmt): $$unformatted"; exit 1; }
vet: ## go vet, scenarios included
	go vet -tags e2e,vault ./...
staticcheck: ## staticcheck, scenarios included
	$(STATICCHECK) -tags e2e,vault ./...
unit: prepare ## all tests that need nothing but Go, with the race detector
	go test -race ./...
.PHONY: chart
chart: ## the Helm chart: lint, unit tests, the API's schemas (first time: two minutes of compiling, 70 MB of modules)
	cd e2e/kubernetes && go test -count=1 ./chart # nothing is remembered: the chart is outside of that module
alerts: ## the chart's alerts, with promtool (once: 19 MB from Debian)
	e2e/alerts/check
chart-docs: ## write the chart's README from its values
	cd e2e/kubernetes && go tool helm-docs --chart-search-root ../../charts --log-level warning
.PHONY: chart-docs image e2e-kubernetes
image: ## the container image, with whichever of docker, podman and buildah is there
	.ci/image $(IMAGE_FLAGS)
e2e-kubernetes: build ## the chart on a real Kubernetes in front of the real Glance; 10 minutes, the first time 20 more. KEEP=1 leaves it up
	e2e/kubernetes/scenario
stack: ## bring up a real Keystone, Barbican and Glance on loopback (once: two minutes)
	$(STACK) up
e2e: stack ## the scenarios against it, Glance under eventlet and under uWSGI; RUN=regexp chooses
	go test -count=1 -timeout 60m -tags e2e -run '$(RUN)' ./e2e/...
e2e-vault: export VAULT_SERVER = $(or $(E2E_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/countersign)/e2e/vault
e2e-vault: ## certificates in a real Vault, as castellan keeps them; the first time Vault is built, which takes long
	$(STACK) root
	cd e2e/vault/server && go build -trimpath -ldflags '-s -w' -o $(VAULT_SERVER) .
	go test -count=1 -tags vault ./e2e/vault
tempest: stack build ## Tempest's image tests, straight and through Countersign, compared; under both servers
	e2e/stack/tempest-compare RegionOne RegionProxy
	e2e/stack/tempest-compare RegionUwsgi RegionProxyUwsgi
load: export E2E_LOAD = full
load: stack ## a hundred uploads at once, and one of 20 GiB; minutes
	go test -v -count=1 -timeout 2h -tags e2e -run 'TestManyUploads|TestMemoryDoes|TestOneCertificate' ./e2e
bench: build ## what it costs beside nginx, haproxy and ReverseProxy; ten minutes. BENCH=… are flags
	go run ./e2e/bench $(BENCH)
bench-docs: build ## bench, and write what it found into docs/performance.md
	go run ./e2e/bench -docs docs -before docs/performance/before.json $(BENCH)
demo: build ## the story as a user types it: sign, upload, tamper, refuse
	e2e/demo
test: prepare fmt-check vet staticcheck build unit alerts chart stack e2e ## everything that has to hold
fuzz: ## every fuzz target in turn, FUZZTIME each (30s)
	@for package in $$(go list ./...); do for target in $$(go test -list '^Fuzz' $$package | grep ^Fuzz); do \
		echo "== $$package $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(or $(FUZZTIME),30s) $$package || exit 1; done; done
clean: ## forget what was built, and end the stack
	rm -rf bin && $(STACK) wipe
