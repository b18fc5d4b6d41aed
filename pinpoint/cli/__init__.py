"""The command line that train.py and evaluate.py share, and how commands read recipes and report errors."""
