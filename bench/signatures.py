"""How quick `standard sign`, `verify`, `wrap` and `unwrap` are on 1,000 CT images, and dcmsign and
openssl, a process a file.

    python bench/signatures.py [FOLDER] [FILES]

Both are timed in turn, so that both get the same machine. Needs dcmtk and openssl.
"""

import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

from attributes import make_files, timed

ROUNDS, THEIRS = 3, 100
OURS = [sys.executable, "-m", "dicomcrypt", "standard"]


def main(folder=None, count="1000"):
    root = pathlib.Path(tempfile.mkdtemp(dir=folder))
    source, count = root / "ct", int(count)
    key, cert, one = root / "key.pem", root / "cert.pem", root / "one"
    both = root / "both.pem"
    try:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out",
             cert, "-subj", "/CN=Scanner"], check=True, capture_output=True)  # fmt: skip
        both.write_bytes(key.read_bytes() + cert.read_bytes())
        make_files(source, count)
        cms = ["openssl", "cms", "-binary", "-outform", "DER"]
        jobs = {  # what we do with the tree, and others with a file of it
            "sign": (
                ["sign", source, "--sign-with", both, "-o", root / "signed"],
                lambda path: [["dcmsign", "+s", key, cert, "+pc", "+m2", path, one]],
            ),
            "verify": (
                ["verify", root / "signed", "--trust-root", cert],
                lambda path: [["dcmsign", "--verify", "+cf", cert,
                               root / "signed" / path.name]],
            ),
            "wrap": (
                ["wrap", source, "-r", cert, "-o", root / "safe"],
                lambda path: [[*cms, "-digest_create", "-in", path, "-out", one],
                              [*cms, "-encrypt", "-aes256", "-in", one, "-out",
                               root / "two", cert]],
            ),
            "unwrap": (
                ["unwrap", root / "safe", "-i", both, "-o", root / "back"],
                lambda path: [["openssl", "cms", "-decrypt", "-inform", "DER", "-binary", "-in",
                               root / "two", "-recip", cert, "-inkey", key, "-out", one],
                              ["openssl", "cms", "-digest_verify", "-inform", "DER", "-binary",
                               "-in", one, "-out", root / "three"]],
            ),
        }  # fmt: skip
        files = sorted(source.iterdir())[:THEIRS]
        for verb, (words, steps) in jobs.items():

            def others(steps=steps):
                for path in files:
                    for step in steps(path):
                        subprocess.run(step, check=True, capture_output=True)

            ours, theirs = [], []
            for _ in range(ROUNDS):
                if verb != "verify":
                    shutil.rmtree(words[-1], ignore_errors=True)
                ours.append(timed(lambda words=words: subprocess.run([*OURS, *words, "-q"],
                                                                     check=True)))
                theirs.append(timed(others))
            for name, found, each in ((verb, ours, count), ("peer", theirs, len(files))):
                wall, processor = (statistics.median(column) / each
                                   for column in zip(*found, strict=True))
                print(f"{name}: {1 / wall:.0f} files/s, {1000 * processor:.2f} ms of processor a "
                      "file")
            ratio = statistics.median(t[0] / len(files) / (o[0] / count)
                                      for o, t in zip(ours, theirs, strict=True))
            print(f"{verb} is {ratio:.0f} times as quick")
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main(*sys.argv[1:])
