"""The README's map of the code against the tree."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOT_OURS = {"runs", "data", "build", "dist", "venv"}
KINDS = {".py", ".md", ".yaml", ".jpg", ".png"}


def named_rooms() -> set[str]:
    """Folders that the last section's table names, and folders within them."""
    rooms = set()
    for line in (ROOT / "README.md").read_text("utf-8").split("\n## ")[-1].splitlines():
        if found := re.match(r"\| `(\w+)/`", line):
            inner = re.findall(r"`(\w+)`", line)
            rooms |= {found[1], *(f"{found[1]}/{name}" for name in inner)}
    return rooms


def test_the_last_section_names_every_room_and_no_other():
    files = (path.relative_to(ROOT) for path in ROOT.glob("*/**/*") if path.suffix in KINDS)
    folders = {path.parts[:-1][:2] for path in files}
    rooms = {"/".join(parts) for parts in folders if parts[0] not in NOT_OURS and parts[0][0] != "."}
    assert named_rooms() == {room for room in rooms if not room.startswith(("tests/", "benchmarks/"))}
