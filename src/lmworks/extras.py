"""Optional dependencies: a missing package is one error that names the extra of lmworks to install."""

import re
import sys
from importlib.machinery import ModuleSpec

# The distribution of a module, where their names differ or another distribution brings it.
_DISTRIBUTIONS = {
    "lxml": "lxml_html_clean",
    "pydantic": "fastapi",
    "referencing": "jsonschema",
    "sklearn": "scikit_learn",
    "starlette": "fastapi",
    "threadpoolctl": "scikit_learn",
}


class ExtraFinder:
    """The last finder of `sys.meta_path`: it is asked for what no other finder has, and finds nothing itself."""

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Raise ModuleNotFoundError that names the extra, if lmworks imports a module of one that is not installed."""
        if "." not in name and _importer().startswith("lmworks.") and (extra := extra_of(name)):
            raise ModuleNotFoundError(f"{name} is not installed: pip install 'lmworks[{extra}]'")
        return None


def extra_of(module: str) -> str:
    """The extra that installs a top-level module, by the metadata of the installed package; "" if there is none."""
    from importlib.metadata import PackageNotFoundError, requires  # takes longer than `import lmworks`

    try:
        requirements = requires("lmworks") or []
    except PackageNotFoundError:  # the source folder alone is on the path
        return ""
    for requirement in requirements:
        match = re.fullmatch(r"([\w.-]+).*extra == ['\"]([\w-]+)['\"]", requirement)
        if (
            match
            and re.sub(r"[-.]+", "_", match[1]).lower() == _DISTRIBUTIONS.get(module, module)
            and match[2] != "test"
        ):
            return match[2]
    return ""


def _importer() -> str:
    """The name of the module that contains the running import statement."""
    frame = sys._getframe(2)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("importlib"):
        frame = frame.f_back
    return frame.f_globals.get("__name__", "")
