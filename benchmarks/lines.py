"""Lines of code by folder; no blanks, comments, docstrings: python benchmarks/lines.py [COMMIT ...]."""

import ast
import io
import subprocess
import sys
import tokenize
from collections import Counter

LEFT_OUT = ("tests/", "benchmarks/", "docs/")
QUIET = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING}
QUIET |= {tokenize.ENDMARKER}


def git(*words: str) -> str:
    """What a git command prints."""
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout


def code_lines(source: str) -> int:
    """Lines that hold a token other than a comment or a docstring."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(ast.Constant(str())):  # of a module, class, function or constant
                docstrings |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in QUIET:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def main(commits: list[str]) -> None:
    """Print a table: a row a folder, a column a commit."""
    tables = []
    for commit in commits:
        counts: Counter[str] = Counter()
        for name in git("ls-tree", "-r", "--name-only", commit).splitlines():
            if name.endswith(".py") and not name.startswith(LEFT_OUT):
                folder = "/".join(name.split("/")[:-1][:2]) or "(top)"
                counts[folder] += code_lines(git("show", f"{commit}:{name}"))
        tables.append(counts)
    print("| folder | " + " | ".join(commits) + " |\n|---" + "|--:" * len(commits) + "|")
    for folder in sorted(set().union(*tables)):
        print(f"| {folder} | " + " | ".join(str(table[folder] or "") for table in tables) + " |")
    print("| all | " + " | ".join(str(table.total()) for table in tables) + " |")


if __name__ == "__main__":
    main(sys.argv[1:] or ["HEAD"])
