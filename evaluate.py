"""Score a checkpoint: python evaluate.py --ckpt_path RUN/checkpoints/best.ckpt [--option value ...]."""

from pinpoint.cli.errors import user_errors
from pinpoint.cli.evaluate import main

if __name__ == "__main__":
    with user_errors():
        main()
