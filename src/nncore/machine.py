"""What is installed, and the caches of this machine."""

from pathlib import Path


def version(distribution: str) -> str:
    """The version of an installed distribution; "not installed" for ours where the modules lie beside the sources."""
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def cache_sizes() -> dict[str, int]:
    """Bytes of the caches that the first core uses (L3 is mostly shared); 0 where the system does not tell."""
    sizes = {"L1d": 0, "L2": 0, "L3": 0}
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        name = f"L{level}d" if kind == "Data" else f"L{level}"
        if kind != "Instruction" and name in sizes and size.endswith("K"):
            sizes[name] = int(size[:-1]) * 1024
    return sizes
