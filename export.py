"""Write a checkpoint for other runtimes: python export.py --format onnx --ckpt_path BEST.CKPT."""

import sys

from pinpoint.cli.errors import user_errors
from pinpoint.export.__main__ import main

if __name__ == "__main__":
    with user_errors():
        sys.exit(main())
