"""Take recorded episodes to another format, here ACT's HDF5: `python examples/convert.py data out/aloha`."""

import sys

from tacit import cli


def main(source: str, target: str, form: str = "aloha") -> None:
    """Convert, and end with the exit code of the verb."""
    if code := cli.main(["convert", source, target, "--to", form]):
        raise SystemExit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
