"""Files that a setting names: problem by the setting where they are not there, before anything is read."""

from pathlib import Path

from lmworks.config import ConfigError


def named_file(name: str, base: Path, *setting: str, remedy: str = "") -> Path:
    """The file that a setting names; a relative path starts at `base`.

    ConfigError at the setting, with `remedy` in front of the rest of the fix, where there is none or it is a folder.
    """
    path = base / Path(name).expanduser()
    if not path.is_file():
        problem = f"{path} is a folder, and a file is wanted" if path.is_dir() else f"there is no file {path}"
        fix = remedy or "correct the path"
        raise ConfigError(setting, f"{problem}: {fix}, or leave the setting out. A relative path starts at {base}")
    return path
