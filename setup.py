"""Build the native modules; everything else stands in pyproject.toml."""

import gzip
import os
import shutil
import tarfile
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

#: By the kind of compiler, first for the modules in native, then for compiled Python. Instruction
#: sets are chosen in the source by target pragmas, never by a flag on a file; one set of flags
#: serves every file. Python's own flags ask for -g: without -g0 a wheel has four times the size,
#: and names of this machine's folders in it.
FLAGS = {
    "unix": (["-O3", "-g0", "-fno-strict-aliasing"], ["-O1", "-g0"]),
    "msvc": (["/O2", "/std:c11"], ["/O2"]),
}
#: What Cython is told, in the same order.
DIRECTIVES = (
    {"boundscheck": False, "wraparound": False, "freethreading_compatible": True},
    {"annotation_typing": False, "binding": False, "freethreading_compatible": True},
)
HEADERS = sorted(glob("csrc/**/*.h", recursive=True))


def extension(name: str, folders: list[str]) -> Extension:
    sources = [f"dicomcrypt/native/{name}.pyx"]
    for folder in folders:
        sources += sorted(glob(f"csrc/{folder}/*.c"))
    return Extension(
        f"dicomcrypt.native.{name}",
        sources,
        include_dirs=["csrc/include", "csrc"],
        depends=[*HEADERS, *sorted(glob("csrc/**/*.inc", recursive=True))],
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

if os.environ.get("DICOMCRYPT_PURE"):  # for `make coverage`: lines of compiled modules are not seen
    COMPILED = []


def module(name: str) -> Extension:
    return Extension(f"dicomcrypt.{name}", [f"dicomcrypt/{name.replace('.', '/')}.py"])


class BuildExt(build_ext):
    """Runs Cython when something is compiled, not for a source archive or metadata."""

    def build_extensions(self):
        try:
            from Cython.Build import cythonize
        except ImportError as error:  # only `pip install .` without build isolation gets here
            raise SystemExit("building dicomcrypt needs Cython: pip install cython") from error
        kind = "msvc" if self.compiler.compiler_type == "msvc" else "unix"
        native = [e for e in self.extensions if e.name.startswith("dicomcrypt.native.")]
        python = [e for e in self.extensions if e not in native]
        for group, flags, directives in zip((native, python), FLAGS[kind], DIRECTIVES, strict=True):
            made = cythonize(
                group,
                language_level=3,
                build_dir="build/cython",
                nthreads=os.cpu_count() or 1,
                compiler_directives=directives,
            )
            by_name = {each.name: each for each in made}
            for each in group:
                each.sources = by_name[each.name].sources
                each.depends = by_name[each.name].depends
                each.extra_compile_args = flags
        super().build_extensions()


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


class SourceArchive(sdist):
    """Gives the same bytes for the same files, where SOURCE_DATE_EPOCH tells the time."""

    def make_archive(self, base_name, format, root_dir=None, base_dir=None, owner=None, group=None):
        if "SOURCE_DATE_EPOCH" not in os.environ or format != "gztar":
            return super().make_archive(base_name, format, root_dir, base_dir, owner, group)
        time = int(os.environ["SOURCE_DATE_EPOCH"])

        def same(entry: tarfile.TarInfo) -> tarfile.TarInfo:
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = time, 0, 0, "", ""
            entry.mode = 0o755 if entry.mode & 0o100 else 0o644
            return entry

        path = f"{base_name}.tar.gz"
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with (
            open(path, "wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=time) as packed,
            tarfile.open(fileobj=packed, mode="w") as tar,
        ):
            for each in sorted(glob(f"{base_dir}/**", recursive=True, include_hidden=True)):
                if not os.path.isdir(each):
                    tar.add(each, filter=same)
        return path


setup(
    cmdclass={"build_ext": BuildExt, "build_py": BuildPy, "sdist": SourceArchive},
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
    ext_modules=[
        *map(module, COMPILED),
        extension("_block", ["common", "block"]),
        extension("_scan", ["scan"]),
        extension("_cbor", []),
        extension("_system", []),
    ],
)
