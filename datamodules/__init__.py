"""Reading, transforming and batching of detection data."""

import os

# When imported, albumentations asks a server for its newest version: no run should wait for that.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

# Before torch is imported: its CPU threads then spin only shortly while they wait for each other, and sleep.
# By default they spin on, and where another process needs a core (a loader's worker will do) a step takes
# 4 times as long; without any spinning a quiet machine is a fifth slower: docs/decisions/cpu-threads.md.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# torch then asks for large tensors in pages of 2 MB where the kernel offers such. A training step on the CPU
# took a tenth less time, because its largest maps come from the kernel anew every step, page by page.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# A rank that loses the others says so in a line of ours; torch would print forty of its own before it.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
