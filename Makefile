# SPDX-License-Identifier: Apache-2.0
# The usual targets; the work is done by meson and by tools/.
BUILD ?= build
PREFIX ?= /usr/local

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	meson setup $(BUILD) --prefix $(PREFIX)

demo:
	tools/demo

check:
	tools/check

deb:
	tools/package

# all of them, or one: make images BASE=IMAGE MEMORY=8 TAG=NAME; only say which: DRY_RUN=yes
export BASE MEMORY TAG ENGINE IMAGE ONLY DRY_RUN
images: all
	integrations/images/build $(BUILD)

install: all
	meson install -C $(BUILD) --no-rebuild

.PHONY: all demo check deb images install
