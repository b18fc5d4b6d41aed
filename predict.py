"""Detect objects: python predict.py PHOTOS --ckpt_path BEST.CKPT --save pictures csv."""

import sys

from pinpoint.cli.errors import user_errors
from pinpoint.predict.__main__ import main

if __name__ == "__main__":
    with user_errors():
        sys.exit(main())
