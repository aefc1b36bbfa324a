# SPDX-License-Identifier: LGPL-2.1-or-later
# bin/ and lib/ in the build folder: tools that run without being installed.  They find
# libtenon by $ORIGIN/../lib, and libtenon finds its plugins beside itself, as when installed.
all-local: stage $(fuzz_programs)
.PHONY: stage
stage: $(bin_PROGRAMS) $(lib_LTLIBRARIES) $(plugin_LTLIBRARIES) $(plugin_DATA)
	@$(MKDIR_P) bin lib/tenon/plugins share/tenon/boards
	@for p in $(bin_PROGRAMS); do d=`dirname $$p`; b=`basename $$p`; \
	  if test -f $$d/.libs/$$b; then cp -up $$d/.libs/$$b bin/$$b; else cp -up $$p bin/$$b; fi; done
	@cp -up core/.libs/libtenon.so.0.0.0 lib/libtenon.so.0 && ln -sf libtenon.so.0 lib/libtenon.so
	@for p in $(plugin_LTLIBRARIES); do d=`dirname $$p`; b=`basename $$p .la`; cp -up $$d/.libs/$$b.so lib/tenon/plugins/; done
	@for p in $(plugin_DATA); do test -z "$$p" || cp -up $$p lib/tenon/plugins/; done
	@for p in $(dist_board_DATA); do test -z "$$p" || cp -up $(srcdir)/$$p share/tenon/boards/; done
clean-local:
	rm -rf bin lib share
EXTRA_DIST += build-aux/stage.mk

if !RELOCATABLE
install-exec-hook:
	for p in $(bin_PROGRAMS); do $(CHRPATH) -d $(DESTDIR)$(bindir)/`basename $$p`; done
endif
