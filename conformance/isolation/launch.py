"""The script a worker is started by, in whichever interpreter: makes this project's packages importable, then runs the worker.

It runs before anything of the project can be imported, so it needs the standard library only. ``argv[1]`` is JSON:
``path``, entries to put before the interpreter's own, and ``packages``, name → the folder that holds the package. The packages come
by a finder of their own and not by ``path``: in a foreign interpreter the folder may be our site-packages, whose torch must not
take the place of the one to be judged.
"""

import json
import sys
from importlib.machinery import ModuleSpec, PathFinder


class PackageFinder:
    """Finds the packages it was told of, each in its folder, and nothing else."""

    def __init__(self, packages: "dict[str, str]") -> None:
        self.packages = packages

    def find_spec(self, name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        return PathFinder.find_spec(name, [self.packages[name]]) if name in self.packages else None


def main() -> None:
    setup = json.loads(sys.argv[1])
    sys.path.pop(0)  # this file's own folder: its neighbours are no top-level modules
    sys.path[:0] = [entry for entry in setup["path"] if entry not in sys.path]
    sys.meta_path.insert(0, PackageFinder(setup["packages"]))
    from conformance.isolation.worker import serve

    serve()


if __name__ == "__main__":
    main()
