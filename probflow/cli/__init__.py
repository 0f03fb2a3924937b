"""The command line: ``probflow demo cvae|flow|glow|vae-flow``.  It parses, calls and prints; the models are in files of their names."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from probflow.cli import run_cvae, run_flow, run_glow, run_vae_flow
from probflow.errors import ProbflowError

DEMOS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], None]]] = {
    "cvae": ("a conditional VAE on real handwritten digits", run_cvae.add_options, run_cvae.run),
    "flow": ("a normalizing flow on a density on the plane", run_flow.add_options, run_flow.run),
    "glow": ("a multi-scale flow on real handwritten digits", run_glow.add_options, run_glow.run),
    "vae-flow": ("a VAE on digits with flows as prior and posterior", run_vae_flow.add_options, run_vae_flow.run),
}
"""Name -> what it is, its options, how it is run."""


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    root = argparse.ArgumentParser(prog="probflow", description="Generative models as probability statements.")
    commands = root.add_subparsers(dest="command", required=True, metavar="command")
    demos = commands.add_parser("demo", help="train a small model and look at it").add_subparsers(
        dest="demo", required=True, metavar="name"
    )
    for name, (about, add_options, run) in DEMOS.items():
        demo = demos.add_parser(name, help=about, description=about, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        add_options(demo)
        demo.set_defaults(run=run)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after a message on stderr."""
    arguments = parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except ProbflowError as error:
        print(f"probflow: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("probflow: interrupted; run again with --resume to go on from the last epoch.", file=sys.stderr)
        return 130
    return 0
