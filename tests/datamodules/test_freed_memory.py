import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from datamodules.freed_memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def use():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full(2**25, 1, np.uint16)  # 64 MB: 16384 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
use()
print(use())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone can be told")
def test_freed_memory_is_used_again_without_new_pages() -> None:
    def faults(word: str) -> int:
        command = [sys.executable, "-c", FAULTS, word]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults("keep") < 100
    # The kernel may give pages of 2 MB, but gives them anew; else the test above could not fail.
    assert faults("leave") >= 30
