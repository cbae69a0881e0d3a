# make            build build/<config>/cairn; build/cairn is a link to the one built last
# make help       every target and switch
#
# One file, no recursion.  A new .c or .cu file is found by its folder; a file
# named *_simd.c is compiled twice, for AVX2 and for AVX-512, and one of both is
# chosen at run time.  Each config has its own build folder, so switching needs no clean.

CUDA ?= auto#  auto | 1 | 0
MODE ?= release#  release | debug
SAN  ?=#  address | undefined | thread
CC   ?= gcc
ifeq ($(origin CC),default)
  CC := gcc
endif
ARCH ?= sm_90#  nvcc -arch
Q    := $(if $(V),,@)#  V=1 prints every command

# ---- What this machine has ---------------------------------------------------
NVCC ?= $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
HAS_CUDA_CODE := $(wildcard kernels/*.cu)
ifeq ($(CUDA),auto)
  override CUDA := $(if $(and $(NVCC),$(HAS_CUDA_CODE)),1,0)
endif
ifeq ($(CUDA)$(NVCC),1)
  $(error CUDA=1 but nvcc is neither in PATH nor in /usr/local/cuda/bin)
endif

COMPILER := $(if $(findstring clang,$(CC)),-clang)
BUILD := build/$(MODE)-$(if $(filter 1,$(CUDA)),cuda,cpu)$(COMPILER)$(if $(SAN),-$(SAN))

# ---- Flags -------------------------------------------------------------------
WARN   := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wvla -Werror
OPT    := $(if $(filter debug,$(MODE)),-Og -g -DCN_DEBUG=1,-O3 -g)
SANFL  := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all -DCN_SANITIZED=1)
# A row's bits must not depend on what the compiler fuses: no contraction, no fast-math.
CFLAGS  = -std=c11 -D_GNU_SOURCE $(WARN) $(OPT) $(SANFL) -ffp-contract=off -fno-math-errno -I. -MMD -MP -DCN_FAULTS=1
AVX512 := -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512bf16 -mavx512vbmi -mprefer-vector-width=512
AVX2   := -mavx2 -mfma
LDFLAGS = $(SANFL) -pthread
LDLIBS := -lsodium -lxxhash -lcjson -lpcre2-8 -lutf8proc -lsqlite3 -lgit2 -llmdb -ledit -lm

# ---- Sources -----------------------------------------------------------------
FOLDERS  := base kernels engine store tools sessions runtime
# a_simd.c makes a_simd.avx2 and a_simd.avx512.
twice     = $(filter-out %_simd,$(1)) $(foreach isa,avx2 avx512,$(addsuffix .$(isa),$(filter %_simd,$(1))))
LIB_SRC  := $(filter-out runtime/main.c,$(wildcard $(addsuffix /*.c,$(FOLDERS))))
LIB_OBJ  := $(patsubst %,$(BUILD)/%.o,$(call twice,$(LIB_SRC:%.c=%)))
TEST_SRC := $(wildcard tests/*/test_*.c)
TEST_LIB := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/*.c))
TESTS    := $(addprefix $(BUILD)/,$(call twice,$(TEST_SRC:%.c=%)))
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
REPLAYS  := $(FUZZ_SRC:tests/fuzz/%.c=$(BUILD)/tests/fuzz/replay_%)
FUZZERS  := $(FUZZ_SRC:tests/fuzz/%.c=$(BUILD)/tests/fuzz/%)
FUZZ_SECONDS ?= 300
C_FILES   = $(wildcard $(addsuffix /*.[ch],$(FOLDERS)) $(addsuffix /*.def,$(FOLDERS)) tests/*/*.[ch] tests/*.[ch])

.PHONY: all setup demo test check bench fuzz soak e2e format man install train-native clean help
.DELETE_ON_ERROR:
.SECONDARY:

## all: build the binary
all: $(BUILD)/cairn
	@ln -sfn $(BUILD:build/%=%)/cairn build/cairn

$(BUILD)/libcairn.a: $(LIB_OBJ)
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/cairn: $(BUILD)/runtime/main.o $(BUILD)/libcairn.a
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/%.avx512.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(AVX512) -c -o $@ $<

$(BUILD)/%.avx2.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(AVX2) -c -o $@ $<

$(BUILD)/tests/%.o: CFLAGS += -DCN_SOURCE_DIR='"$(CURDIR)"'

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -c -o $@ $<

define link_test
@mkdir -p $(@D)
$(Q)$(CC) $(CFLAGS) -DCN_SOURCE_DIR='"$(CURDIR)"' $(LDFLAGS) -o $@ $< $(TEST_LIB) $(BUILD)/libcairn.a $(LDLIBS) -lcmocka
endef

# A test of what the *_simd.c files share is compiled as they are; its own flags only.
$(BUILD)/tests/%.avx512: private CFLAGS += $(AVX512)
$(BUILD)/tests/%.avx512: tests/%.c $(BUILD)/libcairn.a $(TEST_LIB)
	$(link_test)

$(BUILD)/tests/%.avx2: private CFLAGS += $(AVX2)
$(BUILD)/tests/%.avx2: tests/%.c $(BUILD)/libcairn.a $(TEST_LIB)
	$(link_test)

$(BUILD)/tests/%: tests/%.c $(BUILD)/libcairn.a $(TEST_LIB)
	$(link_test)

# A library that tests preload: it records, and ends, what a process does to files.
DISK_SO := $(BUILD)/tests/fault/disk.so
$(DISK_SO): tests/fault/disk.c tests/fault/disk_log.h
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE $(WARN) -O2 -fPIC -shared -I. -o $@ $<
$(filter $(BUILD)/tests/fault/%,$(TESTS)): $(DISK_SO)

# A fuzz target linked with a main that replays files: corpora run in every `make test`.
$(BUILD)/tests/fuzz/replay_%: tests/fuzz/%.c tests/fuzz/replay.c $(BUILD)/libcairn.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ tests/fuzz/$*.c tests/fuzz/replay.c $(BUILD)/libcairn.a $(LDLIBS)

# The fuzzers compile every source again, with coverage: clang, one command each.
$(BUILD)/tests/fuzz/fuzz_%: tests/fuzz/fuzz_%.c $(LIB_SRC)
	@mkdir -p $(@D)
	$(Q)tests/fuzz/build.sh $@ $< "$(AVX512)" "$(AVX2)" "$(LDLIBS)" $(LIB_SRC)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

## setup: install what is missing (Debian packages, by name)
setup:
	$(Q)tests/setup.sh

## test: every test, offline once set up
test: setup
	$(Q)$(MAKE) -s --no-print-directory -j$(shell nproc) all $(TESTS) $(REPLAYS)
	$(Q)tests/run.sh $(BUILD)

## soak: kills, deaths, power losses and walks at length (half an hour; SOAK_KILLS=2000 SOAK_EVERY=1)
SOAK_KILLS ?= 2000
SOAK_EVERY ?= 1
soak: setup
	$(Q)$(MAKE) -s --no-print-directory -j$(shell nproc) all $(filter $(BUILD)/tests/fault/%,$(TESTS))
	$(Q)tests/fault/soak.sh $(BUILD) $(SOAK_KILLS) $(SOAK_EVERY)

## demo: the main job on a real repository, with the default model
demo: setup
	$(Q)$(MAKE) -s --no-print-directory -j$(shell nproc) all
	$(Q)examples/demo.sh $(CURDIR)/build/cairn

## check: includes follow tests/layers.txt, headers compile alone, layout, the op table, no paths of one machine
check:
	$(Q)CC="$(CC)" tests/check.sh $(C_FILES)

## bench: each op against the roof of this machine
bench: all
	$(Q)build/cairn bench ops

## fuzz: each parser for FUZZ_SECONDS (300)
fuzz: $(FUZZERS)
	$(Q)tests/fuzz/run.sh $(FUZZ_SECONDS) $(FUZZERS)

## format: clang-format every file
format:
	$(Q)clang-format -i $(filter-out %.def,$(C_FILES))

## man: the manual pages, from the help of the commands, in build/<config>/man
man: all
	$(Q)rm -rf $(BUILD)/man && mkdir -p $(BUILD)/man
	$(Q)set -e; cairn=$(BUILD)/cairn; \
	page() { $$cairn help --man "$$@" >$(BUILD)/man/$$(echo cairn "$$@" | tr ' ' -).1; }; \
	page; for c in $$($$cairn help --commands); do page $$c; \
	    for s in $$($$cairn $$c help --commands 2>/dev/null); do page $$c $$s; done; done

## install: the binary and the manual pages under PREFIX (/usr/local)
PREFIX ?= /usr/local
install: all man
	install -D -m 755 $(BUILD)/cairn $(DESTDIR)$(PREFIX)/bin/cairn
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 $(BUILD)/man/*.1

## train-native: tokenizer and cut as a library for examples/train, with the libraries it needs beside it
TRAIN_SRC := examples/train/native.c sessions/cut.c $(wildcard engine/tokenizer*.c base/*.c) \
             $(addprefix engine/,bpe.c added.c detok.c pattern.c)
train-native: build/train/native.so
build/train/native.so: $(TRAIN_SRC)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE $(WARN) -O3 -fPIC -shared -ffp-contract=off -I. -o $@ $^ -Wl,-rpath,'$$ORIGIN' \
	    -lpcre2-8 -lutf8proc -lcjson -lsodium -lxxhash -lm
	$(Q)ldd $@ | awk '/pcre2|utf8proc|cjson|sodium|xxhash/ {print $$3}' | xargs -I{} cp -L {} $(@D)

## clean: remove every build
clean:
	$(Q)rm -rf build

## help: this list
help:
	@awk -F': ' '/^## /{sub(/^## /,"");printf "  make %-8s %s\n",$$1,$$2}' Makefile
	@echo "  switches      CUDA=auto|0|1  MODE=release|debug  SAN=address|undefined|thread  CC=gcc|clang  V=1"
