# SPDX-License-Identifier: BSD-2-Clause
#
# The only build file. `make help` lists the targets; output goes to build/ (build/asan, build/tsan for the other
# modes); V=1 shows the commands. What is compiled is found by wildcard, so a new file needs no line here.

MAKEFLAGS += --no-builtin-rules
# As many jobs as there are CPUs, unless it is called with -j.
ifeq ($(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc)
endif
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

CXX := g++
CXX_LLVM := clang++-19
CLANG_BPF := clang
CLANG_TIDY := clang-tidy-19
CLANG_FORMAT := clang-format-19
BPFTOOL = $(firstword $(wildcard /usr/sbin/bpftool /usr/bin/bpftool /usr/local/sbin/bpftool))
PREFIX := /usr/local
DESTDIR :=
VERSION := 0.1.0
SOVERSION := 0
V := 0
Q := $(if $(filter 1,$(V)),,@)

# One mode per run: release, asan or tsan.
MODE := release
BUILD := build$(if $(filter release,$(MODE)),,/$(MODE))
MODE_FLAGS_release := -O2 -g
MODE_FLAGS_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all -fno-omit-frame-pointer -Wno-maybe-uninitialized
MODE_FLAGS_tsan := -O1 -g -fsanitize=thread -Wno-tsan -Wno-maybe-uninitialized

WARNINGS := -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror
CPPFLAGS := -Iinclude -I. -I$(BUILD)/gen -DSP_VERSION='"$(VERSION)"'
CXXFLAGS = -std=c++23 $(WARNINGS) $(MODE_FLAGS_$(MODE)) -fvisibility=hidden -pthread
LIBRARY_FLAGS := -fPIC -fno-exceptions -fno-rtti
LIBS := -lxdp -lbpf -lelf -lz -lmnl -lsodium
LDFLAGS = $(MODE_FLAGS_$(MODE)) -pthread

# ---- what there is ------------------------------------------------------------------------------------------

folders := ring protocol link stream engine transport xdp
library_sources := $(wildcard userspace/*.cpp) $(wildcard $(folders:%=userspace/%/*.cpp))
cli_sources := $(wildcard userspace/cli/*.cpp)
fuzz_only := tests/fuzz/fuzzer.cpp tests/fuzz/planted.cpp # of `make fuzz`; the test program replays the others
test_sources := $(wildcard tests/*_test.cpp tests/*/*_test.cpp)
sim_sources := $(filter-out %_test.cpp,$(wildcard tests/sim/*.cpp))
sim_shared := tests/sim/network.cpp tests/sim/scenario.cpp # the rest of the simulator is a program of its own
nng_process := tests/interop/nng_process.cpp # a program of its own, started by the test program
test_support := $(filter-out $(test_sources) $(fuzz_only) $(nng_process) $(filter-out $(sim_shared),$(sim_sources)),\
	$(wildcard tests/*.cpp tests/*/*.cpp))
bench_sources := $(wildcard bench/*.cpp)
bench_peers := $(wildcard bench/peers/*.cpp) # the other libraries, in peers_local only
example_sources := $(wildcard userspace/examples/*.cpp)
headers := $(wildcard include/sp/*.hpp include/sp/abi/*.hpp include/sp/abi/*.h)

objects = $(patsubst %.cpp,$(BUILD)/obj/%.o,$(1))
library_objects := $(call objects,$(library_sources))
cli_objects := $(call objects,$(cli_sources))
test_objects := $(call objects,$(test_sources) $(test_support))
nng_process_objects := $(patsubst %.cpp,$(BUILD)/obj/nng/%.o,$(nng_process) tests/interop/nng_frame.cpp)
examples := $(example_sources:userspace/examples/%.cpp=$(BUILD)/examples/%)
benches := $(bench_sources:bench/%.cpp=$(BUILD)/bench/%)
skeleton := $(BUILD)/gen/sp_steer.skel.h

.PHONY: all deps deps-test deps-tools deps-bench test sim plants fuzz fuzz-corpus fuzz-xdp demo bench bench-local docs asan tsan tidy format headers \
	install uninstall clean help

all: $(BUILD)/sp $(BUILD)/libsp.a $(BUILD)/libsp.so $(examples) ## build the program, the library and the examples

# ---- packages -----------------------------------------------------------------------------------------------

packages := g++ clang libbpf-dev libxdp-dev libmnl-dev libsodium-dev libelf-dev zlib1g-dev libcli11-dev \
	nlohmann-json3-dev libfmt-dev bpftool pkg-config iproute2 util-linux
packages_test := libgtest-dev libgmock-dev clang-19 libclang-rt-19-dev libcap2-bin python3-minimal libnng-dev nng-utils
packages_tools := clang-tidy-19 clang-format-19
packages_bench := libnng-dev libzmq3-dev libnanomsg-dev # the libraries that peers_local compares with

# Installs what is missing of $(1) and nothing else; needs no network when all is there.
define install_missing
@missing=$$(for p in $(1); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
if [ -n "$$missing" ]; then \
	echo "deps: installing" $$missing; \
	if [ $$(id -u) = 0 ]; then as=; elif command -v sudo >/dev/null; then as=sudo; \
	else echo "deps: not root and no sudo; run as root: apt-get install --no-install-recommends" $$missing; exit 4; fi; \
	$$as apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive $$as apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
fi
endef

deps: ## install what the build and the demo need (apt, nothing recommended)
	$(call install_missing,$(packages))

deps-test: deps ## install what the tests need besides
	$(call install_missing,$(packages_test))

deps-tools: deps ## install the formatter and the linter
	$(call install_missing,$(packages_tools))

deps-bench: deps ## install the other messaging libraries that a benchmark compares with
	$(call install_missing,$(packages_bench))

# ---- the BPF program ----------------------------------------------------------------------------------------

$(BUILD)/gen/sp_steer.bpf.o: bpf/sp_steer.bpf.c $(wildcard include/sp/abi/*) | deps
	@mkdir -p $(@D)
	@echo "  BPF     $@"
	$(Q)$(CLANG_BPF) -target bpf -O2 -g -Wall -Wextra -Werror -Wno-unused-function -std=gnu11 -Iinclude \
		-I/usr/include/$$(g++ -print-multiarch) -c $< -o $@

$(skeleton): $(BUILD)/gen/sp_steer.bpf.o
	@echo "  SKEL    $@"
	$(Q)$(or $(BPFTOOL),/usr/sbin/bpftool) gen skeleton $< name sp_steer > $@

# ---- objects, library, program ------------------------------------------------------------------------------

$(library_objects): EXTRA := $(LIBRARY_FLAGS)
$(BUILD)/obj/%.o: %.cpp $(skeleton) | deps
	@mkdir -p $(@D)
	@echo "  CXX     $@"
	$(Q)$(CXX) $(CPPFLAGS) $(CXXFLAGS) $(EXTRA) -MMD -MP -c $< -o $@

$(BUILD)/libsp.a: $(library_objects)
	@echo "  AR      $@"
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/libsp.so: $(library_objects)
	@echo "  LINK    $@"
	$(Q)$(CXX) $(LDFLAGS) -shared -Wl,-soname,libsp.so.$(SOVERSION) -Wl,--no-undefined -o $@ $^ $(LIBS)

$(BUILD)/sp: $(cli_objects) $(BUILD)/libsp.a
	@echo "  LINK    $@"
	$(Q)$(CXX) $(LDFLAGS) -o $@ $^ -lfmt $(LIBS)

$(BUILD)/examples/%: $(BUILD)/obj/userspace/examples/%.o $(BUILD)/libsp.a
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	$(Q)$(CXX) $(LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/bench/%: $(BUILD)/obj/bench/%.o $(BUILD)/libsp.a
	@mkdir -p $(@D)
	@echo "  LINK    $@"
	$(Q)$(CXX) $(LDFLAGS) -o $@ $^ $(LIBS)

# The only program that is linked with other messaging libraries. nanomsg before libnng, which has functions of its names.
bench_peers_objects := $(call objects,$(bench_peers))
$(bench_peers_objects): | deps-bench
$(BUILD)/obj/bench/peers/nanomsg.o: EXTRA = -DNANOMSG_VERSION='"$(shell pkg-config --modversion nanomsg)"'
$(BUILD)/bench/peers_local: $(bench_peers_objects)
$(BUILD)/bench/peers_local: LIBS += -lzmq -lnanomsg -lnng

# ---- checks -------------------------------------------------------------------------------------------------

$(test_objects): | deps-test
$(test_objects): EXTRA := -O1 # they wait for the kernel, not for the CPU; optimising them doubles the build
$(BUILD)/sp-test: $(test_objects) $(BUILD)/libsp.a | $(BUILD)/nng-process
	@echo "  LINK    $@"
	$(Q)$(CXX) $(LDFLAGS) -o $@ $^ -lgtest_main -lgtest -lgmock $(LIBS)

# libnng has a process of its own, which is the same in every mode: sanitizers would tell of libnng's insides there.
$(BUILD)/nng-process $(nng_process_objects): MODE_FLAGS_$(MODE) := -O1 -g
$(BUILD)/obj/nng/%.o: %.cpp | deps-test
	@mkdir -p $(@D)
	@echo "  CXX     $@"
	$(Q)$(CXX) $(CPPFLAGS) $(CXXFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/nng-process: $(nng_process_objects)
	@echo "  LINK    $@"
	$(Q)$(CXX) $(LDFLAGS) -o $@ $^ -lnng

# The simulator, three times, from objects of its own and the same in every mode: as fast as it goes, under sanitizers,
# and with the planted bugs. What it tests is compiled as it ships, but for marks at rare branches.
sim_tested := $(wildcard userspace/protocol/*.cpp userspace/link/*.cpp userspace/stream/*.cpp)
sim_objects = $(patsubst %.cpp,build/$(1)/%.o,$(sim_sources) $(sim_tested))
SIM_FLAGS_sim := -O2 -g1
SIM_FLAGS_asan-sim := $(MODE_FLAGS_asan:-O1=-O2)
SIM_FLAGS_plants := -O2 -g1 -DSP_PLANTS
SEEDS := 1000000

define sim_flavour
build/$(1)/%.o: %.cpp | deps-test
	@mkdir -p $$(@D)
	@echo "  CXX     $$@"
	$$(Q)$$(CXX) $$(CPPFLAGS) -std=c++23 $$(WARNINGS) $$(SIM_FLAGS_$(1)) -DSP_MARKS -MMD -MP -c $$< -o $$@

build/$(1)/sp-sim: $$(call sim_objects,$(1))
	@echo "  LINK    $$@"
	$$(Q)$$(CXX) $$(SIM_FLAGS_$(1)) -o $$@ $$^ -lsodium
endef
$(foreach flavour,sim asan-sim plants,$(eval $(call sim_flavour,$(flavour))))

build/sp-sim: build/sim/sp-sim
	$(Q)ln -sf sim/sp-sim $@

sim: build/sp-sim ## run SEEDS=1000000 seeds of the simulator
	$(Q)mkdir -p build/tapes
	$(Q)build/sp-sim --seeds $(SEEDS) --rules --out build/tapes

plants: build/plants/sp-sim ## show that the simulator finds every bug that was planted for it
	$(Q)build/plants/sp-sim --plants --seeds 10000

# Each public header compiles alone, with both compilers.
$(BUILD)/headers/%.alone: include/sp/% | deps-test
	@mkdir -p $(@D)
	@echo "  ALONE   $<"
	$(Q)echo '#include "sp/$*"' > $@.cpp
	$(Q)for cxx in $(CXX) $(CXX_LLVM); do \
		$$cxx -std=c++23 $(WARNINGS) -Wno-unused-function -Iinclude -fsyntax-only $@.cpp || exit 1; done
	$(Q)case $< in *.h) echo '#include "sp/$*"' > $@.c && \
		$(CLANG_BPF) -std=c11 -Wall -Wextra -Werror -Wno-unused-function -Iinclude -fsyntax-only $@.c;; esac
	@touch $@

headers: $(headers:include/sp/%=$(BUILD)/headers/%.alone) ## prove that each public header compiles alone

test: all headers $(BUILD)/sp-test build/sp-sim build/asan-sim/sp-sim build/plants/sp-sim ## run every test this machine allows; list the skips with their reasons
	$(Q)SP_BUILD=$(BUILD) tests/run $(BUILD)/sp-test

# Each file of tests/fuzz is a program of libFuzzer, built from its own objects: other compiler, other sanitizers.
SECONDS := 5
FRAMES := 100000000
fuzz_flags := -std=c++23 $(WARNINGS) -Wno-unused-function -O1 -g -fsanitize=fuzzer-no-link,address,undefined \
	-fno-sanitize-recover=all -fno-omit-frame-pointer -pthread
fuzz_targets := $(patsubst tests/fuzz/%.cpp,%,$(filter-out %_test.cpp %/fuzzer.cpp,$(wildcard tests/fuzz/*.cpp)))
fuzzed_sources := $(wildcard userspace/protocol/*.cpp userspace/link/*.cpp userspace/stream/*.cpp) \
	userspace/url.cpp userspace/error.cpp
fuzz_object = $(patsubst %.cpp,build/fuzz/obj/%.o,$(1))

build/fuzz/obj/%.o: %.cpp | deps-test
	@mkdir -p $(@D)
	@echo "  FUZZ    $@"
	$(Q)$(CXX_LLVM) $(CPPFLAGS) $(fuzz_flags) -MMD -MP -c $< -o $@

build/fuzz/libfuzzed.a: $(call fuzz_object,$(fuzzed_sources))
	$(Q)rm -f $@ && ar rcs $@ $^

$(fuzz_targets:%=build/fuzz/%): build/fuzz/%: build/fuzz/obj/tests/fuzz/%.o build/fuzz/obj/tests/fuzz/fuzzer.o \
		build/fuzz/libfuzzed.a
	@echo "  LINK    $@"
	$(Q)$(CXX_LLVM) -fsanitize=fuzzer,address,undefined -pthread -o $@ $^ -lsodium

fuzz: $(fuzz_targets:%=build/fuzz/%) ## run every fuzz target for SECONDS=5 each
	$(Q)tests/fuzz/run build/fuzz $(SECONDS) $(fuzz_targets)

fuzz-xdp: $(BUILD)/sp-test ## run FRAMES=100000000 mutated frames through the XDP program, in each of its two modes
	$(Q)SP_FUZZ_FRAMES=$(FRAMES) $(BUILD)/sp-test --gtest_filter='*xdp_frames.meet*'

fuzz-corpus: $(fuzz_targets:%=build/fuzz/%) ## keep what fuzzing found, minimised, as the committed corpora
	$(Q)tests/fuzz/minimise build/fuzz $(filter-out planted,$(fuzz_targets))

demo: $(BUILD)/sp ## two hosts on this machine exchange messages through XDP
	$(Q)$(BUILD)/sp demo

bench: $(benches) $(BUILD)/sp ## measure, as ratios inside one run
	$(Q)for b in $(benches); do $$b || exit 1; done

bench_local := ring roundtrip_local blocked_local stream_local fanout_local large_local peers_local
bench-local: $(bench_local:%=$(BUILD)/bench/%) ## the same, between processes of this host only
	$(Q)for b in $^; do $$b || exit 1; done

docs: $(BUILD)/sp ## write the pages that are made from the tables
	$(Q)$(BUILD)/sp errors --markdown > docs/errors.md
	$(Q)$(BUILD)/sp errors --counters --markdown > docs/metrics.md

asan: ## the tests under address and undefined-behaviour sanitizers
	$(Q)$(MAKE) --no-print-directory MODE=asan test

tsan: ## the tests under the thread sanitizer
	$(Q)$(MAKE) --no-print-directory MODE=tsan test

tidy: $(skeleton) | deps-tools ## clang-tidy over the library and the program
	$(Q)printf '%s\n' $(library_sources) $(cli_sources) | \
		xargs -P "$$(nproc)" -I{} $(CLANG_TIDY) --quiet {} -- -std=c++23 $(CPPFLAGS)

format: | deps-tools ## clang-format everything in place
	$(Q)$(CLANG_FORMAT) -i $$(git ls-files '*.cpp' '*.hpp' '*.h' '*.c')

# ---- installation -------------------------------------------------------------------------------------------

root = $(DESTDIR)$(PREFIX)

install: all ## install into PREFIX (default /usr/local), below DESTDIR if set
	install -d $(root)/bin $(root)/lib/pkgconfig $(root)/include/sp/abi $(root)/share/man/man1
	install -m 755 $(BUILD)/sp $(root)/bin/sp
	ln -sf sp $(root)/bin/spcat
	install -m 644 $(BUILD)/libsp.a $(root)/lib/libsp.a
	install -m 755 $(BUILD)/libsp.so $(root)/lib/libsp.so.$(VERSION)
	ln -sf libsp.so.$(VERSION) $(root)/lib/libsp.so.$(SOVERSION)
	ln -sf libsp.so.$(SOVERSION) $(root)/lib/libsp.so
	install -m 644 $(wildcard include/sp/*.hpp) $(root)/include/sp/
	install -m 644 $(wildcard include/sp/abi/*) $(root)/include/sp/abi/
	install -m 644 userspace/share/man/sp.1 $(root)/share/man/man1/sp.1
	install -d $(root)/share/doc/sp/docs
	install -m 644 README.md LICENSE $(root)/share/doc/sp/
	install -m 644 $(wildcard docs/*.md) $(root)/share/doc/sp/docs/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@LIBS@|$(LIBS)|' \
		userspace/share/sp.pc.in > $(root)/lib/pkgconfig/sp.pc
	@if [ -z "$(DESTDIR)" ] && [ $$(id -u) = 0 ]; then ldconfig; fi

uninstall: ## remove what install put there
	rm -f $(root)/bin/sp $(root)/bin/spcat $(root)/lib/libsp.a $(root)/lib/libsp.so $(root)/lib/libsp.so.$(SOVERSION) \
		$(root)/lib/libsp.so.$(VERSION) $(root)/lib/pkgconfig/sp.pc $(root)/share/man/man1/sp.1
	rm -rf $(root)/include/sp $(root)/share/doc/sp

clean: ## remove build/
	rm -rf build

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16

-include $(shell find $(BUILD)/obj build/sim build/asan-sim build/plants build/fuzz/obj -name '*.d' 2>/dev/null)
