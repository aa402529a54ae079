"""Images of one static program each, as an archive that containerd imports: no engine and no registry is asked."""

import hashlib
import io
import json
import tarfile
from pathlib import Path


def write(archive: Path, name: str, program: Path) -> None:
    """An image that runs this program as nobody in particular."""
    layer = _tar({program.name: (program.read_bytes(), 0o755)})
    settings = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {
        "config.json": json.dumps(settings).encode(),
        "manifest.json": json.dumps(manifest).encode(),
        "layer.tar": layer,
    }
    archive.write_bytes(_tar({name: (content, 0o644) for name, content in files.items()}))


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return written.getvalue()
