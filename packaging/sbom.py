#!/usr/bin/env python3
"""Merges the crates, as cargo-cyclonedx lists them, and the models of models/manifest.toml into one CycloneDX document.

    sbom.py CRATES.json OUT.json       merge; the same input gives the same bytes
    sbom.py --check FILE.json          validate against the schema (needs cyclonedx-python-lib[json-validation])
"""

import json
import pathlib
import re
import sys
import tomllib
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent


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
