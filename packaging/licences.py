#!/usr/bin/env python3
"""Writes under which licences the package stands, from what cargo has fetched and from models/manifest.toml.

    licences.py COPYRIGHT TEXTS

COPYRIGHT is debian/copyright in machine-readable form, one paragraph for each crate that is linked. Where a crate offers several licences the first
of PREFERRED is taken. TEXTS has the files of the crates word by word, equal ones once. A crate whose text is nowhere, or a licence that is not in
packaging/licences/, ends it: nothing is left out in silence. No network.
"""

import hashlib
import json
import pathlib
import re
import subprocess
import sys
import textwrap
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEMPLATES = ROOT / "packaging/licences"
TARGET = "x86_64-unknown-linux-gnu"
PREFERRED = ["MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "Unicode-3.0", "0BSD"]
# Those that Debian keeps on every host.
COMMON = {"Apache-2.0", "CC0-1.0"}
IS_LICENCE = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense|readme\.ijg)", re.IGNORECASE)
IS_CODE = {".rs", ".py", ".c", ".h", ".cpp", ".rtf"}
# Crates that bring code of others, whose licences their own expression does not name: folder, licence, file that begins with it.
BROUGHT = {
    "turbojpeg-sys": [("libjpeg-turbo", "BSD-3-Clause and IJG and Zlib", None)],
    "zxing-cpp": [("zint/backend", "BSD-3-Clause", "library.c")],
    "hayro-cmap": [("assets", "BSD-3-Clause", None)],
    "hayro-font": [("assets", "BSD-3-Clause", None)],
    "hayro-jpeg2000": [("assets", "CC0-1.0", None)],
    "regex-syntax": [("src/unicode_tables", "Unicode-DFS-2016", None)],
    "tracing-core": [("src/spin", "MIT", None)],
}


def linked_crates():
    """The crates whose code is in the binaries: not those that build, test or expand macros."""
    command = ["cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={TARGET}"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    seen, todo = set(), [root]
    while todo:
        current = todo.pop()
        if current in seen or any("proc-macro" in target["kind"] for target in packages[current]["targets"]):
            continue
        seen.add(current)
        todo += [dep["pkg"] for dep in nodes[current]["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])]
    seen.remove(root)
    return sorted((packages[name] for name in seen), key=lambda package: (package["name"], package["version"]))


def chosen(expression):
    """What is taken of an SPDX expression: of each OR the first of PREFERRED, of each AND all."""
    expression = expression.replace("/", " OR ").replace("(", " ( ").replace(")", " ) ")
    tokens = re.sub(r"(\S+) WITH (\S+)", r"\1-WITH-\2", expression).split()

    def rank(licences):
        return max(PREFERRED.index(name) if name in PREFERRED else len(PREFERRED) for name in licences)

    def alternatives():
        found = [conjunction()]
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            found.append(conjunction())
        return min(found, key=rank)

    def conjunction():
        found = factor()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            found = found + [name for name in factor() if name not in found]
        return found

    def factor():
        token = tokens.pop(0)
        if token != "(":
            return [token]
        inner = alternatives()
        tokens.pop(0)
        return inner

    return alternatives()


def licence_files(folder):
    files = (file for file in folder.rglob("*") if file.is_file() and IS_LICENCE.match(file.name))
    return sorted(file for file in files if file.suffix not in IS_CODE and "tests" not in file.relative_to(folder).parts)


def first_comment(path):
    """The comment with the licence, at the head of a C file."""
    return next(text for text in re.findall(r"/\*(.*?)\*/", path.read_text(), re.DOTALL) if "Copyright" in text)


def copyright_lines(texts, authors, name):
    lines = []
    for text in texts:
        # The appendix of the Apache licence has a form to fill in, and its sections speak of "Copyright License".
        for line in re.findall(r"^[ \t/*#]*(?:Portions )?(Copyright\s+(?:\(c\)|©|\d{4}|[A-Z]).*)$", text, re.MULTILINE | re.IGNORECASE):
            line = " ".join(line.split()).removesuffix(" *")
            if not re.match(r"copyright (\[yyyy\]|\{yyyy\}|license|notice|owner|holder|and|statement|or|law|\(c\) \[|interest|year)", line, re.IGNORECASE):
                line = re.sub(r"^copyright:?\s*(\(c\)|©)?\s*", "", line, flags=re.IGNORECASE)
                lines += [line] if line and line not in lines else []
    return lines or [re.sub(r"\s*<[^>]*>", "", author) for author in authors] or [f"the authors of {name}"]


def paragraph(fields):
    text = ""
    for name, value in fields:
        first, *rest = value.split("\n")
        text += f"{name}: {first}".rstrip() + "\n" + "".join(f" {line.rstrip() or '.'}\n" for line in rest)
    return text


def folded(text):
    return "\n".join(["", *textwrap.wrap(text, 118, break_long_words=False, break_on_hyphens=False)])


def main(copyright_to, texts_to):
    paragraphs = [
        paragraph([
            ("Format", "https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"),
            ("Upstream-Name", "vouch"),
            ("Comment", folded("Crates are named by the folder that `cargo vendor` gives them. /usr/share/doc/vouch/licences.txt.gz has the files of the "
                               "crates word by word. Models other than the two that are part of the program are not in this package: `vouch models pull` fetches "
                               "them, and their paragraphs say under which licence they were published, as far as it is known.")),
        ]),
        paragraph([("Files", "*"), ("Copyright", "the vouch developers"), ("License", "Apache-2.0")]),
        paragraph([("Files", "src/specimen/fonts/OCRB*"), ("Copyright", "Norbert Schwarz, Matthew Skala"), ("License", "public-domain")]),
        paragraph([("Files", "src/specimen/fonts/Roboto*"), ("Copyright", "2015 Google Inc."), ("License", "Apache-2.0")]),
    ]
    used, texts = {"Apache-2.0", "public-domain"}, {}

    def crate(files, licences, own_texts, package):
        used.update(licences)
        lines = copyright_lines(own_texts, package["authors"], package["name"])
        paragraphs.append(paragraph([("Files", files), ("Copyright", "\n".join(["", *lines]) if len(lines) > 1 else lines[0]),
                                     ("License", " and ".join(licences))]))

    for package in linked_crates():
        folder = pathlib.Path(package["manifest_path"]).parent
        name = f"{package['name']}-{package['version']}"
        brought = BROUGHT.get(package["name"], [])
        files = licence_files(folder)
        for file in files:
            inside = str(file.relative_to(folder))
            if "/" in inside and not any(inside.startswith(part + "/") for part, _, _ in brought):
                sys.exit(f"{name}: {inside} is the licence of something that it brings along; name it in BROUGHT")
        own = [file for file in files if file.parent == folder]
        licences = chosen(package["license"])
        own_texts = [file.read_text(errors="replace") for file in own]
        crate(f"vendor/{name}/*", licences, own_texts, package)
        if not own:
            # Published without it: the text of the licence that it names, for its authors.
            who = ", ".join(package["authors"]) or f"the authors of {package['name']}"
            own_texts = [f"Copyright (c) {who}\n\n{template(licence)}" for licence in licences]
        for part, expression, head in brought:
            part_texts = [file.read_text(errors="replace") for file in files if str(file.relative_to(folder)).startswith(part + "/")]
            part_texts += [first_comment(folder / part / head)] if head else []
            if not part_texts:
                sys.exit(f"{name}: there is no licence in {part}; correct BROUGHT")
            crate(f"vendor/{name}/{part}/*", expression.split(" and "), part_texts, {**package, "authors": []})
            own_texts += part_texts
        for text in own_texts:
            texts.setdefault(hashlib.sha256(text.strip().encode()).hexdigest(), (text.strip(), []))[1].append(name)

    sysroot = subprocess.run(["rustc", "--print", "sysroot"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    library = pathlib.Path(sysroot, "share/doc/rust/COPYRIGHT-library.html")
    if library.is_file():
        text = re.sub(r"\n\s*\n+", "\n\n", re.sub(r"<[^>]+>", "", library.read_text()))
        texts["rust"] = (text.strip(), ["Rust's standard library"])
    paragraphs.append(paragraph([("Files", "vendor/rust-std/*"), ("Copyright", "the Rust Project contributors"), ("License", "MIT")]))
    used.add("MIT")

    manifest = tomllib.loads((ROOT / "models/manifest.toml").read_text())
    for model in [*manifest["model"], manifest["runtime"]]:
        used.update(chosen(model["licence"]))
        remarks = f"{model['name']}, from {model['upstream']}. {model.get('licence_remarks', '')}"
        paragraphs.append(paragraph([("Files", f"models/pack/{model['file']}"), ("Copyright", f"the publishers of {model['name']}"),
                                     ("License", " and ".join(chosen(model["licence"]))), ("Comment", folded(remarks))]))
    paragraphs += [paragraph([("License", name + "\n" + template(name))]) for name in sorted(used)]
    pathlib.Path(copyright_to).write_text("\n".join(paragraphs))
    parts = [f"{'=' * 120}\n{chr(10).join(textwrap.wrap(', '.join(sorted(names)), 120))}\n{'=' * 120}\n\n{text}\n" for text, names in
             sorted(texts.values(), key=lambda entry: sorted(entry[1]))]
    pathlib.Path(texts_to).write_text("\n".join(parts))


def template(name):
    if name in COMMON:
        return f"On Debian systems the full text is in /usr/share/common-licenses/{name}."
    path = TEMPLATES / f"{name}.txt"
    if not path.is_file():
        sys.exit(f"the text of {name} is missing: put it into {path.relative_to(ROOT)}")
    return path.read_text().strip()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
