"""The arrows of docs/architecture.md."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "dicomcrypt"

#: What each part may import of the package, itself, `errors` and `regular` aside.
ALLOWED = {
    "native": set(),
    "ciphers": {"native"},
    "dicom": {"native"},
    "container": {"native"},
    "policy": {"config"},
    "audit": set(),
    "config": set(),
    "regular": set(),
    "keys": {"config", "container", "policy"},
    "keytable": {"config", "container", "keys", "policy", "audit"},
    "pki": {"config", "keys", "policy", "audit"},
    "objects": {"native", "ciphers", "dicom", "container", "keys", "policy"},
    "api": {"native", "ciphers", "container", "keys", "objects"},
    "analysis": {"api", "ciphers", "container", "keys", "objects"},
    "trees": {"container", "keys", "objects"},
    "cluster": {"container", "keys", "objects", "trees", "_version"},
    "vault": {"native", "container", "dicom", "keys", "keytable", "objects", "trees", "policy",
              "audit", "_version"},
    "card": {"audit", "config", "container", "keys", "pki", "policy"},
    "otp": {"audit", "config", "keys", "policy"},
    "prescription": {"audit", "card", "config", "keys", "pki", "policy"},
    "standard": {"audit", "config", "dicom", "keys", "native", "objects", "pki", "policy", "trees",
                 "_version"},
    "cli": {"analysis", "api", "audit", "card", "ciphers", "cluster", "config", "container",
            "keys", "keytable", "objects", "otp", "pki", "policy", "prescription", "standard",
            "trees", "vault", "_version"},
}
HEAVY = {"numpy", "pydicom", "rich", "PIL", "matplotlib"}
#: Modules that may import heavy libraries when they are imported.
HEAVY_ALLOWED = {"ciphers/reference.py", "objects/frames.py"}


def modules():
    return sorted(p for p in PACKAGE.rglob("*.py"))


def imports(path):
    """Yield (imported module, whether at module level) with relative names resolved."""
    tree = ast.parse(path.read_text())
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        for inner in ast.walk(node)
    }
    here = ("dicomcrypt", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level + 1]) if node.level else ""
            module = ".".join(x for x in (base, node.module or "") if x)
            names = [module] + [f"{module}.{alias.name}" for alias in node.names]
        for name in names:
            yield name, id(node) not in guarded


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_down_only(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part not in ALLOWED:
        return  # the package's own face: __init__, __main__, errors, _version
    for name, _ in imports(path):
        pieces = name.split(".")
        if pieces[0] != "dicomcrypt" or len(pieces) == 1:
            continue
        target = pieces[1]
        if (PACKAGE / target).exists() or (PACKAGE / f"{target}.py").exists():
            known = ALLOWED[part] | {part, "errors", "regular"}
            assert target in known, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_when_they_are_used(path):
    if str(path.relative_to(PACKAGE)) in HEAVY_ALLOWED:
        return
    for name, at_import in imports(path):
        assert not (at_import and name.split(".")[0] in HEAVY), f"{path.name} imports {name}"


def test_the_c_core_knows_nothing_of_python():
    for path in (ROOT / "csrc").rglob("*.[ch]"):
        assert "Python.h" not in path.read_text(), path


def test_only_native_modules_see_c():
    for path in PACKAGE.rglob("*.pyx"):
        assert path.parent.name == "native"


def test_the_version_number_lives_in_one_place():
    version = (PACKAGE / "_version.py").read_text().split('"')[-2]
    for path in [ROOT / "pyproject.toml", ROOT / "setup.py", *modules()]:
        if path.name != "_version.py":
            assert f'"{version}"' not in path.read_text(), path
