"""Files that the program reads: its own copy in the wheel, the originals in the repository."""

from pathlib import Path

HERE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """`name`: from the root of the repository."""
    packaged = HERE / "_data" / name
    return packaged if packaged.is_dir() else HERE.parent / name
