"""The entry of the ``semid`` program: Ctrl-C is as quiet while the commands are imported as it is later."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the ``semid`` command."""
    try:
        from semid.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("semid: interrupted\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
