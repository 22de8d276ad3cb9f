#!/usr/bin/env python3
"""Merges the crates, as cargo-cyclonedx lists them, the libraries in C and C++ that some of them bring along, and the models of models/manifest.toml into one
CycloneDX document.

    sbom.py CRATES.json OUT.json       merge; the same input gives the same bytes
    sbom.py --check FILE.json          validate against the schema (needs cyclonedx-python-lib[json-validation])
"""

import json
import pathlib
import re
import sys
import tomllib
import urllib.parse

import licences

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Libraries whose sources lie in a crate, which scanners of crates do not see: how their project names them, and where the sources tell the version.
BROUGHT = [
    {"crate": "turbojpeg-sys", "name": "libjpeg-turbo", "licence": "BSD-3-Clause AND IJG AND Zlib", "purl": "pkg:github/libjpeg-turbo/libjpeg-turbo@{}",
     "cpe": "cpe:2.3:a:libjpeg-turbo:libjpeg-turbo:{}:*:*:*:*:*:*:*", "file": "libjpeg-turbo/CMakeLists.txt", "version": r"^set\(VERSION ([\d.]+)\)$"},
    {"crate": "zxing-cpp", "name": "zxing-cpp", "licence": "Apache-2.0", "purl": "pkg:github/zxing-cpp/zxing-cpp@v{}",
     "file": "core/CMakeLists.txt", "version": r'^project \(ZXing VERSION "([\d.]+)"\)$'},
    {"crate": "zxing-cpp", "name": "zint", "licence": "BSD-3-Clause", "purl": "pkg:github/zint/zint@{}",
     "file": "zint/backend/zintconfig.h", "version": r"^#define ZINT_VERSION_(?:MAJOR|MINOR|RELEASE)\s+(\d+)$"},
]
FOREIGN_CODE = {".c", ".cc", ".cpp", ".cxx", ".S", ".asm", ".a", ".o"}


def package_url(source):
    name = urllib.parse.quote(source["package"], safe="/")
    return f"pkg:{source['registry']}/{name}@{source['version']}"


def component(kind, entry, sha256, version, source):
    """One model or runtime. The hash is that of the file in the pack; the package's own file is a property, since it may be converted."""
    properties = [{"name": "vouch:file", "value": entry["file"]}]
    found = {"type": kind, "bom-ref": f"pack/{entry['file']}", "name": entry["name"], "version": version, "scope": "required",
             "hashes": [{"alg": "SHA-256", "content": sha256}], "licenses": [{"expression": entry["licence"]}]}
    if entry["upstream"].startswith("https://"):
        found["externalReferences"] = [{"type": "distribution", "url": entry["upstream"]}]
    if "licence_remarks" in entry:
        properties.append({"name": "vouch:licence-remarks", "value": entry["licence_remarks"]})
    if source:
        found["purl"] = package_url(source)
        for file in source["files"]:
            properties.append({"name": "vouch:source-file", "value": f"{file['path']} sha256:{file['sha256']}"})
    else:
        properties.append({"name": "vouch:source", "value": f"part of the program, {entry['upstream']}"})
    found["properties"] = properties
    return found


def models():
    manifest = tomllib.loads((ROOT / "models/manifest.toml").read_text())
    for entry in manifest["model"]:
        source = entry.get("source")
        # Models have no versions of their own: the package's, or the file itself.
        version = source["version"] if source else entry["sha256"][:8]
        yield component("machine-learning-model", entry, entry["sha256"], version, source)
    runtime = manifest["runtime"]
    for build in runtime["builds"]:
        found = component("library", runtime, build["source"]["files"][0]["sha256"], runtime["version"], build["source"])
        yield {**found, "bom-ref": f"{found['bom-ref']}#{build['arch']}", "name": f"{runtime['name']} ({build['arch']})"}


def libraries():
    """The libraries of BROUGHT, and the crate that brings each. Ends where a crate that is linked has foreign code and is not named there."""
    linked = {package["name"]: pathlib.Path(package["manifest_path"]).parent for package in licences.linked_crates()}
    for crate, folder in linked.items():
        files = (file.relative_to(folder) for file in folder.rglob("*") if file.suffix in FOREIGN_CODE)
        code = [file for file in files if file.parts[0] not in {"test", "tests", "benches", "examples"}]
        if code and crate not in {entry["crate"] for entry in BROUGHT}:
            sys.exit(f"{crate} brings {code[0]} along; name its library in BROUGHT")
    for entry in BROUGHT:
        if entry["crate"] not in linked:
            sys.exit(f"{entry['crate']} is not linked any more; correct BROUGHT")
        version = ".".join(re.findall(entry["version"], (linked[entry["crate"]] / entry["file"]).read_text(), re.MULTILINE))
        if not re.fullmatch(r"\d+\.\d+\.\d+", version):
            sys.exit(f"{entry['crate']}: {entry['file']} tells no version of {entry['name']}, but {version!r}")
        names = {key: entry[key].format(version) for key in ("cpe", "purl") if key in entry}
        yield entry["crate"], {"type": "library", "bom-ref": names["purl"], "name": entry["name"], "version": version, "scope": "required",
                               "licenses": [{"expression": entry["licence"]}], **names,
                               "properties": [{"name": "vouch:source", "value": f"built from {entry['file'].split('/')[0]}/ of the crate {entry['crate']}"}]}


def merge(crates_from, to):
    # Where the crate lies on the machine that made it is nobody's business.
    text = re.sub(r"path\+file://[^\"#]*#(?:vouch@)?", "vouch@", pathlib.Path(crates_from).read_text())
    document = json.loads(text.replace("?download_url=file://.", ""))
    found = list(models())
    document["components"] += found
    root = document["metadata"]["component"]["bom-ref"]
    node = next(node for node in document["dependencies"] if node["ref"] == root)
    node["dependsOn"] = sorted(set(node.get("dependsOn", [])) | {entry["bom-ref"] for entry in found})
    document["dependencies"] += [{"ref": entry["bom-ref"]} for entry in found]
    for crate, library in libraries():
        ref = next(entry["bom-ref"] for entry in document["components"] if entry["name"] == crate and entry["purl"].startswith("pkg:cargo/"))
        node = next(node for node in document["dependencies"] if node["ref"] == ref)
        node["dependsOn"] = sorted({*node.get("dependsOn", []), library["bom-ref"]})
        document["dependencies"].append({"ref": library["bom-ref"]})
        document["components"].append(library)
    document.pop("serialNumber", None)
    pathlib.Path(to).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def check(path):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = pathlib.Path(path).read_text()
    error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
    if error:
        sys.exit(f"{path} is no valid CycloneDX 1.5: {error}")
    components = json.loads(text)["components"]
    manifest = tomllib.loads((ROOT / "models/manifest.toml").read_text())
    hashes = {entry["content"] for found in components for entry in found.get("hashes", [])}
    missing = [entry["name"] for entry in manifest["model"] if entry["sha256"] not in hashes]
    missing += [f"{library['name']} {library['version']}" for _, library in libraries() if library not in components]
    if missing or "/home/" in text or str(ROOT) in text:
        sys.exit(f"{path}: missing {missing}, or a path of this machine")
    count = sum(found["type"] == "machine-learning-model" for found in components)
    print(f"{path}: valid CycloneDX 1.5, {len(components)} components, {count} models")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--check", path]:
            check(path)
        case [crates, to]:
            merge(crates, to)
        case _:
            sys.exit(__doc__)
