"""Writes an image of one file as an archive: an OCI layout that docker-archive readers take as well.

Only the standard library, and the same bytes for the same input: no clock, no user names, nothing compressed (the
output of a compressor changes with its version). The layer of a binary is hardly smaller compressed, and is read from
a local disk.
"""

import argparse
import datetime
import hashlib
import io
import json
import tarfile


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def tar(members, epoch):
    """A tar of (name, mode, bytes); a name with a trailing slash is a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, mode, data in members:
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            entry.mode, entry.mtime, entry.size = mode, epoch, len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True, help="the static program")
    parser.add_argument("--name", required=True, help="name of the image, host/name:tag")
    parser.add_argument("--arch", required=True, help="amd64, arm64, …")
    parser.add_argument("--epoch", required=True, type=int, help="seconds, of every time in the image")
    parser.add_argument("--revision", required=True, help="commit that it was built from")
    parser.add_argument("--output", required=True, help="the archive")
    args = parser.parse_args()

    with open(args.binary, "rb") as file:
        binary = file.read()
    tag = args.name.rsplit(":", 1)[1]
    created = datetime.datetime.fromtimestamp(args.epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    blobs = {}

    def blob(media_type, data):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    layer = blob(
        "application/vnd.oci.image.layer.v1.tar",
        tar([("k3s-registry-agent", 0o755, binary)], args.epoch),
    )
    # Entrypoint and environment as in the Dockerfile.
    config = blob(
        "application/vnd.oci.image.config.v1+json",
        canonical(
            {
                "architecture": args.arch,
                "os": "linux",
                "created": created,
                "config": {
                    "Entrypoint": ["/k3s-registry-agent"],
                    "Env": ["RUST_BACKTRACE=0"],
                    "Labels": {
                        "org.opencontainers.image.title": "k3s-registry-agent",
                        "org.opencontainers.image.version": tag,
                        "org.opencontainers.image.revision": args.revision,
                        "org.opencontainers.image.licenses": "Apache-2.0",
                    },
                },
                "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
                "history": [{"created": created, "created_by": "scripts/image.sh"}],
            }
        ),
    )
    manifest = blob(
        "application/vnd.oci.image.manifest.v1+json",
        canonical(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": config,
                "layers": [layer],
            }
        ),
    )
    index = canonical(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [
                {
                    **manifest,
                    "platform": {"architecture": args.arch, "os": "linux"},
                    # containerd names the image by the first, other tools by the second.
                    "annotations": {
                        "io.containerd.image.name": args.name,
                        "org.opencontainers.image.ref.name": tag,
                    },
                }
            ],
        }
    )
    # What `docker load` reads, over the same blobs.
    docker = canonical(
        [
            {
                "Config": "blobs/sha256/" + config["digest"].removeprefix("sha256:"),
                "RepoTags": [args.name],
                "Layers": ["blobs/sha256/" + layer["digest"].removeprefix("sha256:")],
            }
        ]
    )

    members = [
        ("oci-layout", 0o644, canonical({"imageLayoutVersion": "1.0.0"})),
        ("index.json", 0o644, index),
        ("manifest.json", 0o644, docker),
        ("blobs/", 0o755, b""),
        ("blobs/sha256/", 0o755, b""),
    ]
    members += [(f"blobs/sha256/{digest}", 0o644, data) for digest, data in sorted(blobs.items())]
    with open(args.output, "wb") as file:
        file.write(tar(members, args.epoch))
    print(f"{args.name} {manifest['digest']}")


if __name__ == "__main__":
    main()
