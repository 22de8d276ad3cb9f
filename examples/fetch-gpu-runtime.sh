#!/usr/bin/env bash
# Fetches ONNX Runtime for NVIDIA GPUs into a folder: fetch-gpu-runtime.sh FOLDER
# The packages and their hashes are those of models/gpu-runtime.txt; pip refuses others. Nothing of Python's own is kept.
set -euo pipefail
folder=$1
here=$(dirname "$0")
mkdir -p "$folder"
# On the file system of the folder, where there must be room: 1.5 GB for the packages, 2 GB for the libraries.
work=$(mktemp -d "$folder/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "fetching ONNX Runtime for GPUs (1.5 GB)"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
	--implementation cp --python-version 3.11 --abi cp311 --abi abi3 --abi none \
	--platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
	--platform manylinux2014_x86_64 --platform manylinux_2_12_x86_64 --platform manylinux2010_x86_64 \
	--requirement "$here/../models/gpu-runtime.txt" --dest "$work"
python3 - "$work" "$folder" <<'PYTHON'
import os, pathlib, re, shutil, sys, zipfile

work, folder = map(pathlib.Path, sys.argv[1:])
# For programs of other kinds.
UNUSED = re.compile(r"python|\.alt\.|libcufftw|libnvblas")
for package in sorted(work.glob("*.whl")):
    with zipfile.ZipFile(package) as archive:
        for name in archive.namelist():
            base = name.rsplit("/", 1)[-1]
            if ".so" in base and not UNUSED.search(base):
                part = work / base
                with archive.open(name) as source, part.open("wb") as target:
                    shutil.copyfileobj(source, target)
                os.replace(part, folder / base)
    package.unlink()
PYTHON
echo "$folder: $(du -sh "$folder" | cut -f1)"
