# Needs Go, make and apt. `make test` is what CI runs; `make help` lists the targets.

VERSION_FLAGS := -trimpath -buildvcs=false
export CGO_ENABLED ?= 0
PREFIX  ?= /usr/local
FUZZTIME ?= 3s
SOAKTIME ?= 10m
DEPS    := $(wildcard scripts/install-deps)

.PHONY: help build man demo demo-shell test soak check bench microbench deps clean install bin/rightful

help:
	@echo 'build       bin/rightful, one static binary'
	@echo 'test        every test, with a real web server where the machine allows it'
	@echo 'soak        for SOAKTIME ($(SOAKTIME)) or 10,000 kills: fix, undo and resume are killed and attacked, and nothing is lost'
	@echo 'check       formatting, vet, staticcheck'
	@echo 'bench       speed and memory against find, bfs, getfacl, chown on trees of up to a million entries'
	@echo 'microbench  the benchmarks inside packages'
	@echo 'demo        the bad day, on a throw-away hosting server'
	@echo 'demo-shell  a shell on that server'
	@echo 'man         bin/man, the manual pages'
	@echo 'install     binary, manual pages and completion below PREFIX ($(PREFIX))'
	@echo 'clean       remove what was built'

build: bin/rightful

bin/rightful:
	@CGO_ENABLED=0 go build $(VERSION_FLAGS) -o $@ ./cmd/rightful

man: build
	@go run -buildvcs=false ./internal/tools/mkman bin/man

deps:
ifneq ($(DEPS),)
	@$(DEPS)
endif

demo: deps build
	@bin/rightful demo

demo-shell: deps build
	@bin/rightful demo --shell

test: deps
	@FUZZTIME=$(FUZZTIME) scripts/test

# SOAKSEED is the seed of a failure, to be repeated.
soak: deps
	@SOAKTIME=$(SOAKTIME) go test -buildvcs=false -count 1 -timeout 0 -v -run '^TestSoak' ./cmd/rightful ./internal/attack

check:
	@scripts/check

# BENCHDIR is where the trees are built (/var/tmp), BENCHFLAGS as "-sizes 100000" or "-quick".
bench: build
	@go run -buildvcs=false ./internal/tools/bench $(BENCHFLAGS)

microbench:
	@go test -buildvcs=false -run '^$$' -bench . -benchmem ./...

install: build man
	install -D -m 0755 bin/rightful $(DESTDIR)$(PREFIX)/sbin/rightful
	install -d $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 0644 bin/man/*.8 $(DESTDIR)$(PREFIX)/share/man/man8/
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	bin/rightful completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/rightful

clean:
	rm -rf bin
