"""Compare trainings: python compare.py --config configs/X.yaml --losses ciou hybrid nwd --seeds 0 1 2."""

from pinpoint.cli.errors import user_errors
from pinpoint.comparison.__main__ import main

if __name__ == "__main__":
    with user_errors():
        main()
