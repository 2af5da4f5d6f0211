"""Build the native modules; everything else stands in pyproject.toml."""

import os
import platform
import shutil
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

try:
    from Cython.Build import cythonize
except ImportError as error:  # only `pip install .` without build isolation gets here
    raise SystemExit("building dicomcrypt needs Cython: pip install cython") from error

# Instruction sets are chosen in the source by target pragmas, never by a flag
# on a file; one set of flags serves every file.
FLAGS = [] if platform.system() == "Windows" else ["-O3", "-fno-strict-aliasing"]
HEADERS = sorted(glob("csrc/**/*.h", recursive=True))


def extension(name: str, folders: list[str]) -> Extension:
    sources = [f"dicomcrypt/native/{name}.pyx"]
    for folder in folders:
        sources += sorted(glob(f"csrc/{folder}/*.c"))
    return Extension(
        f"dicomcrypt.native.{name}",
        sources,
        include_dirs=["csrc/include", "csrc"],
        depends=[*HEADERS, *glob("csrc/**/*.inc", recursive=True)],
        extra_compile_args=FLAGS,
    )


#: Python modules through which every object goes, compiled as they are: a quarter less for a small
#: object. The .pxd beside some of them gives their classes fields that need no dictionary.
COMPILED = [
    "ciphers.transform", "keys.batch", "dicom.units",
    *(f"container.{n}" for n in ("header", "index", "reader", "schedule", "streams", "writer")),
    *(f"objects.{n}" for n in ("atomic", "buffers", "decoder", "drivers", "encoder", "files")),
    *(f"standard.{n}" for n in ("ber", "cleaning", "dicomfile", "elements", "layout", "mac",
                                "profile", "protect")),
    *(f"trees.{n}" for n in ("job", "opening", "pool", "sealing", "tree", "walk")),
    *(f"vault.{n}" for n in ("adding", "facts", "rows", "sealing", "segment", "stanza")),
]  # fmt: skip
LIGHT = [] if platform.system() == "Windows" else ["-O1"]


#: What every vault gets a copy of, and where it lies in the package (vault/shipped.py).
SHIPPED = {
    "tools/dcmx_rescue.py": "dcmx_rescue.py",
    **{path: f"spec/{os.path.basename(path)}" for path in
       ["docs/spec/block-layer-v1.md", "docs/spec/dcmx-v1.md", "docs/spec/vault-v1.md",
        "docs/keytable.md"]},
}  # fmt: skip


class BuildPy(build_py):
    """Puts what is shipped into vaults beside the modules that are built."""

    def run(self):
        super().run()
        if self.editable_mode:
            return  # it is taken from the source tree
        for path, name in SHIPPED.items():
            target = os.path.join(self.build_lib, "dicomcrypt", "vault", "shipped", name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(path, target)


def module(name: str) -> Extension:
    path = f"dicomcrypt/{name.replace('.', '/')}.py"
    return Extension(f"dicomcrypt.{name}", [path], extra_compile_args=LIGHT)


setup(
    cmdclass={"build_py": BuildPy},
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
    ext_modules=cythonize(
        [module(name) for name in COMPILED],
        language_level=3,
        build_dir="build/cython",
        nthreads=os.cpu_count() or 1,
        compiler_directives={
            "annotation_typing": False,
            "binding": False,
            "freethreading_compatible": True,
        },
    )
    + cythonize(
        [
            extension("_block", ["common", "block"]),
            extension("_scan", ["scan"]),
            extension("_cbor", []),
            extension("_system", []),
        ],
        language_level=3,
        build_dir="build/cython",
        nthreads=os.cpu_count() or 1,
        compiler_directives={
            "boundscheck": False,
            "wraparound": False,
            "freethreading_compatible": True,
        },
    ),
)
